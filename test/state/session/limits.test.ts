import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import { Redis } from 'ioredis'
import { FleetStore, type SessionOptions } from '../../../src/state/session/index.ts'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'
import { defaultMaxBytes } from '../../../src/state/session/record.ts'
import { startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { build, type TestApp } from './app.ts'
import { Browser } from './browser.ts'

const server = await startRedis()
const redis = new Redis(server.url)
const apps: TestApp[] = []
after(async () => {
  await Promise.all(apps.map((app) => app.close()))
  redis.disconnect()
})

const hour = 3_600_000
const day = 24 * hour
const minute = 60_000
const maxBytes = 2000

const engines: [name: string, url: string | null, options: SessionOptions][] = [
  ['memory', null, {}],
  ['Redis', server.url, {}],
  ['Redis, tracked', server.url, { track: true }],
  ['Redis, whole sessions', server.url, { merge: false }],
  ['connect-redis', server.url, { store: 'connect-redis' }],
]

/** Remaining lifetime of a response's cookie in ms. */
const lifeOf = (response: { cookies: { expires?: Date }[] }): number | undefined => {
  const [cookie] = response.cookies
  return cookie?.expires && cookie.expires.getTime() - Date.now()
}
const isAbout = (life: number | undefined, expected: number): void =>
  assert.ok(life !== undefined && Math.abs(life - expected) < minute, `${life} ms, not ${expected}`)

for (const [name, url, common] of engines)
  describe(`session limits in ${name}`, () => {
    const start = async (options: SessionOptions = {}): Promise<TestApp> => {
      const app = await build(url === null ? { client: null } : { url }, { ...common, ...options })
      app.post('/regenerate', async ({ session }) => {
        await session.regenerate()
        return {}
      })
      app.post<{ Body: object }>('/save', async (request) => {
        Object.assign(request.session, request.body)
        await request.session.save()
        return { saved: request.session.isSaved() }
      })
      apps.push(app)
      return app
    }
    /** Time to live of a browser's session in Redis in ms; `undefined` in memory. */
    const storedLife = async (browser: Browser): Promise<number | undefined> => {
      if (url === null) return undefined
      const [id] = (browser.cookies.get('fleet.sid') ?? '').split('.')
      const keys = await redis.keys(`*session:*${id}*`)
      assert.equal(keys.length, 1)
      return redis.pttl(keys[0] as string)
    }
    const livesFor = async (browser: Browser, expected: number): Promise<void> => {
      const life = await storedLife(browser)
      if (life !== undefined) isAbout(life, expected)
    }

    test('keeps an anonymous session for an hour, and one with a login for its whole lifetime', async () => {
      const app = await start()
      for (const login of [{ userId: 'ann' }, { userId: 7 }, { user: { name: 'ann' } }]) {
        const browser = new Browser()
        isAbout(lifeOf(await browser.post(app, '/set', { cart: 1 })), day)
        await livesFor(browser, hour)
        await browser.post(app, '/set', { cart: 2 })
        await livesFor(browser, hour)
        isAbout(lifeOf(await browser.post(app, '/set', login)), day)
        await livesFor(browser, day)
        assert.deepEqual((await browser.get(app, '/')).json(), { cart: 2, ...login })
        await browser.post(app, '/set', { cart: 3 })
        await livesFor(browser, day)
      }
      const browser = new Browser()
      isAbout(lifeOf(await browser.post(app, '/set', { userId: 'ann' })), day)
      await livesFor(browser, day)
    })

    test('does not take an empty user for a login', async () => {
      const app = await start()
      for (const login of [{ userId: null }, { userId: '' }, { user: false }, { anonymous: null }, { userid: 1 }]) {
        const browser = new Browser()
        await browser.post(app, '/set', login)
        await livesFor(browser, hour)
      }
    })

    test('keeps a regenerated session for its whole lifetime', async () => {
      const app = await start()
      for (const browser of [new Browser(), new Browser()]) {
        if (browser.cookies.size === 0) await browser.post(app, '/set', { cart: 1 })
        isAbout(lifeOf(await browser.post(app, '/regenerate')), day)
        await livesFor(browser, day)
        await browser.post(app, '/set', { name: 'ann' })
        await livesFor(browser, day)
      }
    })

    test('keeps a lifetime that a handler sets, and a shorter one from the options', async () => {
      const app = await start()
      app.post('/remember', async ({ session }) => {
        session.a = 1
        session.cookie.maxAge = 7 * day
        return {}
      })
      for (const [path, life] of [
        ['/options', 30 * day],
        ['/remember', 7 * day],
      ] as const) {
        const browser = new Browser()
        isAbout(lifeOf(await browser.post(app, path, { maxAge: life })), life)
        await livesFor(browser, life)
        isAbout(lifeOf(await browser.post(app, '/login', { user: 'ann' })), life)
        await livesFor(browser, life)
      }
      const [short, browser] = [await start({ ttlMs: 600_000 }), new Browser()]
      isAbout(lifeOf(await browser.post(short, '/set', { a: 1 })), 600_000)
      await livesFor(browser, 600_000)
      await browser.post(short, '/login', { user: 'ann' })
      await livesFor(browser, 600_000)
    })

    test('extends the lifetime of an anonymous session at a visit', async () => {
      const app = await start({ touchAfterMs: 0, rolling: true, anonymous: { ttlMs: 10 * minute } })
      const browser = new Browser()
      await browser.post(app, '/set', { a: 1 })
      isAbout(lifeOf(await browser.get(app, '/')), day)
      await livesFor(browser, 10 * minute)
    })

    test('limits the lifetime of an anonymous session whose cookie ends with the browser', async () => {
      const app = await start({ cookie: { maxAge: null } })
      const browser = new Browser()
      assert.equal(lifeOf(await browser.post(app, '/set', { a: 1 })), undefined)
      await livesFor(browser, hour)
      assert.equal(lifeOf(await browser.post(app, '/set', { userId: 'ann' })), undefined)
      await livesFor(browser, day)
    })

    test('serves requests beyond the limit without saving their new sessions', async () => {
      const app = await start({ anonymous: { perMinute: 3 } })
      const kept = new Browser()
      await kept.post(app, '/set', { a: 1 })
      for (let i = 0; i < 2; i++) assert.equal((await new Browser().post(app, '/set', { i })).cookies.length, 1)
      for (let i = 0; i < 5; i++) {
        const response = await new Browser().post(app, '/set', { i })
        assert.equal(response.statusCode, 200)
        assert.equal(response.headers['set-cookie'], undefined)
      }
      assert.deepEqual((await new Browser().post(app, '/save', { a: 1 })).json(), { saved: false })

      await kept.post(app, '/set', { b: 2 })
      assert.deepEqual((await kept.get(app, '/')).json(), { a: 1, b: 2 })
      for (const [path, body] of [
        ['/login', { user: 'ann' }],
        ['/set', { userId: 'ann' }],
        ['/save', { user: { id: 1 } }],
        ['/regenerate', {}],
      ] as const) {
        const browser = new Browser()
        const response = await browser.post(app, path, body)
        assert.equal(response.cookies.length, 1, `${path} is a login`)
        await browser.post(app, '/set', { later: true })
        assert.equal((await browser.get(app, '/')).json().later, true)
      }
      const elsewhere = await app.inject({ method: 'POST', url: '/set', payload: { a: 1 }, remoteAddress: '192.0.2.1' })
      assert.equal(elsewhere.cookies.length, 1, 'limits apply per client')
    })

    test('counts an IPv6 /64 as one client, and limits all clients together', async () => {
      const app = await start({ anonymous: { perMinute: 2, totalPerMinute: 5 } })
      const begin = async (remoteAddress: string, url = '/set'): Promise<boolean> => {
        const payload = url === '/set' ? { a: 1 } : { user: 'ann' }
        const response = await app.inject({ method: 'POST', url, payload, remoteAddress })
        assert.equal(response.statusCode, 200)
        return response.cookies.length === 1
      }
      const begun = []
      for (let i = 1; i <= 4; i++) begun.push(await begin(`2001:db8::${i}`))
      assert.deepEqual(begun, [true, true, false, false])
      begun.length = 0
      for (let i = 1; i <= 5; i++) begun.push(await begin(`2001:db8:${i}::1`))
      assert.deepEqual(begun, [true, true, true, false, false])
      assert.equal(await begin('2001:db8:9::1', '/login'), true)
    })

    test('limits sessions without data when `saveUninitialized` is true', async () => {
      const app = await start({ saveUninitialized: true, anonymous: { perMinute: 1 } })
      const browser = new Browser()
      assert.equal((await browser.get(app, '/')).cookies.length, 1)
      await livesFor(browser, hour)
      assert.equal((await new Browser().get(app, '/')).headers['set-cookie'], undefined)
      await browser.post(app, '/set', { a: 1 })
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
    })

    test('applies no limits when `anonymous` is false', async () => {
      const app = await start({ anonymous: false })
      const responses = await Promise.all(Array.from({ length: 200 }, (_, i) => new Browser().post(app, '/set', { i })))
      for (const response of responses) isAbout(lifeOf(response), day)
      const browser = new Browser()
      await browser.post(app, '/set', { a: 1 })
      await livesFor(browser, day)
    })

    test('rejects a change that makes the session too large with 413 and keeps the old data', async () => {
      const app = await start({ maxBytes })
      const browser = new Browser()
      await browser.post(app, '/set', { a: 1 })
      for (const [path, body] of [
        ['/set', { b: 'x'.repeat(maxBytes) }],
        ['/set', { b: '\u20ac'.repeat(maxBytes / 2) }],
        ['/set', { ['x'.repeat(maxBytes)]: 1 }],
        ['/set', Object.fromEntries(Array.from({ length: maxBytes / 4 }, (_, i) => [`f${i}`, 1]))],
        ['/save', { b: 'x'.repeat(maxBytes) }],
      ] as const) {
        const response = await browser.post(app, path, body)
        assert.equal(response.statusCode, 413)
        assert.equal(response.json().code, 'FLEET_ERR_SESSION_TOO_LARGE')
        assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
      }
      const first = await new Browser().post(app, '/set', { b: 'x'.repeat(maxBytes) })
      assert.equal(first.statusCode, 413)
      assert.equal(first.headers['set-cookie'], undefined)
      const nearly = { b: 'x'.repeat(maxBytes - 50) }
      assert.equal((await browser.post(app, '/set', nearly)).statusCode, 200)
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 1, ...nearly })
    })

    test('keeps the old session when the regenerated one is too large', async () => {
      const app = await start({ maxBytes })
      app.post('/grow', async ({ session }) => {
        session.more = 'x'.repeat(maxBytes)
        await session.regenerate(['more'])
      })
      const browser = new Browser()
      await browser.post(app, '/set', { a: 1 })
      assert.equal((await browser.post(app, '/grow')).statusCode, 413)
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 1 })
    })

    test('loads, changes and shrinks a session that exceeds a lowered limit', async () => {
      if (url === null) return
      const [wide, narrow] = [await start(), await start({ maxBytes })]
      const browser = new Browser()
      await browser.post(wide, '/set', { a: 'x'.repeat(3 * maxBytes), n: 1 })
      assert.equal((await browser.post(narrow, '/set', { n: 2 })).statusCode, 200)
      assert.equal((await browser.post(narrow, '/set', { n: 'more' })).statusCode, 413)
      assert.equal((await browser.post(narrow, '/set', { a: 'x' })).statusCode, 200)
      assert.deepEqual((await browser.get(narrow, '/')).json(), { a: 'x', n: 2 })
    })

    test('rejects the overlapping request that would make the session too large', async () => {
      if (common.merge === false || common.store) return
      const app = await start({ maxBytes })
      const browser = new Browser()
      await browser.post(app, '/set', { a: 1 })
      const slow = Array.from({ length: 4 }, (_, i) =>
        browser.clone().post(app, '/set-slowly', { [`f${i}`]: '\u00e9'.repeat(300) }),
      )
      await until(() => app.gate.waiting === 4)
      app.gate.open()
      const statuses = (await Promise.all(slow)).map(({ statusCode }) => statusCode)
      assert.deepEqual(statuses.sort(), [200, 200, 200, 413])
      const { a, ...rest } = (await browser.get(app, '/')).json()
      assert.deepEqual([a, Object.keys(rest).length], [1, 3])
    })
  })

