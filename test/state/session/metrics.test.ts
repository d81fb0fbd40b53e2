import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import type { SessionStore } from '@fastify/session'
import { metrics } from '../../../src/instance/metrics/index.ts'
import type { SessionOptions } from '../../../src/state/session/index.ts'
import { until } from '../../helpers/until.ts'
import { ownRedis } from '../own-redis.ts'
import { build, type TestApp } from './app.ts'
import { Browser } from './browser.ts'

const apps: TestApp[] = []
after(() => Promise.all(apps.map((app) => app.close())))

describe('the metrics of sessions', () => {
  const redis = ownRedis()

  async function start(options: SessionOptions = {}): Promise<TestApp> {
    const app = await build({ url: redis.server.url }, options, metrics)
    apps.push(app)
    return app
  }

  async function counts(app: TestApp): Promise<Record<string, number>> {
    const found = [...(await app.metrics.metrics()).matchAll(/^fleet_sessions_(\w+)_total (\d+)$/gm)]
    assert.equal(found.length, 5)
    return Object.fromEntries(found.map(([, name, count]) => [name, Number(count)]))
  }
  const none = { created: 0, loaded: 0, saved: 0, destroyed: 0, tracked_hits: 0 }

  for (const store of ['fleet', 'connect-redis'] as const) {
    test(`count what the app does to sessions in the store ${store}`, async () => {
      const [app, browser] = [await start({ store }), new Browser()]
      await browser.get(app, '/')
      assert.deepEqual(await counts(app), none, 'a session without data is not stored')
      await browser.post(app, '/set', { a: 1 })
      assert.deepEqual(await counts(app), { ...none, created: 1 })
      await browser.get(app, '/')
      await browser.get(app, '/none')
      await browser.post(app, '/set', { a: 2 })
      assert.deepEqual(await counts(app), { ...none, created: 1, loaded: 2, saved: 1 })
      await browser.post(app, '/login', { user: 'ann' })
      // A login saves a session with a new id and ends the old one.
      const { created, destroyed } = await counts(app)
      assert.deepEqual([created, destroyed], [2, 1])
      const other = browser.clone()
      await browser.post(app, '/logout')
      assert.equal((await counts(app)).destroyed, 2)
      const { loaded } = await counts(app)
      await other.get(app, '/')
      assert.equal((await counts(app)).loaded, loaded, 'an ended session is not loaded')
    })
  }

  test('count nothing that failed, and sessions that an operator ends', async () => {
    const [app, browser] = [await start(), new Browser()]
    await browser.post(app, '/login', { user: 'bob' })
    const key = (id: string): string => app.redisKey('session', id)
    const { id } = (await browser.get(app, '/id')).json()
    const slow = browser.post(app, '/set-slowly', { a: 1 })
    await until(() => app.gate.waiting === 1)
    await redis.client.del(key(id))
    const { saved } = await counts(app)
    app.gate.open()
    await slow
    assert.equal((await counts(app)).saved, saved, 'a session that has ended is not saved')

    const windows = [new Browser(), new Browser()]
    for (const window of windows) await window.post(app, '/login', { user: 'bob' })
    const { destroyed = 0 } = await counts(app)
    assert.equal(await app.sessions.destroyAll('bob'), 2)
    assert.equal((await counts(app)).destroyed, destroyed + 2)
  })

  test('count the hits of tracked sessions', async () => {
    const [app, browser] = [await start({ track: true }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    await until(
      async () => {
        const { tracked_hits: before = 0 } = await counts(app)
        await browser.get(app, '/')
        return (await counts(app)).tracked_hits === before + 1
      },
      { what: 'a session from memory' },
    )
    const { loaded = 0, tracked_hits = 0 } = await counts(app)
    assert.ok(tracked_hits <= loaded)
  })

  test('count sessions of a synchronous store', async () => {
    const data = new Map<string, unknown>()
    const store = {
      get: (id, done) => done(null, data.get(id) as never),
      set: (id, session, done) => {
        data.set(id, JSON.parse(JSON.stringify(session)))
        done()
      },
      destroy: (id, done) => {
        data.delete(id)
        done()
      },
    } satisfies SessionStore
    const [app, browser] = [await start({ store }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    await browser.get(app, '/')
    await browser.post(app, '/logout')
    const { created, loaded, destroyed } = await counts(app)
    assert.deepEqual([created, loaded, destroyed], [1, 2, 1])
  })
})
