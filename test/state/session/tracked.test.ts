import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { RedisOptions } from '../../../src/state/redis.ts'
import { isEqual, Kept } from '../../../src/state/session/loaded.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'
import { type RedisCluster, replicated, startCluster, startSentinel } from '../topologies.ts'
import { build, type TestApp } from './app.ts'
import { Browser } from './browser.ts'

const apps: TestApp[] = []
after(() => Promise.all(apps.map((app) => app.close())))

async function start(where: RedisOptions): Promise<TestApp> {
  const app = await build(where, { track: true })
  apps.push(app)
  return app
}

/** What servers have been asked for sessions so far. */
async function reads(...servers: RedisServer[]): Promise<number> {
  let calls = 0
  for (const { url } of servers) {
    const client = new Redis(url)
    const stats = await client.info('commandstats')
    calls += Number(/cmdstat_get:calls=(\d+)/.exec(stats)?.[1] ?? 0)
    client.disconnect()
  }
  return calls
}

/** Reads a session until that costs Redis nothing. */
async function keep(app: TestApp, browser: Browser, ...servers: RedisServer[]): Promise<void> {
  await until(
    async () => {
      const asked = await reads(...servers)
      await browser.get(app, '/')
      return (await reads(...servers)) === asked
    },
    { what: 'the session to be kept in memory' },
  )
}

/** Waits until a session that has just been ended is, and holds every answer against the promised second. */
async function ended(app: TestApp, browser: Browser): Promise<void> {
  const since = performance.now()
  await until(async () => {
    const asked = performance.now()
    const { statusCode, body } = await browser.clone().get(app, '/')
    if (statusCode !== 200 || body === '{}') return true
    assert.ok(asked <= since + 1000, `an ended session was taken for a good one ${asked - since} ms later`)
    return false
  })
}

