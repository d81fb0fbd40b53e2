import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import type { RedisOptions } from '../../../src/state/redis/index.ts'
import type { SessionOptions } from '../../../src/state/session/index.ts'
import { until } from '../../helpers/until.ts'
import { build, secret, type TestApp } from './app.ts'
import { Browser } from './browser.ts'

/** The contract of sessions, whatever store they are saved in. */
export function contract(engine: string, where: () => Promise<RedisOptions>, common: SessionOptions = {}): void {
  const apps: TestApp[] = []
  after(() => Promise.all(apps.map((app) => app.close())))
  const start = async (options?: SessionOptions): Promise<TestApp> => {
    const app = await build(await where(), { ...common, ...options })
    apps.push(app)
    return app
  }

  describe(`sessions in ${engine} ${Object.keys(common)}`, () => {
    test('sets no cookie for a session without data', async () => {
      const app = await start()
      const response = await new Browser().get(app, '/')
      assert.equal(response.headers['set-cookie'], undefined)
      assert.equal(app.fleet.facts.sessionStore, engine)
    })

    test('loads in one request what another has saved', async () => {
      const [app, browser] = [await start(), new Browser()]
      const response = await browser.post(app, '/set', { visits: 1 })
      const [cookie] = response.cookies
      assert.equal(cookie?.name, 'fleet.sid')
      assert.equal(cookie?.path, '/')
      assert.equal(cookie?.httpOnly, true)
      assert.equal(cookie?.sameSite, 'Lax')
      assert.equal(cookie?.secure, undefined)
      const leftMs = (cookie?.expires?.getTime() ?? 0) - Date.now()
      assert.ok(Math.abs(leftMs - 86_400_000) < 60_000, `expires in ${leftMs} ms`)
      assert.deepEqual((await browser.get(app, '/')).json(), { visits: 1 })
      assert.deepEqual((await new Browser().get(app, '/')).json(), {})
    })

    test('saves and loads every kind of value and name unchanged', async () => {
      const [app, browser] = [await start(), new Browser()]
      const values = {
        text: 'line\nfeed, "quotes", back\\slash, ünïcödé, 🦊, \u2028, \ud800',
        numbers: [0, -0.5, 1e21, 5e-324, 2 ** 53, 1763712000123, 0.1 + 0.2],
        nothing: null,
        yes: true,
        empty: { list: [], object: {}, text: '' },
        deep: { a: [{ b: [[{ c: 'd' }]] }] },
        'a "quoted": name': 1,
        'name\nwith,\\"feed\\': 2,
        '': 3,
        '{': 4,
        1: 'one',
      }
      await browser.post(app, '/set', values)
      assert.deepEqual((await browser.get(app, '/')).json(), values)
      const changed = { ...values, nothing: 1, 'a "quoted": name': { now: [] }, '': [], more: 'new' }
      await browser.post(app, '/set', { nothing: 1, 'a "quoted": name': { now: [] }, '': [], more: 'new' })
      assert.deepEqual((await browser.get(app, '/')).json(), changed)
    })

    test('does not let data fields replace methods of the session', async () => {
      const [app, browser] = [await start(), new Browser()]
      app.post('/shadow', async ({ session }) => {
        for (const name of ['save', 'constructor', 'toJSON', 'cookie2', '__proto__'])
          Object.defineProperty(session, name, { value: name, enumerable: true, configurable: true })
        return {}
      })
      app.get('/shadow', async ({ session }) => {
        await session.save()
        return { cookie2: session.cookie2, polluted: Object.getPrototypeOf(session) === '__proto__' }
      })
      await browser.post(app, '/shadow')
      assert.deepEqual((await browser.get(app, '/shadow')).json(), { cookie2: 'cookie2', polluted: false })
    })

    test('merges what overlapping requests change, add and remove', async () => {
      const [app, browser] = [await start(), new Browser()]
      await browser.post(app, '/set', { a: 1, b: 1, c: 1, d: 1 })
      const slow = [
        browser.post(app, '/set-slowly', { a: 2, e: 2 }),
        browser.post(app, '/set-slowly', { b: 2, f: { deep: true } }),
        browser.post(app, '/remove-slowly', { name: 'c' }),
      ]
      await until(() => app.gate.waiting === 3)
      await browser.post(app, '/set', { g: 2 })
      app.gate.open()
      await Promise.all(slow)
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 2, b: 2, d: 1, e: 2, f: { deep: true }, g: 2 })
    })

    test('saves the last of two overlapping requests when `merge` is false', async () => {
      const [app, browser] = [await start({ merge: false }), new Browser()]
      await browser.post(app, '/set', { a: 1 })
      const slow = browser.post(app, '/set-slowly', { b: 1 })
      await until(() => app.gate.waiting === 1)
      await browser.post(app, '/set', { c: 1 })
      app.gate.open()
      await slow
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 1, b: 1 })
    })

    for (const merge of [true, false])
      test(`does not recreate a session that ended during an overlapping request (merge: ${merge})`, async () => {
        const [app, browser] = [await start({ merge }), new Browser()]
        await browser.post(app, '/set', { user: 'ann' })
        const window = browser.clone()
        const slow = window.post(app, '/set-slowly', { cart: 1 })
        await until(() => app.gate.waiting === 1)
        const logout = await browser.post(app, '/logout')
        assert.equal(browser.cookies.size, 0, 'the cookie is cleared')
        assert.equal(logout.cookies[0]?.path, '/')
        app.gate.open()
        assert.equal((await slow).statusCode, 200)
        assert.deepEqual((await window.get(app, '/')).json(), {})
      })

    test('changes the id at a login, keeps the listed fields and invalidates the old id', async () => {
      const [app, browser] = [await start(), new Browser()]
      await browser.post(app, '/set', { cart: [1], junk: 1 })
      const before = (await browser.get(app, '/id')).json()
      const planted = browser.clone()
      await browser.post(app, '/login', { user: 'ann', keep: ['cart'] })
      assert.notEqual((await browser.get(app, '/id')).json().id, before.id)
      assert.deepEqual((await browser.get(app, '/')).json(), { cart: [1], userId: 'ann' })
      assert.deepEqual((await planted.get(app, '/')).json(), {})
      await planted.post(app, '/set', { x: 1 })
      assert.notEqual((await planted.get(app, '/id')).json().id, before.id)
    })

    test('lists and ends the sessions of a user', async () => {
      const app = await start()
      const begun = Date.now()
      const [phone, laptop, other] = [new Browser(), new Browser(), new Browser()]
      for (const browser of [phone, laptop]) await browser.post(app, '/login', { user: 'list-ann' })
      await other.post(app, '/login', { user: 'list-bob' })
      const listed = await app.sessions.list('list-ann')
      assert.equal(listed.length, 2)
      assert.deepEqual(listed[0]?.data, { userId: 'list-ann' })
      assert.ok((listed[0]?.expires?.getTime() ?? 0) > Date.now())
      for (const { lastSeen, device } of listed) {
        assert.ok(lastSeen && lastSeen.getTime() >= begun && lastSeen.getTime() <= Date.now(), String(lastSeen))
        assert.equal(device, 'lightMyRequest')
      }

      const { id } = (await phone.get(app, '/id')).json()
      const slow = laptop.post(app, '/set-slowly', { late: true })
      await until(() => app.gate.waiting === 1)
      assert.equal(await app.sessions.destroyAll('list-ann', { except: id }), 1)
      app.gate.open()
      await slow
      assert.deepEqual((await laptop.get(app, '/')).json(), {})
      assert.deepEqual((await phone.get(app, '/')).json(), { userId: 'list-ann' })

      await phone.post(app, '/set', { userId: 'list-carl' })
      assert.deepEqual(await app.sessions.list('list-ann'), [])
      assert.equal((await app.sessions.list('list-carl')).length, 1)
      assert.equal(await app.sessions.destroyAll('list-carl'), 1)
      assert.deepEqual((await phone.get(app, '/')).json(), {})
      assert.deepEqual((await other.get(app, '/')).json(), { userId: 'list-bob' })
      await other.post(app, '/logout')
      assert.deepEqual(await app.sessions.list('list-bob'), [])
    })

    test('ends an idle session after its lifetime and extends it at each visit', async () => {
      const app = await start({ ttlMs: 2000, touchAfterMs: 0 })
      const [idle, active] = [new Browser(), new Browser()]
      let [born, visited] = [0, 0]
      await until(
        async () => {
          // If this machine is too busy to visit in time, start again.
          const tooLate = Date.now() - visited > 1500
          const response = await active.get(app, '/')
          if (tooLate || Date.now() - visited > 1500) {
            await idle.post(app, '/set', { a: 1 })
            await active.post(app, '/set', { a: 1 })
            born = visited = Date.now()
            return false
          }
          visited = Date.now()
          assert.deepEqual(response.json(), { a: 1 })
          assert.equal(response.cookies.length, 1, 'the lifetime of the cookie is extended too')
          return visited - born > 2500
        },
        { what: 'the idle session to end' },
      )
      assert.deepEqual((await idle.get(app, '/')).json(), {})
    })

    test('does not extend the lifetime before `touchAfterMs`', async () => {
      const [app, browser] = [await start({ ttlMs: 60_000, touchAfterMs: 60_000 }), new Browser()]
      await browser.post(app, '/set', { a: 1 })
      assert.equal((await browser.get(app, '/')).headers['set-cookie'], undefined)
      assert.equal((await browser.post(app, '/set', { a: 2 })).headers['set-cookie'], undefined)
      assert.deepEqual((await browser.get(app, '/')).json(), { a: 2 })
    })

    test('discards the changes of a handler that failed with 500, and saves them with 401', async () => {
      const [app, browser] = [await start(), new Browser()]
      await browser.post(app, '/set', { tries: 0 })
      assert.equal((await browser.post(app, '/fail/500', { tries: 1, half: true })).statusCode, 500)
      assert.deepEqual((await browser.get(app, '/')).json(), { tries: 0 })
      assert.equal((await browser.post(app, '/fail/401', { tries: 1 })).statusCode, 401)
      assert.deepEqual((await browser.get(app, '/')).json(), { tries: 1 })
      assert.equal((await new Browser().post(app, '/fail/500', { a: 1 })).headers['set-cookie'], undefined)
    })

    test('ignores forged, malformed and oversized cookies', async () => {
      const [app, browser] = [await start(), new Browser()]
      await browser.post(app, '/set', { secret: true })
      const good = browser.cookies.get('fleet.sid') ?? ''
      const [id] = good.split('.')
      const forged = [
        '',
        '.',
        'x',
        `${id}.`,
        `${id}.${'A'.repeat(43)}`,
        `x${good}`,
        `${good}x`,
        'x'.repeat(6000),
        '%E0%A4%A',
      ]
      for (const value of forged) {
        const response = await app.inject({ url: '/', headers: { cookie: `fleet.sid=${value}` } })
        assert.equal(response.statusCode, 200, value)
        assert.deepEqual(response.json(), {}, value)
      }
      assert.deepEqual((await browser.get(app, '/')).json(), { secret: true })
    })

    test('uses the first of several cookies that names a live session', async () => {
      const [app, browser] = [await start(), new Browser()]
      await browser.post(app, '/set', { a: 1 })
      const good = browser.cookies.get('fleet.sid') ?? ''
      const ended = new Browser()
      await ended.post(app, '/set', { a: 2 })
      const over = ended.cookies.get('fleet.sid') ?? ''
      await ended.post(app, '/logout')
      const get = async (...values: string[]): Promise<unknown> => {
        const cookie = values.map((value) => `fleet.sid=${encodeURIComponent(value)}`).join('; ')
        const response = await app.inject({ url: '/', headers: { cookie: `fleet.sid2=x; ${cookie}; x=fleet.sid=y` } })
        assert.equal(response.statusCode, 200)
        return response.json()
      }
      for (const stale of ['stale.sig', '', over, '%', 'a=b'])
        for (const order of [
          [stale, good],
          [good, stale],
          [stale, over, good],
          [stale, 'a', 'b', 'c', 'd', 'e', over, good],
        ])
          assert.deepEqual(await get(...order), { a: 1 }, order.join())
      const many = Array.from({ length: 32 }, (_, i) => `stale${i}.sig`)
      assert.deepEqual(await get(...many, good), {}, 'at most 32 are read')
      assert.deepEqual(await get(over, 'a'), {})
    })

    test('stores the cookie options of one session with it', async () => {
      const [app, browser] = [await start({ touchAfterMs: 0 }), new Browser()]
      await browser.post(app, '/options', { maxAge: 3_600_000, sameSite: 'strict' })
      const response = await browser.get(app, '/')
      assert.deepEqual(response.json(), { remembered: true })
      const [cookie] = response.cookies
      assert.ok(Math.abs((cookie?.expires?.getTime() ?? 0) - Date.now() - 3_600_000) < 60_000)
      assert.equal(cookie?.sameSite, 'Strict')
    })

    test('supports cookies that end with the browser', async () => {
      const [app, browser] = [await start({ cookie: { maxAge: null }, touchAfterMs: 0 }), new Browser()]
      const response = await browser.post(app, '/set', { a: 1 })
      assert.equal(response.cookies[0]?.expires, undefined)
      const again = await browser.get(app, '/')
      assert.deepEqual(again.json(), { a: 1 })
      assert.equal(again.cookies[0]?.expires, undefined)
    })

    test('loads no session for a route with `session: false`', async () => {
      const [app, browser] = [await start(), new Browser()]
      await browser.post(app, '/set', { a: 1 })
      const response = await browser.get(app, '/none')
      assert.deepEqual(response.json(), {})
      assert.equal(response.headers['set-cookie'], undefined)
    })

    test('sends a Secure cookie only over TLS, or behind a load balancer that terminates it', async () => {
      const app = await start({ cookie: { secure: true } })
      const plain = await new Browser().post(app, '/set', { a: 1 })
      assert.equal(plain.headers['set-cookie'], undefined)
      const headers = { 'x-forwarded-proto': 'https' }
      const behind = await new Browser().send(app, { method: 'POST', url: '/set', payload: { a: 1 }, headers })
      assert.equal(behind.cookies[0]?.secure, true)
    })

    test('rejects a value that is not serializable, naming its field', async () => {
      const app = await start()
      app.post('/bad', async ({ session }) => {
        session.total = 1n
        return {}
      })
      const response = await app.inject({ method: 'POST', url: '/bad' })
      assert.equal(response.statusCode, 500)
      assert.equal(response.json().code, 'FLEET_ERR_SESSION_VALUE_INVALID')
    })

    const separate = engine === 'memory' && 'each app of this test has its own memory'
    test('keeps sessions when secrets are rotated', { skip: separate }, async () => {
      const [older, newer] = [secret, 'another secret of more than thirty-two bytes']
      const [first, second, third] = [
        await start({ secret: older }),
        await start({ secret: [newer, older] }),
        await start({ secret: [newer] }),
      ]
      const browser = new Browser()
      await browser.post(first, '/set', { a: 1 })
      const old = browser.clone()
      const response = await browser.get(second, '/')
      assert.deepEqual(response.json(), { a: 1 })
      assert.equal(response.cookies.length, 1, 'signed with the new secret')
      assert.equal((await browser.get(second, '/')).headers['set-cookie'], undefined, 'only once')
      assert.deepEqual((await browser.get(third, '/')).json(), { a: 1 })
      assert.deepEqual((await old.get(third, '/')).json(), {})
    })
  })
}
