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
import { ended, keep, reads, start } from './tracking.ts'

/** The one with the most keys. */
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
  /** Logs out at one instance, where it may take until there is a primary again, and looks at the other. */
  const logOut = async (browser: Browser): Promise<void> => {
    const stolen = browser.clone()
    await until(async () => (await browser.clone().post(a, '/logout')).statusCode === 200, { what: 'the logout' })
    await ended(b, stolen)
  }

  test('cost no command, and a logout is seen everywhere within a second', async () => {
    // Enough of them to be on every node.
    for (let i = 0; i < 9; i++) {
      const browser = await loggedIn(`eve${i}`)
      await keep(b, browser, ...cluster.servers)
      await logOut(browser)
    }
  })

  test('when a primary dies: nothing acknowledged is lost, memory is forgotten, and all is kept and heard again', async (t) => {
    const users = Array.from({ length: 24 }, (_, i) => `ann${i}`)
    const browsers = await Promise.all(users.map(loggedIn))
    await Promise.all(browsers.map((browser, i) => browser.clone().post(b, '/set', { before: i })))
    await keep(b, browsers, ...cluster.servers)
    await Promise.all(cluster.servers.map(replicated))
    const victim = await fullest(cluster.servers)
    const alive = [...cluster.servers, ...cluster.replicas].filter((server) => server !== victim)

    const asked = await reads(...alive)
    await victim.kill('SIGKILL')
    const killed = performance.now()
    // The other nodes can be heard as before: what is in memory of theirs is not believed, either.
    await within(1000, 'memory to be forgotten', async () => {
      await Promise.race(browsers.map((browser) => browser.clone().get(b, '/')))
      return (await reads(...alive)) > asked
    })
    for (const [i, browser] of browsers.entries()) {
      const look = async (): Promise<LightMyRequestResponse | undefined> => {
        const response = await browser.clone().get(b, '/')
        return response.statusCode === 200 ? response : undefined
      }
      assert.deepEqual((await until(look, { what: 'a session' })).json(), { userId: users[i], before: i })
    }
    assert.ok((await reads(...alive)) - asked >= browsers.length, 'every session is read anew')

    // The dead one says nothing more, so whatever is acknowledged from here on comes from one that lives.
    const write = (app: TestApp, browser: Browser, change: object): Promise<unknown> =>
      until(async () => (await browser.clone().post(app, '/set', change)).statusCode === 200, { what: 'a write' })
    await Promise.all(browsers.flatMap((browser, i) => [write(a, browser, { a: i }), write(b, browser, { b: i })]))
    t.diagnostic(`${browsers.length} sessions can be written again after ${Math.round(performance.now() - killed)} ms`)
    for (const app of [a, b])
      for (const [i, browser] of browsers.entries()) {
        const expected = { userId: users[i], before: i, a: i, b: i }
        const seen = async (): Promise<object> => (await browser.clone().get(app, '/')).json()
        await within(1000, 'what the other one wrote', async () => Object.keys(await seen()).length === 4)
        assert.deepEqual(await seen(), expected)
      }

    await keep(b, browsers, ...alive)
    for (const browser of browsers.slice(0, 8)) await logOut(browser)
    for (const [i, browser] of browsers.slice(8, 16).entries()) {
      assert.equal(await a.sessions.destroyAll(users[8 + i] as string), 1)
      await ended(b, browser)
    }

    // Back as a replica of its heir: it is heard, too, before anything is kept.
    await victim.restart()
    const back = new Redis(victim.url)
    await until(async () => (await back.info('replication')).includes('master_link_status:up'), { what: 'the replica' })
    back.disconnect()
    await keep(b, browsers.slice(16), ...alive, victim)
    for (const browser of browsers.slice(16)) await logOut(browser)
  })
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
