import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import cors, { type FastifyCorsOptions } from '@fastify/cors'
import Fastify, { type FastifyInstance } from 'fastify'
import { fleet } from '../../src/fleet.ts'

async function build(
  t: TestContext,
  register: (app: FastifyInstance) => PromiseLike<unknown>,
): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await register(app)
  app.get('/', async () => ({}))
  app.get('/own', { config: { cors: { origin: 'https://other.example' } } as object }, async () => ({}))
  app.get('/none', { config: { cors: false } as object }, async () => ({}))
  return app
}

/** Status and the headers that @fastify/cors sets. */
async function send(app: FastifyInstance, method: 'GET' | 'OPTIONS', url: string): Promise<object> {
  const headers = { origin: 'https://a.example', 'access-control-request-method': 'GET' }
  const response = await app.inject({ method, url, headers })
  const own = Object.entries(response.headers).filter(([name]) =>
    /^(access-control-.*|vary|content-length)$/.test(name),
  )
  return { status: response.statusCode, body: response.statusCode < 400 && response.body, ...Object.fromEntries(own) }
}

describe('cors', () => {
  const given: [string, FastifyCorsOptions | undefined][] = [
    ['the default', undefined],
    ['no origin', { origin: false }],
    ['one origin', { origin: 'https://a.example' }],
    ['a list of origins', { origin: ['https://a.example'] }],
    ['a later hook', { origin: false, hook: 'preHandler' }],
    ['a function', { origin: (_origin, done) => done(null, true) }],
  ]
  for (const [name, options] of given) {
    it(`responds like @fastify/cors: ${name}`, async (t) => {
      const ours = await build(t, (app) => app.register(fleet, { lifecycle: { signals: false }, cors: options }))
      const theirs = await build(t, (app) => app.register(cors, options ?? { origin: false }))
      for (const url of ['/', '/own', '/none', '/missing']) {
        for (const method of ['GET', 'OPTIONS'] as const) {
          assert.deepEqual(await send(ours, method, url), await send(theirs, method, url), `${method} ${url}`)
        }
      }
    })
  }

  it('rejects the options that @fastify/cors rejects', async (t) => {
    const options = { origin: '*', hook: 'never' as never }
    await assert.rejects(
      () => build(t, (app) => app.register(fleet, { lifecycle: { signals: false }, cors: options })),
      /Invalid hook option/,
    )
  })
})
