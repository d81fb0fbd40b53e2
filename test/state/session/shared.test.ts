import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import fp from 'fastify-plugin'
import { identity } from '../../../src/instance/identity.ts'
import type { RedisOptions } from '../../../src/state/redis/index.ts'
import type { SessionOptions } from '../../../src/state/session/index.ts'
import { freePort } from '../../helpers/free-port.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { ownRedis } from '../own-redis.ts'
import { within } from '../redis/patience.ts'
import { build, type TestApp } from './app.ts'
import { Browser } from './browser.ts'

const apps: TestApp[] = []
after(() => Promise.all(apps.map((app) => app.close())))

async function start(where: RedisOptions, options?: SessionOptions): Promise<TestApp> {
  const app = await build(where, options)
  apps.push(app)
  return app
}
const startAll = (count: number, where: RedisOptions, options?: SessionOptions): Promise<TestApp[]> =>
  Promise.all(Array.from({ length: count }, () => start(where, options)))

describe('several instances', () => {
  const redis = ownRedis()

  /** The commands that Redis receives during a call, by name. */
  async function commandsOf(call: () => Promise<unknown>): Promise<Record<string, number>> {
    await redis.client.config('RESETSTAT')
    await call()
    const stats = (await redis.client.info('commandstats')).matchAll(/cmdstat_([^:]+):calls=(\d+)/g)
    const counted = [...stats].map(([, name, calls]) => [name as string, Number(calls)] as const)
    return Object.fromEntries(counted.filter(([name]) => !/^(info|config|ping|hello|client)/.test(name)))
  }

  test('merge a hundred overlapping requests without a lost change', async () => {
    const all = await startAll(3, { url: redis.server.url })
    const browser = new Browser()
    await browser.post(all[0] as TestApp, '/set', { start: true })
    const writes = Array.from({ length: 100 }, (_, i) => {
      const app = all[i % 3] as TestApp
      return browser.post(app, i % 2 ? '/set' : '/set-slowly', { [`field${i}`]: { i } })
    })
    await until(() => all.reduce((sum, { gate }) => sum + gate.waiting, 0) === 50)
    for (const { gate } of all) gate.open()
    await Promise.all(writes)
    const data = (await browser.get(all[1] as TestApp, '/')).json()
    assert.equal(Object.keys(data).length, 101)
    for (let i = 0; i < 100; i++) assert.deepEqual(data[`field${i}`], { i })
  })

  test('see a logout of any instance at once', async () => {
    const [a, b] = (await startAll(2, { url: redis.server.url })) as [TestApp, TestApp]
    const browser = new Browser()
    await browser.post(a, '/login', { user: 'eve' })
    const window = browser.clone()
    assert.deepEqual((await window.get(b, '/')).json(), { userId: 'eve' })
    await browser.post(a, '/logout')
    assert.deepEqual((await window.get(b, '/')).json(), {})

    await browser.post(a, '/login', { user: 'eve' })
    const stolen = browser.clone()
    assert.equal(await b.sessions.destroyAll('eve'), 1)
    assert.deepEqual((await stolen.get(a, '/')).json(), {})
  })

  test('share a generated secret when none is configured', async () => {
    const [a, b] = (await startAll(2, { url: redis.server.url }, { secret: undefined })) as [TestApp, TestApp]
    const browser = new Browser()
    await browser.post(a, '/set', { a: 1 })
    assert.deepEqual((await browser.get(b, '/')).json(), { a: 1 })
  })

  test('read with one command, write with one script, and send none for unknown clients', async () => {
    const app = await start({ url: redis.server.url })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1, b: { c: [1, 2] } })
    const signed = browser.cookies.get('fleet.sid') as string

    assert.deepEqual(await commandsOf(() => browser.get(app, '/')), { get: 1 })
    assert.deepEqual(await commandsOf(() => browser.post(app, '/set', { a: 1, b: { c: [1, 2] } })), { get: 1 })
    await browser.post(app, '/set', { 1: 'a number for a name moves to the front' })
    assert.deepEqual(await commandsOf(() => browser.get(app, '/')), { get: 1 })
    assert.deepEqual(await commandsOf(() => browser.get(app, '/none')), {})
    assert.deepEqual(await commandsOf(() => new Browser().get(app, '/')), {})
    const forged = { cookie: `fleet.sid=${signed.slice(0, -3)}xyz` }
    assert.deepEqual(await commandsOf(() => app.inject({ url: '/', headers: forged })), {})

    await browser.post(app, '/set', { a: 0 })
    const { evalsha, eval: whole = 0, ...within } = await commandsOf(() => browser.post(app, '/set', { a: 2 }))
    assert.equal(Number(evalsha ?? 0) + whole, 1)
    assert.deepEqual(within, { get: 2, set: 1 }, 'one GET, and the commands of the script')
  })

  test('extend the lifetime with one write per `touchAfterMs`', async () => {
    const app = await start({ url: redis.server.url }, { ttlMs: 100_000, touchAfterMs: 1000 })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    await until(async () => {
      const began = performance.now()
      const { set } = await commandsOf(() => browser.get(app, '/'))
      if (!set) return false
      assert.equal(set, 1)
      const next = await commandsOf(() => browser.get(app, '/'))
      // If this machine is too busy to visit twice in a second, try again.
      return performance.now() - began < 1000 && assert.deepEqual(next, { get: 1 }) === undefined
    })
  })

  test('read a tracked session once and see the changes of other instances', async () => {
    const [a, b] = (await startAll(2, { url: redis.server.url }, { track: true })) as [TestApp, TestApp]
    const browser = new Browser()
    await browser.post(a, '/set', { a: 1 })
    // Nothing is cached before the instance receives announcements.
    await until(async () => {
      await browser.get(b, '/')
      return Object.keys(await commandsOf(() => browser.get(b, '/'))).length === 0
    })
    for (let i = 2; i < 20; i++) {
      await browser.post(i % 2 ? a : b, '/set', { a: i })
      for (const app of [a, b])
        await within(1000, 'the change', async () => (await browser.get(app, '/')).json().a === i)
    }
    const window = browser.clone()
    await browser.post(a, '/logout')
    await within(1000, 'the logout', async () => (await window.get(b, '/')).body === '{}')
  })

  test('ignore other data under the key of a session', async () => {
    const app = await start({ url: redis.server.url })
    const browser = new Browser()
    const garbage: ((key: string) => Promise<unknown>)[] = [
      (key) => redis.client.set(key, ''),
      (key) => redis.client.set(key, 'garbage'),
      (key) => redis.client.set(key, '{"cookie":{}'),
      (key) => redis.client.set(key, '{"cookie":{\n,\n}'),
      (key) => redis.client.set(key, '{"cookie":{"expires":{},"originalMaxAge":[]}\n,"a":1\n}'),
      (key) => redis.client.set(key, Buffer.from([0xff, 0xfe, 0x00])),
      (key) => redis.client.rpush(key, 'a', 'b'),
      (key) => redis.client.hset(key, 'cookie', '{}'),
    ]
    for (const put of garbage) {
      await browser.post(app, '/set', { a: 1 })
      const { id } = (await browser.get(app, '/id')).json()
      const key = app.redisKey('session', id)
      await redis.client.del(key)
      await put(key)
      const response = await browser.get(app, '/')
      assert.equal(response.statusCode, 200)
      assert.deepEqual(response.json(), {})
      await browser.post(app, '/set', { b: 1 })
      assert.notEqual((await browser.get(app, '/id')).json().id, id)
    }
    for (const expires of ['"soon"', '1e99', 'true']) {
      const { id } = (await browser.get(app, '/id')).json()
      await redis.client.set(
        app.redisKey('session', id),
        `{"cookie":{"expires":${expires},"originalMaxAge":"x"}\n,"a":1\n}`,
      )
      assert.equal((await browser.post(app, '/set', { c: 1 })).statusCode, 200)
      browser.cookies.clear()
      await browser.post(app, '/set', { b: 1 })
    }
  })

  test('support connect-redis as the store', async () => {
    const [a, b] = (await startAll(2, { url: redis.server.url }, { store: 'connect-redis' })) as [TestApp, TestApp]
    const browser = new Browser()
    await browser.post(a, '/set', { a: 1 })
    assert.deepEqual((await browser.get(b, '/')).json(), { a: 1 })
    assert.deepEqual(await commandsOf(() => browser.get(b, '/')), { get: 1 })
    await browser.post(b, '/logout')
    assert.deepEqual((await browser.get(a, '/')).json(), {})
    assert.equal(a.fleet.facts.sessionStore, 'redis')
    assert.throws(() => a.sessions, { code: 'FLEET_ERR_OPTION_INVALID' })
  })

  for (const store of ['fleet', 'connect-redis'] as const)
    test(`keep sessions under the name of their fleet (${store})`, async () => {
      const named = fp(async (app) => void (await app.register(identity, { name: `shop-${store}` })))
      const app = await build({ url: redis.server.url }, { store }, named)
      apps.push(app)
      await new Browser().post(app, '/set', { a: 1 })
      assert.equal((await redis.client.keys(`shop-${store}:*session:*`)).length, 1)
    })
})

