import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import Fastify from 'fastify'
import { identity } from '../../../src/instance/identity.ts'
import { session } from '../../../src/state/session/index.ts'

const variables = { NODE_ENV: 'production', FLEET_ALLOW_MEMORY: '1', TRUST_PROXY: 'loopback', REDIS_URL: '' }
Object.assign(process.env, variables, { SESSION_SECRET: 'x'.repeat(32) })
after(() => {
  for (const name of [...Object.keys(variables), 'SESSION_SECRET']) delete process.env[name]
})

test('in production, plain HTTP gets no session cookie and one warning; a proxy that forwards https gets one', async (t) => {
  for (const trustProxy of [false, true]) {
    const warnings: string[] = []
    const stream = { write: (line: string) => warnings.push(JSON.parse(line).msg) }
    const app = Fastify({ logger: { level: 'warn', stream }, trustProxy })
    t.after(() => app.close())
    await app.register(session)
    app.get('/', async (request) => {
      request.session.visits = 1
      return ''
    })
    await app.ready()
    const cookies = async (headers: Record<string, string>): Promise<(boolean | undefined)[]> =>
      (await app.inject({ url: '/', headers })).cookies.map(({ secure }) => secure)
    const insecure = (): number => warnings.filter((line) => /SESSION_COOKIE_SECURE/.test(line)).length

    const forwarded = { 'x-forwarded-for': '203.0.113.1', 'x-forwarded-proto': 'https' }
    assert.deepEqual(await cookies(forwarded), [true])
    assert.equal(insecure(), 0)
    assert.deepEqual(await cookies({}), [])
    assert.deepEqual(await cookies({ ...forwarded, 'x-forwarded-proto': 'http' }), [])
    assert.equal(insecure(), 1)
  }
})

test('in production, a peer that is no trusted proxy cannot claim https', async (t) => {
  const app = Fastify({ trustProxy: '10.0.0.0/8' })
  t.after(() => app.close())
  await app.register(identity, { trustProxy: ['10.0.0.0/8'] })
  await app.register(session)
  app.get('/', async (request) => {
    request.session.visits = 1
    return ''
  })
  const cookies = async (remoteAddress: string): Promise<(boolean | undefined)[]> =>
    (await app.inject({ url: '/', remoteAddress, headers: { 'x-forwarded-proto': 'https' } })).cookies.map(
      ({ secure }) => secure,
    )
  assert.deepEqual(
    [await cookies('127.0.0.1'), await cookies('192.0.2.1'), await cookies('10.1.1.1')],
    [[], [], [true]],
  )
})