test('ends an anonymous session in memory an hour after its last visit', async (t) => {
  t.mock.timers.enable({ apis: ['Date'] })
  const app = await build({ client: null })
  apps.push(app)
  const [idle, active, ann] = [new Browser(), new Browser(), new Browser()]
  for (const browser of [idle, active]) await browser.post(app, '/set', { a: 1 })
  await ann.post(app, '/login', { user: 'ann' })
  for (let i = 0; i < 4; i++) {
    t.mock.timers.tick(hour / 2)
    assert.deepEqual((await active.get(app, '/')).json(), { a: 1 })
  }
  assert.deepEqual((await idle.get(app, '/')).json(), {})
  assert.deepEqual((await ann.get(app, '/')).json(), { userId: 'ann' })
})

test('counts limits by the monotonic clock', async (t) => {
  const app = await build({ client: null }, { anonymous: { perMinute: 1 } })
  apps.push(app)
  await new Browser().post(app, '/set', { a: 1 })
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() + day })
  assert.equal((await new Browser().post(app, '/set', { a: 1 })).headers['set-cookie'], undefined)
})

for (const client of [null, redis])
  test(`rejects a session that is too large in FleetStore (${client ? 'Redis' : 'memory'})`, async () => {
    const store = new FleetStore({ client, name: 'bounded' })
    const call = (method: 'set' | 'touch', id: string, length: number): Promise<unknown> =>
      new Promise((resolve) => store[method](id, { cookie: {}, a: 'x'.repeat(length) } as never, resolve))
    assert.equal(await call('set', 'one', 1), undefined)
    for (const method of ['set', 'touch'] as const) {
      const error = await call(method, 'two', defaultMaxBytes)
      assert.equal(
        (error as { code?: string } | undefined)?.code,
        method === 'set' ? 'FLEET_ERR_SESSION_TOO_LARGE' : undefined,
      )
    }
    assert.equal(await call('set', 'three', defaultMaxBytes - 100), undefined)
  })

