import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { TrackedRecordStore } from '../../../src/state/session/redis-store.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'
import { within } from '../../helpers/within.ts'
import { ownRedis } from '../own-redis.ts'
import type { TestApp } from './app.ts'
import { Browser } from './browser.ts'
import { reads, start, untilCached, untilEnded } from './tracking.ts'

describe('a tracked session', () => {
  const redis = ownRedis()

  const idOf = async (app: TestApp, browser: Browser): Promise<string> => (await browser.get(app, '/id')).json().id

  test('costs no command until it changes', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    await untilCached(app, browser, redis.server)
    // Longer than the cache is valid without a reply from Redis. Start again if this process was suspended meanwhile.
    await until(
      async () => {
        const requested = await reads(redis.server)
        const begun = performance.now()
        while (performance.now() - begun < 2500) {
          assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
          await sleep(10)
        }
        return (await reads(redis.server)) === requested
      },
      { what: 'seconds without a command' },
    )
  })

  test('is read again after a change by any client and command', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    const key = app.redisKey('session', await idOf(app, browser))
    const text = (await redis.client.get(key)) as string
    await untilCached(app, browser, redis.server)
    await redis.client.set(key, text.replace('"a":1', '"a":2'), 'KEEPTTL')
    await until(async () => (await browser.get(app, '/')).json().a === 2)
    const ways: (() => Promise<unknown>)[] = [
      () => redis.client.del(key),
      async () => {
        await redis.client.pexpire(key, 1)
        await until(async () => (await redis.client.exists(key)) === 0)
      },
      () => redis.client.rename(key, 'elsewhere'),
      () => redis.client.flushall(),
    ]
    for (const end of ways) {
      await redis.client.set(key, text, 'PX', 60_000)
      await until(async () => (await browser.clone().get(app, '/')).json().a === 1)
      await untilCached(app, browser.clone(), redis.server)
      await end()
      await untilEnded(app, browser)
    }
  })

  test('ends exactly when its key expires', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    const key = app.redisKey('session', await idOf(app, browser))
    // Redis expires the key, and announces it, only later.
    await redis.client.config('SET', 'hz', 1)
    const lifeMs = 700
    await redis.client.pexpire(key, lifeMs)
    const isEmpty = async (): Promise<boolean> => (await browser.clone().get(app, '/')).body === '{}'
    await within(lifeMs + 50, 'the session ends with its key', isEmpty, [redis.server.pid])
    assert.ok(await isEmpty())
    await redis.client.config('SET', 'hz', 10)
  })

  test('keeps changes of objects private to their request', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    app.get('/scribble', async ({ session }) => {
      session.list.push({ mine: true })
      session.list[0].a = 'mine'
      throw Object.assign(new Error('on purpose'), { statusCode: 500 })
    })
    const data = { list: [{ a: 1 }], map: { b: [2] }, none: null }
    await browser.post(app, '/set', data)
    await untilCached(app, browser, redis.server)
    await browser.get(app, '/scribble')
    assert.deepEqual((await browser.get(app, '/')).json(), data)
    await browser.post(app, '/set', { list: [{ a: 2 }] })
    assert.deepEqual((await browser.get(app, '/')).json(), { ...data, list: [{ a: 2 }] })
  })

  test('ends within a second after a logout whose announcement is lost on a dead connection', async () => {
    const relay = await Relay.open(redis.server.port)
    const far = await start({ url: `redis://127.0.0.1:${relay.port}`, commandTimeoutMs: 500 })
    const near = await start({ url: redis.server.url })
    const browser = new Browser()
    await browser.post(near, '/login', { user: 'eve' })
    await untilCached(far, browser, redis.server)
    const stolen = browser.clone()
    // The connections stay open, but no data passes.
    relay.silence()
    await browser.post(near, '/logout')
    await untilEnded(far, stolen)
    await relay.restore()
    await until(async () => (await stolen.get(far, '/')).body === '{}')
  })

  test('is not cached while only announcements are lost', async () => {
    const relay = await Relay.open(redis.server.port)
    const [far, near] = [
      await start({ url: `redis://127.0.0.1:${relay.port}` }),
      await start({ url: redis.server.url }),
    ]
    const browser = new Browser()
    await browser.post(near, '/login', { user: 'eve' })
    await untilCached(far, browser, redis.server)
    const links = (await redis.client.client('LIST', 'TYPE', 'PUBSUB')) as string
    const ids = [...links.matchAll(/^id=(\d+) .*flags=\S*[tB]/gm)].map(([, id]) => id as string)
    assert.ok(ids.length > 0, links)
    for (const id of ids) await redis.client.client('KILL', 'ID', id)
    await browser.clone().post(near, '/logout')
    await untilEnded(far, browser)
  })

  test('is announced until the app closes, so that no connection keeps its process alive', async (t) => {
    const closed = t.mock.method(TrackedRecordStore.prototype, 'close')
    const app = await start({ url: redis.server.url })
    assert.equal(closed.mock.callCount(), 0)
    await app.close()
    assert.equal(closed.mock.callCount(), 1)
  })

  test('is read every time if Redis forbids tracking', async () => {
    await redis.client.call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '&*', '+@all', '-client|tracking')
    const app = await start({ url: `redis://plain:secret@127.0.0.1:${redis.server.port}` })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    for (let i = 0; i < 3; i++) {
      const sent = await reads(redis.server)
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
      assert.equal(await reads(redis.server), sent + 1)
    }
  })
})
