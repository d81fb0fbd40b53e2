import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import { isEqual, Kept } from '../../../src/state/session/loaded.ts'
import { Session } from '../../../src/state/session/session.ts'
import type { Terms } from '../../../src/state/session/terms.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'
import { within } from '../../helpers/within.ts'
import { ownRedis } from '../own-redis.ts'
import type { TestApp } from './app.ts'
import { Browser } from './browser.ts'
import { ended, keep, reads, start } from './tracking.ts'

describe('a tracked session', () => {
  const redis = ownRedis()

  const idOf = async (app: TestApp, browser: Browser): Promise<string> => (await browser.get(app, '/id')).json().id

  test('costs no command for as long as nobody changes it', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    await keep(app, browser, redis.server)
    // Longer than what is known of one moment is trusted, so that it must have been renewed; begun anew where this process
    // stood still meanwhile.
    await until(
      async () => {
        const asked = await reads(redis.server)
        const begun = performance.now()
        while (performance.now() - begun < 2500) {
          assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
          await sleep(10)
        }
        return (await reads(redis.server)) === asked
      },
      { timeoutMs: 30_000, what: 'seconds without a command' },
    )
  })

  test('is read anew whoever changed it, by whatever command', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    const key = app.redisKey('session', await idOf(app, browser))
    const text = (await redis.client.get(key)) as string
    await keep(app, browser, redis.server)
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
      await keep(app, browser.clone(), redis.server)
      await end()
      await ended(app, browser)
    }
  })

  test('is over when its time in Redis is, to the moment', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    await browser.post(app, '/set', { a: 1 })
    const key = app.redisKey('session', await idOf(app, browser))
    // Redis finds out by itself, and says so, only later.
    await redis.client.config('SET', 'hz', 1)
    const lifeMs = 700
    await redis.client.pexpire(key, lifeMs)
    const isEmpty = async (): Promise<boolean> => (await browser.clone().get(app, '/')).body === '{}'
    await within(lifeMs + 50, 'the session ends with its key', isEmpty, [process.pid, redis.server.pid])
    assert.ok(await isEmpty())
    await redis.client.config('SET', 'hz', 10)
  })

  test('a request that changes an object in it changes nobody else’s', async () => {
    const [app, browser] = [await start({ url: redis.server.url }), new Browser()]
    app.get('/scribble', async ({ session }) => {
      session.list.push({ mine: true })
      session.list[0].a = 'mine'
      throw Object.assign(new Error('on purpose'), { statusCode: 500 })
    })
    const data = { list: [{ a: 1 }], map: { b: [2] }, none: null }
    await browser.post(app, '/set', data)
    await keep(app, browser, redis.server)
    await browser.get(app, '/scribble')
    assert.deepEqual((await browser.get(app, '/')).json(), data)
    await browser.post(app, '/set', { list: [{ a: 2 }] })
    assert.deepEqual((await browser.get(app, '/')).json(), { ...data, list: [{ a: 2 }] })
  })

  test('a logout is obeyed within a second though its message is lost in a black hole', async () => {
    const relay = await Relay.open(redis.server.port)
    const far = await start({ url: `redis://127.0.0.1:${relay.port}`, commandTimeoutMs: 500 })
    const near = await start({ url: redis.server.url })
    const browser = new Browser()
    await browser.post(near, '/login', { user: 'eve' })
    await keep(far, browser, redis.server)
    const stolen = browser.clone()
    // Connections stay open, and nothing says that they are dead.
    relay.silence()
    await browser.post(near, '/logout')
    await ended(far, stolen)
    await relay.restore()
    await until(async () => (await stolen.get(far, '/')).body === '{}')
  })

  test('nothing is kept while only the messages are lost', async () => {
    const relay = await Relay.open(redis.server.port)
    const [far, near] = [
      await start({ url: `redis://127.0.0.1:${relay.port}` }),
      await start({ url: redis.server.url }),
    ]
    const browser = new Browser()
    await browser.post(near, '/login', { user: 'eve' })
    await keep(far, browser, redis.server)
    const links = (await redis.client.client('LIST', 'TYPE', 'PUBSUB')) as string
    const ids = [...links.matchAll(/^id=(\d+) .*flags=\S*[tB]/gm)].map(([, id]) => id as string)
    assert.ok(ids.length > 0, links)
    for (const id of ids) await redis.client.client('KILL', 'ID', id)
    await browser.clone().post(near, '/logout')
    await ended(far, browser)
  })

  test('a Redis that will not say what changes is asked every time', async () => {
    await redis.client.call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '&*', '+@all', '-client|tracking')
    const app = await start({ url: `redis://plain:secret@127.0.0.1:${redis.server.port}` })
    const browser = new Browser()
    await browser.post(app, '/set', { a: 1 })
    for (let i = 0; i < 3; i++) {
      const asked = await reads(redis.server)
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
      assert.equal(await reads(redis.server), asked + 1)
    }
  })
})

test('what comes from memory is compared without writing it, and never taken for equal when it is not', () => {
  const text = '{"cookie":{"expires":null}\n,"a":[1,{"b":null}]\n,"c":"d"\n}'
  const kept = new Kept('id', text)
  assert.deepEqual(kept.load()?.data.a, [1, { b: null }])
  const opened = (): Session =>
    new Session({ touchAfterMs: 1000 } as Terms, {} as FastifyRequest, undefined, kept.load())
  const one = opened() as unknown as { a: unknown[] }
  one.a.push(2)
  assert.deepEqual(opened().a, [1, { b: null }], 'what one request does to an object, no other sees')
  assert.equal(new Kept('id', 'garbage').load(), undefined)
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
