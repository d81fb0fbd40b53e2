import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import type { LightMyRequestResponse } from 'fastify'
import { Redis } from 'ioredis'
import type { RedisServer } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { within } from '../redis/patience.ts'
import { type RedisCluster, replicated, startCluster, startSentinel } from '../topologies.ts'
import type { TestApp } from './app.ts'
import { Browser } from './browser.ts'
import { reads, start, untilCached, untilEnded } from './tracking.ts'

/** The server with the most keys. */
async function fullest(servers: readonly RedisServer[]): Promise<RedisServer> {
  const sizes = await Promise.all(
    servers.map(async ({ url }) => {
      const client = new Redis(url)
      const size = await client.dbsize()
      client.disconnect()
      return size
    }),
  )
  return servers[sizes.indexOf(Math.max(...sizes))] as RedisServer
}

describe('tracked sessions in a Cluster', () => {
  let cluster: RedisCluster
  let a: TestApp
  let b: TestApp
  before(async () => {
    cluster = await startCluster()
    ;[a, b] = await Promise.all([start({ cluster: cluster.nodes }), start({ cluster: cluster.nodes })])
  })

  const loggedIn = async (user: string): Promise<Browser> => {
    const browser = new Browser()
    await browser.post(a, '/login', { user })
    return browser
  }
  /** Logs out at instance `a`, as soon as there is a primary, and waits for instance `b` to notice. */
  const logOut = async (browser: Browser): Promise<void> => {
    const stolen = browser.clone()
    await until(async () => (await browser.clone().post(a, '/logout')).statusCode === 200, { what: 'the logout' })
    await untilEnded(b, stolen)
  }

  test('cost no command, and end within a second after a logout', async () => {
    // Enough sessions to have some on every node.
    for (let i = 0; i < 9; i++) {
      const browser = await loggedIn(`eve${i}`)
      await untilCached(b, browser, ...cluster.servers)
      await logOut(browser)
    }
  })

  test('untilCached acknowledged writes when a primary fails, and are dropped from memory and cached again', async (t) => {
    const users = Array.from({ length: 24 }, (_, i) => `ann${i}`)
    const browsers = await Promise.all(users.map(loggedIn))
    await Promise.all(browsers.map((browser, i) => browser.clone().post(b, '/set', { before: i })))
    await untilCached(b, browsers, ...cluster.servers)
    await Promise.all(cluster.servers.map(replicated))
    const victim = await fullest(cluster.servers)
    const alive = [...cluster.servers, ...cluster.replicas].filter((server) => server !== victim)

    const requested = await reads(...alive)
    await victim.kill('SIGKILL')
    const killed = performance.now()
    // The other nodes still announce changes, but their sessions are dropped from memory too.
    await within(1000, 'the cache to be dropped', async () => {
      await Promise.race(browsers.map((browser) => browser.clone().get(b, '/')))
      return (await reads(...alive)) > requested
    })
    for (const [i, browser] of browsers.entries()) {
      const load = async (): Promise<LightMyRequestResponse | undefined> => {
        const response = await browser.clone().get(b, '/')
        return response.statusCode === 200 ? response : undefined
      }
      assert.deepEqual((await until(load, { what: 'a session' })).json(), { userId: users[i], before: i })
    }
    assert.ok((await reads(...alive)) - requested >= browsers.length, 'every session is read again')

    // The failed primary is silent, so every write acknowledged from here on is in a live one.
    const write = (app: TestApp, browser: Browser, change: object): Promise<unknown> =>
      until(async () => (await browser.clone().post(app, '/set', change)).statusCode === 200, { what: 'a write' })
    await Promise.all(browsers.flatMap((browser, i) => [write(a, browser, { a: i }), write(b, browser, { b: i })]))
    t.diagnostic(`${browsers.length} sessions can be written again after ${Math.round(performance.now() - killed)} ms`)
    for (const app of [a, b])
      for (const [i, browser] of browsers.entries()) {
        const expected = { userId: users[i], before: i, a: i, b: i }
        const seen = async (): Promise<object> => (await browser.clone().get(app, '/')).json()
        await within(1000, 'the write of the other instance', async () => Object.keys(await seen()).length === 4)
        assert.deepEqual(await seen(), expected)
      }

    await untilCached(b, browsers, ...alive)
    for (const browser of browsers.slice(0, 8)) await logOut(browser)
    for (const [i, browser] of browsers.slice(8, 16).entries()) {
      assert.equal(await a.sessions.destroyAll(users[8 + i] as string), 1)
      await untilEnded(b, browser)
    }

    // The failed primary returns as a replica. Nothing is cached before its announcements are received too.
    await victim.restart()
    const back = new Redis(victim.url)
    await until(async () => (await back.info('replication')).includes('master_link_status:up'), { what: 'the replica' })
    back.disconnect()
    await untilCached(b, browsers.slice(16), ...alive, victim)
    for (const browser of browsers.slice(16)) await logOut(browser)
  })
})

test('a tracked session survives a Sentinel failover, is cached again, and ends with a logout', async () => {
  const { sentinels, primary } = await startSentinel()
  const [a, b] = await Promise.all([start({ sentinels }), start({ sentinels })])
  const browser = new Browser()
  await browser.post(a, '/login', { user: 'eve' })
  await untilCached(b, browser, primary)
  await replicated(primary)
  await primary.kill('SIGKILL')
  const requested = async (): Promise<number> =>
    Number(/cmdstat_get:calls=(\d+)/.exec((await b.redis?.info('commandstats')) ?? '')?.[1])
  // The session is read from the new primary, then from the cache.
  await until(
    async () => {
      if ((await browser.clone().get(b, '/')).json().userId !== 'eve') return false
      const before = await requested()
      await browser.clone().get(b, '/')
      return (await requested()) === before
    },
    { what: 'the session to be cached again' },
  )
  const stolen = browser.clone()
  await until(async () => (await browser.clone().post(a, '/logout')).statusCode === 200)
  await untilEnded(b, stolen)
})
