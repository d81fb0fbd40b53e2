import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import type { FleetError } from '../../../src/base/errors.ts'
import { fleet } from '../../../src/fleet.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { type SessionOptions, session } from '../../../src/state/session/index.ts'
import { fleetSecret } from '../../../src/state/session/signer.ts'
import { secret } from './app.ts'
import { Browser } from './browser.ts'
import { recorded } from './recorded.ts'

async function visit({ session }: FastifyRequest): Promise<{ visits: number }> {
  session.visits = (session.visits ?? 0) + 1
  return { visits: session.visits }
}

async function boot(options: SessionOptions): Promise<FastifyInstance> {
  const app = Fastify({ trustProxy: 'loopback' })
  await app.register(redis, { client: null, allowMemory: true })
  await app.register(session, options)
  app.get('/', visit)
  return app
}

/** Sets environment variables during one call. */
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

describe('environment variables', () => {
  const env = {
    SESSION_SECRET: `${secret}, another ${secret}`,
    SESSION_COOKIE_NAME: 'shop',
    SESSION_TTL: '60',
    SESSION_COOKIE_SECURE: 'auto',
  }

  test('set options', async () => {
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

  test('are overridden by options', async () => {
    const app = await withEnv(env, () => boot({ cookieName: 'mine', ttlMs: 120_000, cookie: { secure: false } }))
    const [cookie] = (await new Browser().get(app, '/')).cookies
    assert.equal(cookie?.name, 'mine')
    assert.ok((cookie?.expires?.getTime() ?? 0) - Date.now() > 100_000)
  })

  test('require a secret and make the cookie Secure in production', async () => {
    await withEnv({ NODE_ENV: 'production' }, async () => {
      await assert.rejects(boot({}), { code: 'FLEET_ERR_SECRET_MISSING' })
      const app = await boot({ secret })
      assert.equal((await new Browser().get(app, '/')).headers['set-cookie'], undefined)
      const headers = { 'x-forwarded-proto': 'https' }
      assert.equal((await new Browser().send(app, { url: '/', headers })).cookies[0]?.secure, true)
    })
  })
})

describe('the option `secret`', () => {
  const required =
    'the secret option is required, and must be a String, Array of Strings, or a signer object with .sign and .unsign methods'
  const short = 'the secret must have length 32 or greater'
  const mixed = [secret, 'hunter2']
  const rejected: [string, unknown, string, string, RegExp][] = [
    ['missing', undefined, 'FLEET_ERR_SECRET_MISSING', required, /SESSION_SECRET.*openssl rand/],
    ['short', 'hunter2', 'FLEET_ERR_SECRET_WEAK', short, /7 bytes.*openssl rand/],
    ['an empty list', [], 'FLEET_ERR_OPTION_INVALID', 'at least one secret is required', /`session.secret` must be/],
    ['a buffer', Buffer.alloc(32), 'FLEET_ERR_OPTION_INVALID', required, /\(Buffer\)/],
    ['an empty string in a list', [secret, ''], 'FLEET_ERR_OPTION_INVALID', required, /a list of 2/],
    ['null', null, 'FLEET_ERR_OPTION_INVALID', required, /null/],
    ['half a signer', { sign: String }, 'FLEET_ERR_OPTION_INVALID', required, /\(Object\)/],
  ]
  for (const [what, given, code, message, fix] of rejected)
    test(`is rejected with the message of @fastify/session and the fix as its cause: ${what}`, () =>
      assert.rejects(boot({ secret: given as string }), (error: FleetError) => {
        assert.deepEqual([error.code, error.message], [code, message])
        assert.equal((error.cause as FleetError).code, code)
        assert.match((error.cause as FleetError).message, fix)
        assert.doesNotMatch(inspect(error), /hunter2/)
        return true
      }))

  test('may contain a short secret in a list, with a warning, except in production', async () => {
    const warnings: string[] = []
    const app = Fastify({ logger: { stream: { write: (line) => warnings.push(line) }, level: 'warn' } })
    await app.register(redis, { client: null })
    await app.register(session, { secret: mixed })
    await app.ready()
    assert.match(warnings.join(), /7 bytes, but needs 32.*rejected in production/)
    assert.doesNotMatch(warnings.join(), /hunter2/)
    await withEnv({ NODE_ENV: 'production' }, () =>
      assert.rejects(boot({ secret: mixed }), { code: 'FLEET_ERR_SECRET_WEAK', message: short }),
    )
  })

  test('is rejected if short, from the environment and in the umbrella plugin', async () => {
    await withEnv({ SESSION_SECRET: mixed.join() }, () =>
      assert.rejects(boot({}), { code: 'FLEET_ERR_SECRET_WEAK', message: /SESSION_SECRET has 7 bytes/ }),
    )
    const inFleet = (given: unknown): Promise<unknown> =>
      Fastify()
        .register(fleet, { redis: { client: null }, session: { secret: given as string } })
        .ready() as never
    for (const given of [mixed, 'hunter2', ''])
      await assert.rejects(inFleet(given), { code: 'FLEET_ERR_SECRET_WEAK', message: /SESSION_SECRET has [07] bytes/ })
    await assert.rejects(inFleet([]), { code: 'FLEET_ERR_OPTION_INVALID' })
  })

  test('is optional in the umbrella plugin outside production', async () => {
    const app = Fastify()
    await app.register(fleet, { redis: { client: null } })
    app.get('/', visit)
    const browser = new Browser()
    assert.deepEqual((await browser.get(app, '/')).json(), { visits: 1 })
    assert.deepEqual((await browser.get(app, '/')).json(), { visits: 2 })
    await app.close()
  })
})

describe('invalid options', () => {
  const cases: [string, unknown, string][] = [
    ['a lifetime of 0', { ttlMs: 0 }, 'FLEET_ERR_OPTION_INVALID'],
    ['an unknown text for `cookie.secure`', { cookie: { secure: 'false' } }, 'FLEET_ERR_OPTION_INVALID'],
    ['a store without `set`', { store: { get() {} } }, 'FLEET_ERR_OPTION_INVALID'],
    ['connect-redis without Redis', { store: 'connect-redis' }, 'FLEET_ERR_OPTION_INVALID'],
    ['an unknown option', { resave: false }, 'FLEET_ERR_OPTION_UNKNOWN'],
    ['an unknown cookie option', { cookie: { signed: true } }, 'FLEET_ERR_OPTION_UNKNOWN'],
  ]
  for (const [what, options, code] of cases)
    test(`are rejected: ${what}`, () => assert.rejects(boot({ secret, ...(options as SessionOptions) }), { code }))
})

test('rejects options of version 0.1 and names the new ones', async () => {
  for (const [name, value, message] of [
    ['whenDown', 'anonymous', /`session\.whenDown` is now `onOutage: /],
    ['ttl', 60, /is now `ttlMs`/],
    ['touchAfter', 6, /is now `touchAfterMs`/],
  ] as const)
    await assert.rejects(boot({ secret, [name]: value }), { code: 'FLEET_ERR_OPTION_UNKNOWN', message })
})

test('applies changes of the list of secrets at once', async () => {
  const [old, next] = [`old ${secret}`, `new ${secret}`]
  const secrets = [old]
  const app = await boot({ secret: secrets })
  const [early, late] = [new Browser(), new Browser()]
  const visits = async (browser: Browser): Promise<number> => (await browser.get(app, '/')).json().visits
  assert.deepEqual([await visits(early), await visits(late)], [1, 1])
  secrets.unshift(next)
  assert.equal(await visits(early), 2, 'the old secret still verifies')
  secrets.pop()
  assert.equal(await visits(early), 3, 'its cookie was signed with the new secret')
  assert.equal(await visits(late), 1, 'the old secret no longer verifies')
  assert.equal(await fleetSecret(app, secrets), secrets, 'the umbrella plugin passes on the list itself')
})

test('uses a custom signer', async () => {
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
  browser.cookies.set('fleet.sid', 'forged:the-id')
  assert.deepEqual(
    (await browser.get(app, '/')).json(),
    { visits: 1 },
    'a value without a valid signature names no session',
  )
})

test('takes the field that `userId` names for a login, and no other', async (t) => {
  const { send } = await recorded(t, { anonymous: { perMinute: 1 }, userId: 'account' })
  const set = async (name: string) => (await send(({ session }) => session.set(name as never, 'ann' as never))).calls
  assert.deepEqual([await set('cart'), await set('userId'), await set('account')], [['write'], [], ['write']])
})

for (const [what, options] of [
  ['ttlMs', { ttlMs: 1_000_000 }],
  ['cookie.maxAge', { cookie: { maxAge: 1_000_000 } }],
] as const)
  test(`extends the lifetime by default once a tenth of \`${what}\` is over`, async (t) => {
    const now = Date.now()
    t.mock.timers.enable({ apis: ['Date'], now })
    const { send, put } = await recorded(t, options)
    const visit = async (agoMs: number) => {
      const cookie = { expires: now + 1_000_000 - agoMs, originalMaxAge: 1_000_000 }
      return (await send(() => undefined, [put('s', '"a":1', JSON.stringify(cookie))])).calls
    }
    assert.deepEqual([await visit(99_999), await visit(100_000)], [['read'], ['read', 'merge "cookie"']])
  })

test("accepts 'true' for `cookie.secure`", async () => {
  const app = await boot({ secret, cookie: { secure: 'true' as never } })
  assert.equal((await new Browser().get(app, '/')).headers['set-cookie'], undefined)
  const headers = { 'x-forwarded-proto': 'https' }
  assert.equal((await new Browser().send(app, { url: '/', headers })).cookies[0]?.secure, true)
})

test('provides no session outside the path of the cookie', async () => {
  const app = await boot({ secret, cookie: { path: '/shop' } })
  for (const url of ['/shop', '/shop/cart', '/shopping']) app.get(url, async ({ session }) => typeof session.save)
  assert.equal((await app.inject('/shop?x=1')).body, 'function')
  assert.equal((await app.inject('/shop/cart')).body, 'function')
  assert.equal((await app.inject('/shopping')).body, 'undefined')
})
