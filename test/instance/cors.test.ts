import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import cors, { type FastifyCorsOptions } from '@fastify/cors'
import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import { crossOrigin } from '../../src/instance/cors.ts'

async function build(
  plugin: FastifyPluginAsync<FastifyCorsOptions>,
  options: FastifyCorsOptions,
): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(plugin, options)
  app.get('/', async () => ({}))
  app.get('/own', { config: { cors: { origin: 'https://other.example' } } as object }, async () => ({}))
  app.get('/none', { config: { cors: false } as object }, async () => ({}))
  return app
}

async function send(app: FastifyInstance, method: 'GET' | 'OPTIONS', url: string): Promise<object> {
  const headers = { origin: 'https://a.example', 'access-control-request-method': 'GET' }
  const response = await app.inject({ method, url, headers })
  const { date: _date, ...rest } = response.headers
  return { status: response.statusCode, body: response.body, ...rest }
}

describe('cors', () => {
  const given: [string, FastifyCorsOptions][] = [
    ['no origin', { origin: false }],
    ['one origin', { origin: 'https://a.example' }],
    ['a list of origins', { origin: ['https://a.example'] }],
    ['a later hook', { origin: false, hook: 'preHandler' }],
    ['a function', { origin: (_origin, done) => done(null, true) }],
  ]
  for (const [name, options] of given) {
    it(`responds like @fastify/cors: ${name}`, async () => {
      const ours = await build(crossOrigin, options)
      const theirs = await build(cors as unknown as FastifyPluginAsync<FastifyCorsOptions>, options)
      for (const url of ['/', '/own', '/none', '/missing']) {
        for (const method of ['GET', 'OPTIONS'] as const) {
          assert.deepEqual(await send(ours, method, url), await send(theirs, method, url), `${method} ${url}`)
        }
      }
    })
  }

  it('rejects the options that @fastify/cors rejects', async () => {
    await assert.rejects(() => build(crossOrigin, { origin: '*', hook: 'never' as never }), /Invalid hook option/)
  })
})