describe('while Redis is unavailable', () => {
  for (const store of ['fleet', 'connect-redis'] as const)
    test(`responds 503 and keeps the session until Redis is back (${store})`, async () => {
      const server = await startRedis({ appendonly: true })
      const [a, b] = (await startAll(2, { url: server.url }, { store })) as [TestApp, TestApp]
      const browser = new Browser()
      await browser.post(a, '/set', { a: 1 })
      const slow = browser.post(a, '/set-slowly', { b: 1 })
      await until(() => a.gate.waiting === 1)
      await server.kill('SIGKILL')
      await until(() => a.redis?.status !== 'ready' && b.redis?.status !== 'ready')
      a.gate.open()
      for (const response of [await slow, await browser.get(b, '/'), await new Browser().post(b, '/set', { c: 1 })]) {
        assert.equal(response.statusCode, 503)
        assert.equal(response.headers['retry-after'], '1')
        assert.equal(response.json().code, 'FLEET_ERR_STATE_UNAVAILABLE')
        assert.doesNotMatch(response.body, /redis|stream|connect|127\.0\.0\.1|writeable/i)
        assert.equal(response.headers['set-cookie'], undefined)
      }
      assert.equal((await new Browser().get(a, '/')).statusCode, 200, 'requests without a session do not need Redis')
      assert.equal((await browser.get(a, '/none')).statusCode, 200)

      await server.restart()
      await until(async () => (await browser.get(b, '/')).statusCode === 200)
      assert.deepEqual((await browser.get(b, '/')).json(), { a: 1 })
    })

  test("continues with an empty session, which does not overwrite the stored one, with onOutage 'allow'", async () => {
    const server = await startRedis({ appendonly: true })
    const app = await start({ url: server.url }, { onOutage: 'allow' })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    await server.kill('SIGKILL')
    await until(() => app.redis?.status !== 'ready')
    for (const client of [browser, new Browser()]) {
      const response = await client.post(app, '/set', { b: 1 })
      assert.equal(response.statusCode, 200)
      assert.equal(response.headers['set-cookie'], undefined)
    }
    assert.equal((await browser.post(app, '/logout')).statusCode, 503, 'a failed logout must not look successful')

    const logout = browser.clone()
    const slow = logout.post(app, '/logout-slowly')
    await until(() => app.gate.waiting === 1)
    await server.restart()
    await until(() => app.redis?.status === 'ready')
    assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
    app.gate.open()
    await slow
    assert.deepEqual((await browser.get(app, '/')).json(), {}, 'a session that could not be loaded can be ended')
  })

  test('does not serve a tracked session from memory without announcements', async () => {
    const server = await startRedis({ appendonly: true })
    const app = await start({ url: server.url }, { track: true })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    await until(async () => (await browser.get(app, '/')).json().a === 1)
    await server.kill('SIGKILL')
    await within(2000, 'the loss', async () => (await browser.get(app, '/')).statusCode === 503)
    await server.restart()
    await until(async () => (await browser.get(app, '/')).statusCode === 200)
    assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
  })

  test('delays no request beyond the command timeout when Redis is suspended', async () => {
    const server = await startRedis()
    const app = await start({ url: server.url, commandTimeoutMs: 200 })
    const browser = new Browser()
    await until(async () => (await browser.post(app, '/set', { a: 1 })).statusCode === 200)
    await server.kill('SIGSTOP')
    const responses = await Promise.all(Array.from({ length: 20 }, () => browser.get(app, '/')))
    assert.ok(responses.every(({ statusCode }) => statusCode === 503))
    await until(() => app.redis?.status !== 'ready')
    await server.kill('SIGCONT')
    await until(async () => (await browser.get(app, '/')).statusCode === 200)
    assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
  })

  test('lets instances start without a secret, and agree on one later', async () => {
    const port = await freePort()
    const where = { host: '127.0.0.1', port, connectTimeoutMs: 50 }
    const [a, b] = (await startAll(2, where, { secret: undefined })) as [TestApp, TestApp]
    assert.equal((await new Browser().get(a, '/')).statusCode, 200)
    assert.equal((await new Browser().post(a, '/set', { a: 1 })).statusCode, 503)
    await startRedis({ port })
    await until(async () => {
      const browser = new Browser()
      if ((await browser.post(a, '/set', { a: 1 })).statusCode !== 200) return false
      return (await browser.get(b, '/')).json().a === 1
    })
  })
})

test('responds 503 to a lost connection of a custom store, and passes on its other errors', async () => {
  const store = (message: string): SessionOptions['store'] => ({
    get: (_id, done) => done(null),
    set: (_id, _session, done) => done(new Error(message)),
    destroy: (_id, done) => done(),
  })
  const lost = await start({ client: null }, { store: store('Connection is closed.') })
  const broken = await start({ client: null }, { store: store('duplicate index') })
  assert.equal((await new Browser().post(lost, '/set', { a: 1 })).statusCode, 503)
  assert.equal((await new Browser().post(broken, '/set', { a: 1 })).statusCode, 500)
  assert.equal(lost.fleet.facts.sessionStore, 'custom')
})