test('evicts anonymous sessions from memory first, by number and by size', () => {
  const text = (anonymous: boolean, more = ''): string =>
    `{"cookie":{"expires":null${anonymous ? ',"anonymous":1000' : ''},"agent":"\\"anonymous\\":1"}\n,"a":"${more}"\n}`
  const byNumber = new MemoryRecordStore({ maxSessions: 3 })
  byNumber.write('ann', text(false), minute)
  for (const id of ['a', 'b', 'c']) byNumber.write(id, text(true), minute)
  assert.deepEqual(
    ['ann', 'a', 'b', 'c'].filter((id) => byNumber.read(id) !== null),
    ['ann', 'b', 'c'],
  )
  for (const id of ['bob', 'carl']) byNumber.write(id, text(false), minute)
  byNumber.write('d', text(true), minute)
  assert.deepEqual(
    ['ann', 'bob', 'carl', 'd'].filter((id) => byNumber.read(id) !== null),
    ['ann', 'bob', 'carl'],
  )
  byNumber.write('dora', text(false), minute)
  assert.deepEqual(
    ['ann', 'bob', 'carl', 'dora'].filter((id) => byNumber.read(id) !== null),
    ['bob', 'carl', 'dora'],
  )

  const bySize = new MemoryRecordStore({ maxLength: 1000 })
  bySize.write('ann', text(false, 'x'.repeat(300)), minute)
  for (let i = 0; i < 50; i++) bySize.write(`s${i}`, text(true, 'x'.repeat(300)), minute)
  assert.notEqual(bySize.read('ann'), null)
  assert.ok(bySize.size <= 3)
  for (let i = 0; i < 50; i++) bySize.destroy(`s${i}`)
  assert.equal(bySize.size, 1)
  bySize.write('b', text(false, 'x'.repeat(300)), minute)
  assert.notEqual(bySize.read('ann'), null, 'ended sessions take no space')
})

test('the warning of the limits names the client, or all clients together, and the option', async (t) => {
  for (const [anonymous, warning] of [
    [{ perMinute: 1 }, /because the client 192\.0\.2\.1 has started 1 \(`session\.anonymous\.perMinute`\)/],
    [{ totalPerMinute: 1 }, /because the clients together have started 1 \(`session\.anonymous\.totalPerMinute`\)/],
  ] as const) {
    const app = await build({ client: null }, { anonymous })
    apps.push(app)
    const warn = t.mock.method(app.log, 'warn')
    const remoteAddress = '192.0.2.1'
    for (const a of [1, 2, 3, 4]) await app.inject({ method: 'POST', url: '/set', payload: { a }, remoteAddress })
    const said = warn.mock.calls.map((call) => String(call.arguments[0])).filter((text) => /^session: new/.test(text))
    assert.equal(said.length, 1)
    assert.match(said[0] ?? '', warning)
  }
})