describe('a tracked session', () => {
  let server: RedisServer
  let client: Redis
  before(async () => {
    server = await startRedis()
    client = new Redis(server.url)
  })
  after(() => client.quit())

  const idOf = async (app: TestApp, browser: Browser): Promise<string> => (await browser.get(app, '/id')).json().id

  test('costs no command for as long as nobody changes it', async () => {
    const [app, browser] = [await start({ url: server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    await keep(app, browser, server)
    // Longer than what is known of one moment is trusted, so that it must have been renewed; begun anew where this process
    // stood still meanwhile.
    await until(
      async () => {
        const asked = await reads(server)
        const begun = performance.now()
        while (performance.now() - begun < 2500) {
          assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
          await sleep(10)
        }
        return (await reads(server)) === asked
      },
      { timeoutMs: 30_000, what: 'seconds without a command' },
    )
  })

  test('is read anew whoever changed it, by whatever command', async () => {
    const [app, browser] = [await start({ url: server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    const key = app.redisKey('session', await idOf(app, browser))
    const text = (await client.get(key)) as string
    await keep(app, browser, server)
    await client.set(key, text.replace('"a":1', '"a":2'), 'KEEPTTL')
    await until(async () => (await browser.get(app, '/')).json().a === 2)
    const ways: (() => Promise<unknown>)[] = [
      () => client.del(key),
      () => client.pexpire(key, 1),
      () => client.rename(key, 'elsewhere'),
      () => client.flushall(),
    ]
    for (const end of ways) {
      await client.set(key, text, 'PX', 60_000)
      await until(async () => (await browser.clone().get(app, '/')).json().a === 1)
      await keep(app, browser.clone(), server)
      await end()
      await sleep(2) // Until PEXPIRE has had its millisecond.
      await ended(app, browser)
    }
  })

  test('is over when its time in Redis is, to the moment', async () => {
    const [app, browser] = [await start({ url: server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    const key = app.redisKey('session', await idOf(app, browser))
    // Redis finds out by itself, and says so, only later.
    await client.config('SET', 'hz', 1)
    const lifeMs = 700
    await client.pexpire(key, lifeMs)
    const from = performance.now()
    await until(async () => {
      const asked = performance.now()
      const isEmpty = (await browser.clone().get(app, '/')).body === '{}'
      assert.ok(isEmpty || asked < from + lifeMs + 50, 'a session outlived its key')
      return isEmpty
    })
    await client.config('SET', 'hz', 10)
  })

  test('a request that changes an object in it changes nobody else’s', async () => {
    const [app, browser] = [await start({ url: server.url }), new Browser()]
    app.get('/scribble', async ({ session }) => {
      session.list.push({ mine: true })
      session.list[0].a = 'mine'
      throw Object.assign(new Error('on purpose'), { statusCode: 500 })
    })
    const data = { list: [{ a: 1 }], map: { b: [2] }, none: null }
    await browser.post(app, '/set', data)
    await keep(app, browser, server)
    await browser.get(app, '/scribble')
    assert.deepEqual((await browser.get(app, '/')).json(), data)
    await browser.post(app, '/set', { list: [{ a: 2 }] })
    assert.deepEqual((await browser.get(app, '/')).json(), { ...data, list: [{ a: 2 }] })
  })

  test('a logout is obeyed within a second though its message is lost in a black hole', async () => {
    const relay = await Relay.open(server.port)
    const far = await start({ url: `redis://127.0.0.1:${relay.port}`, commandTimeoutMs: 500 })
    const near = await start({ url: server.url })
    const browser = new Browser()
    await browser.post(near, '/login', { user: 'eve' })
    await keep(far, browser, server)
    const stolen = browser.clone()
    // Connections stay open, and nothing says that they are dead.
    relay.silence()
    await browser.post(near, '/logout')
    await ended(far, stolen)
    await relay.restore()
    await until(async () => (await stolen.get(far, '/')).body === '{}')
  })

  test('nothing is kept while only the messages are lost', async () => {
    const relay = await Relay.open(server.port)
    const [far, near] = [await start({ url: `redis://127.0.0.1:${relay.port}` }), await start({ url: server.url })]
    const browser = new Browser()
    await browser.post(near, '/login', { user: 'eve' })
    await keep(far, browser, server)
    const links = (await client.client('LIST', 'TYPE', 'PUBSUB')) as string
    const ids = [...links.matchAll(/^id=(\d+) .*flags=\S*[tB]/gm)].map(([, id]) => id as string)
    assert.ok(ids.length > 0, links)
    for (const id of ids) await client.client('KILL', 'ID', id)
    await browser.clone().post(near, '/logout')
    await ended(far, browser)
  })

  test('a Redis that will not say what changes is asked every time', async () => {
    await client.call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '&*', '+@all', '-client|tracking')
    const app = await start({ url: `redis://plain:secret@127.0.0.1:${server.port}` })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    for (let i = 0; i < 3; i++) {
      const asked = await reads(server)
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
      assert.equal(await reads(server), asked + 1)
    }
  })
})

test('a tracked session in a Cluster costs no command, and a logout is seen everywhere within a second', async () => {
  const cluster: RedisCluster = await startCluster()
  const [a, b] = await Promise.all([start({ cluster: cluster.nodes }), start({ cluster: cluster.nodes })])
  // Enough of them to be on every node.
  for (let i = 0; i < 9; i++) {
    const browser = new Browser()
    await browser.post(a, '/login', { user: `eve${i}` })
    await keep(b, browser, ...cluster.servers)
    const stolen = browser.clone()
    await browser.post(a, '/logout')
    await ended(b, stolen)
  }
})

test('a tracked session survives a Sentinel failover, is kept again, and a logout at the new primary is seen', async () => {
  const { sentinels, primary } = await startSentinel()
  const [a, b] = await Promise.all([start({ sentinels }), start({ sentinels })])
  const browser = new Browser()
  await browser.post(a, '/login', { user: 'eve' })
  await keep(b, browser, primary)
  await replicated(primary)
  await primary.kill('SIGKILL')
  const asked = async (): Promise<number> =>
    Number(/cmdstat_get:calls=(\d+)/.exec((await b.redis?.info('commandstats')) ?? '')?.[1])
  // The new primary is asked, and then no more.
  await until(
    async () => {
      if ((await browser.clone().get(b, '/')).json().userId !== 'eve') return false
      const before = await asked()
      await browser.clone().get(b, '/')
      return (await asked()) === before
    },
    { timeoutMs: 30_000, what: 'the session to be kept again' },
  )
  const stolen = browser.clone()
  await until(async () => (await browser.clone().post(a, '/logout')).statusCode === 200, { timeoutMs: 30_000 })
  await ended(b, stolen)
})

test('what comes from memory is compared without writing it, and never taken for equal when it is not', () => {
  const text = '{"cookie":{"expires":null}\n,"a":[1,{"b":null}]\n,"c":"d"\n}'
  const kept = new Kept(text)
  const [one, two] = [kept.load(), kept.load()]
  assert.deepEqual(one, two)
  assert.notEqual(one?.data.a, two?.data.a)
  assert.equal(new Kept('garbage').load(), undefined)
  const original = { a: [1, { b: null }], s: 'x' }
  assert.ok(isEqual(structuredClone(original), original))
  const others = [
    { a: [1, { b: null }] },
    { s: 'x', a: [1, { b: null }] },
    { a: [1, { b: undefined }], s: 'x' },
    { a: { 0: 1, 1: { b: null } }, s: 'x' },
    { a: [1, { b: null }, undefined], s: 'x' },
    { a: [1, new Date(0)], s: 'x' },
    { a: [1, { b: null, toJSON: () => 1 }], s: 'x' },
    { a: [1, { b: Number.NaN }], s: 'x' },
    null,
    'x',
  ]
  for (const other of others) assert.equal(isEqual(other, original), false, JSON.stringify(other))
})
