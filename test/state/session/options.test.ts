import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { redis } from '../../../src/state/redis.ts'
import { type SessionOptions, session } from '../../../src/state/session/index.ts'
import { secret } from './app.ts'
import { Browser } from './browser.ts'

async function boot(options: SessionOptions): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(redis, { client: null, allowMemory: true })
  await app.register(session, options)
  app.get('/', async ({ session }) => {
    session.visits = (session.visits ?? 0) + 1
    return { visits: session.visits }
  })
  return app
}

/** Sets variables of the environment for one call, and puts back what was there. */
async function withEnv<T>(env: Record<string, string>, run: () => Promise<T>): Promise<T> {
  const before = { ...process.env }
  Object.assign(process.env, env)
  try {
    return await run()
  } finally {
    for (const name of Object.keys(env)) delete process.env[name]
    Object.assign(process.env, before)
  }
}

describe('what the environment says', () => {
  const env = {
    SESSION_SECRET: `${secret}, another ${secret}`,
    SESSION_COOKIE_NAME: 'shop',
    SESSION_TTL: '60',
    SESSION_COOKIE_SECURE: 'auto',
  }

  test('holds', async () => {
    const app = await withEnv(env, () => boot({}))
    const browser = new Browser()
    const [cookie] = (await browser.get(app, '/')).cookies
    assert.equal(cookie?.name, 'shop')
    assert.ok(Math.abs((cookie?.expires?.getTime() ?? 0) - Date.now() - 60_000) < 10_000)
    assert.equal(cookie?.secure, undefined)
    const headers = { 'x-forwarded-proto': 'https' }
    assert.equal((await new Browser().send(app, { url: '/', headers })).cookies[0]?.secure, true)
    const shown = JSON.stringify(app.fleet.configuration.session)
    assert.match(shown, /"cookieName":"shop"/)
  })

  test('gives way to code', async () => {
    const app = await withEnv(env, () => boot({ cookieName: 'mine', ttl: 120, cookie: { secure: false } }))
    const [cookie] = (await new Browser().get(app, '/')).cookies
    assert.equal(cookie?.name, 'mine')
    assert.ok((cookie?.expires?.getTime() ?? 0) - Date.now() > 100_000)
  })

  test('production needs a secret, and makes the cookie Secure', async () => {
    await withEnv({ NODE_ENV: 'production' }, async () => {
      await assert.rejects(boot({}), { code: 'FLEET_ERR_SECRET_MISSING' })
      const app = await boot({ secret })
      assert.equal((await new Browser().get(app, '/')).headers['set-cookie'], undefined)
      const headers = { 'x-forwarded-proto': 'https' }
      assert.equal((await new Browser().send(app, { url: '/', headers })).cookies[0]?.secure, true)
    })
  })
})

describe('bad options', () => {
  const cases: [string, unknown, string][] = [
    ['a short secret', { secret: 'short' }, 'FLEET_ERR_SECRET_WEAK'],
    ['a short secret among others', { secret: [secret, 'short'] }, 'FLEET_ERR_SECRET_WEAK'],
    ['no secret in the list', { secret: [] }, 'FLEET_ERR_OPTION_INVALID'],
    ['a secret that is no text', { secret: Buffer.alloc(32) }, 'FLEET_ERR_OPTION_INVALID'],
    ['half a signer', { secret: { sign: String } }, 'FLEET_ERR_OPTION_INVALID'],
    ['no life', { ttl: 0 }, 'FLEET_ERR_OPTION_INVALID'],
    ['half a store', { store: { get() {} } }, 'FLEET_ERR_OPTION_INVALID'],
    ['connect-redis without Redis', { store: 'connect-redis' }, 'FLEET_ERR_OPTION_INVALID'],
    ['an option there is not', { resave: false }, 'FLEET_ERR_OPTION_UNKNOWN'],
    ['a cookie option there is not', { cookie: { signed: true } }, 'FLEET_ERR_OPTION_UNKNOWN'],
  ]
  for (const [what, options, code] of cases)
    test(`${what}: refused`, () => assert.rejects(boot({ secret, ...(options as SessionOptions) }), { code }))
})

test('a signer of your own signs', async () => {
  const app = await boot({
    secret: {
      sign: (id) => `signed:${id}`,
      unsign: (cookie) => ({ valid: cookie.startsWith('signed:'), renew: false, value: cookie.slice(7) }),
    },
    idGenerator: () => 'the-id',
  })
  const browser = new Browser()
  await browser.get(app, '/')
  assert.equal(browser.cookies.get('fleet.sid'), 'signed:the-id')
  assert.deepEqual((await browser.get(app, '/')).json(), { visits: 2 })
})

test('a cookie of another path has no session there', async () => {
  const app = await boot({ secret, cookie: { path: '/shop' } })
  for (const url of ['/shop', '/shop/cart', '/shopping']) app.get(url, async ({ session }) => typeof session.save)
  assert.equal((await app.inject('/shop?x=1')).body, 'function')
  assert.equal((await app.inject('/shop/cart')).body, 'function')
  assert.equal((await app.inject('/shopping')).body, 'undefined')
})
