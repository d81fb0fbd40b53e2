import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Handler, recorded, signed } from './recorded.ts'

const keep: Handler = ({ session }) => ({ ...session })
const unused: Handler = () => undefined
const change: Handler = ({ session }) => {
  session.b = 2
}

for (const isSlow of [false, true])
  describe(`a request, with a store that is ${isSlow ? 'asynchronous' : 'synchronous'}`, () => {
    test('of a new client sends no command until it sets data, and then one', async (t) => {
      const { send } = await recorded(t, {}, isSlow)
      assert.deepEqual(await send(unused), { status: 200, body: {}, sent: undefined, calls: [] })
      assert.deepEqual(await send(keep), { status: 200, body: {}, sent: undefined, calls: [] })
      const { calls, sent } = await send(change)
      assert.deepEqual([calls, sent?.name], [['write'], 'fleet.sid'])
    })

    test('with a session reads it once, and writes only what it changes', async (t) => {
      const { send, put, stored } = await recorded(t, {}, isSlow)
      const cookie = put('s')
      assert.deepEqual(await send(keep, [cookie]), { status: 200, body: { a: 1 }, sent: undefined, calls: ['read'] })
      assert.deepEqual((await send(unused, [cookie])).calls, ['read'])
      const { calls, sent } = await send(change, [cookie])
      assert.deepEqual([calls, sent], [['read', 'merge "b"'], undefined])
      assert.deepEqual(stored('s'), { a: 1, b: 2 })
    })

    test('that changes nothing in the end writes nothing', async (t) => {
      const { send, put } = await recorded(t, {}, isSlow)
      const cookie = put('s', '"a":{"n":[1]}\n,"b":1')
      const seen: boolean[] = []
      const { calls } = await send(
        ({ session }) => {
          const { a } = session as unknown as { a: { n: number[] } }
          seen.push(session.isModified())
          a.n.push(2)
          seen.push(session.isModified())
          a.n.pop()
          seen.push(session.isModified())
          session.a = { n: [1] }
          delete session.b
          seen.push(session.isModified())
          session.set('b' as never, (session.get('b' as never) ?? 1) as never)
          seen.push(session.isModified())
        },
        [cookie],
      )
      assert.deepEqual([seen, calls], [[false, true, false, true, false], ['read']])
    })

    test('saves with 499 and drops its changes with 500', async (t) => {
      const { send, put, stored } = await recorded(t, {}, isSlow)
      const cookie = put('s')
      const fail =
        (statusCode: number): Handler =>
        ({ session }) => {
          session.b = statusCode
          throw Object.assign(new Error('on purpose'), { statusCode })
        }
      assert.deepEqual((await send(fail(500), [cookie])).calls, ['read'])
      assert.deepEqual(stored('s'), { a: 1 })
      await send(fail(499), [cookie])
      assert.deepEqual(stored('s'), { a: 1, b: 499 })
      assert.equal((await send(fail(500))).sent, undefined)
    })

    test('of a probe, and outside the path of the cookie, loads nothing', async (t) => {
      const { send, put } = await recorded(t, { cookie: { path: '/app' } }, isSlow)
      const cookie = put('s')
      for (const url of ['/probe', '/none', '/', '/apple', '/?x=/app'])
        assert.deepEqual(await send(keep, [cookie], url), { status: 200, body: {}, sent: undefined, calls: [] }, url)
      for (const url of ['/app', '/app/x', '/app?x'])
        assert.deepEqual((await send(keep, [cookie], url)).calls, ['read'])
    })
  })

describe('the cookies of a request', () => {
  test('are tried in order, at most five', async (t) => {
    const { send, put } = await recorded(t)
    const live = put('s')
    const dead = Array.from({ length: 6 }, (_, i) => signed(`gone ${i}`))
    const reads = async (...cookies: string[]): Promise<[number, unknown]> => {
      const { calls, body } = await send(keep, cookies)
      return [calls.length, body.a]
    }
    assert.deepEqual(await reads(...dead.slice(0, 4), live), [5, 1])
    assert.deepEqual(await reads(...dead.slice(0, 5), live), [5, undefined])
    assert.deepEqual(await reads('forged.x', ...dead.slice(0, 3), live), [4, 1])
    assert.deepEqual(await reads('forged.x', 'forged.y', 'x', 'y', 'z', live), [1, 1], 'without a signature')
    assert.deepEqual(await reads(dead[0] as string, dead[0] as string, live), [2, 1], 'each once')
  })

  test('are cleared if they name no live session and no new one is started', async (t) => {
    const { send } = await recorded(t, { cookie: { path: '/app', domain: 'shop.test' } })
    const { sent } = await send(keep, [signed('gone')], '/app')
    const { value, path, domain, maxAge, expires } = sent ?? {}
    assert.deepEqual({ value, path, domain, maxAge }, { value: '', path: '/app', domain: 'shop.test', maxAge: 0 })
    assert.equal(expires?.getTime(), 0)
    const started = await send(change, [signed('gone')], '/app')
    assert.ok(started.sent?.value.length)
  })

  test('of a session that has expired end it', async (t) => {
    const now = Date.now()
    t.mock.timers.enable({ apis: ['Date'], now })
    const { send, put, stored } = await recorded(t, { touchAfterMs: 600_000 })
    const until = (expires: number) => put('s', '"a":1', `{"expires":${expires},"originalMaxAge":60000}`)
    assert.deepEqual((await send(keep, [until(now + 1)])).body, { a: 1 })
    const { body, calls } = await send(keep, [until(now)])
    assert.deepEqual([body, calls], [{}, ['read', 'destroy']])
    assert.equal(stored('s'), null)
  })

  test('with an older signature are replaced, and the session is not written', async (t) => {
    const old = 'another secret of more than 32 bytes'
    const { send, put } = await recorded(t, { secret: ['the new secret of more than 32 bytes', old] })
    put('s')
    for (const handler of [keep, unused]) {
      const { sent, calls } = await send(handler, [signed('s', old)])
      assert.equal(sent?.value, signed('s', 'the new secret of more than 32 bytes'))
      assert.deepEqual(calls, ['read'])
    }
    const same: Handler = ({ session }) => ({ text: session.encryptedSessionId })
    const renewed = signed('s', 'the new secret of more than 32 bytes')
    assert.deepEqual((await send(same, [renewed])).body, { text: renewed })
    assert.deepEqual((await send(same, [signed('s', old)])).body, { text: renewed })
  })
})

describe('the prefix of the cookie', () => {
  test('is sent, and required', async (t) => {
    const { send, put } = await recorded(t, { cookiePrefix: 's:' })
    const cookie = put('s')
    assert.deepEqual((await send(keep, [cookie])).calls, [])
    assert.deepEqual((await send(keep, [`${cookie}s:`])).calls, [])
    assert.deepEqual((await send(keep, [`s:${cookie}`])).body, { a: 1 })
    assert.deepEqual((await send(keep, ['s:x', cookie, `s:${cookie}`])).body, { a: 1 })
    assert.match(String((await send(change)).sent?.value), /^s:/)
  })
})

describe('the lifetime of a session', () => {
  test('is extended by touch(), by a change of its cookie, and by options()', async (t) => {
    const { send, put } = await recorded(t)
    const day = 86_400_000
    const life = (sent: { expires?: Date } | undefined): number => Number(sent?.expires) - Date.now()
    for (const [does, lifeMs] of [
      [({ session }) => session.touch(), day],
      [
        ({ session }) => {
          session.cookie.maxAge = 2 * day
        },
        2 * day,
      ],
      [({ session }) => session.options({ maxAge: 3 * day }), 3 * day],
    ] as [Handler, number][]) {
      const cookie = put('s', '"a":1', `{"expires":${Date.now() + day},"originalMaxAge":${day}}`)
      const { calls, sent } = await send(does, [cookie])
      assert.deepEqual(calls, ['read', 'merge "cookie"'])
      assert.ok(Math.abs(life(sent) - lifeMs) < 60_000, `${life(sent)}`)
      assert.equal((await send(keep, [cookie])).sent, undefined)
    }
    const { calls, sent } = await send(({ session }) => session.options({}), [put('s')])
    assert.deepEqual([calls, sent], [['read'], undefined])
  })

  test('with `rolling` is extended by every request', async (t) => {
    const { send, put } = await recorded(t, { rolling: true })
    for (const handler of [keep, unused]) {
      const { calls, sent } = await send(handler, [put('s')])
      assert.deepEqual([calls, sent !== undefined], [['read', 'merge "cookie"'], true])
    }
  })

  test('is extended by a visit from `touchAfterMs` on', async (t) => {
    const now = Date.now()
    t.mock.timers.enable({ apis: ['Date'], now })
    const { send, put } = await recorded(t, { touchAfterMs: 1_000 })
    for (const [agoMs, calls] of [
      [999, ['read']],
      [1_000, ['read', 'merge "cookie"']],
    ] as const)
      for (const handler of [keep, unused])
        assert.deepEqual((await send(handler, [put('s', '"a":1', `{"at":${now - agoMs}}`)])).calls, calls)
  })
})

describe('sessions without data', () => {
  test('are saved with `saveUninitialized`', async (t) => {
    const { send } = await recorded(t, { saveUninitialized: true })
    for (const handler of [keep, unused]) {
      const { calls, sent } = await send(handler)
      assert.deepEqual([calls, sent !== undefined], [['write'], true])
    }
  })
})

for (const isSlow of [false, true])
  describe(`while a store is unavailable that is ${isSlow ? 'asynchronous' : 'synchronous'}`, () => {
    const code = 'FLEET_ERR_STATE_UNAVAILABLE'

    test('requests with a session get 503, and a failed write is not repeated', async (t) => {
      const { send, put, store } = await recorded(t, {}, isSlow)
      const cookie = put('s')
      store.unavailable = /read/
      assert.deepEqual([(await send(keep, [cookie])).status, (await send(keep)).status], [503, 200])
      store.unavailable = /merge|write/
      for (const cookies of [[cookie], []]) {
        const { status, body, sent, calls } = await send(change, cookies)
        assert.deepEqual([status, body.code, sent], [503, code, undefined])
        assert.equal(calls.filter((call) => call !== 'read').length, 1)
      }
    })

    test("continue with onOutage 'allow', with an empty session that can only be ended", async (t) => {
      const { send, put, store, stored } = await recorded(t, { onOutage: 'allow' }, isSlow)
      const cookie = put('s')
      store.unavailable = /read/
      const { status, body, calls, sent } = await send(
        async ({ session }) => {
          const before = { ...session }
          session.b = 1
          const error = await session.save().catch((error) => error)
          return { before, id: session.sessionId, code: error.code }
        },
        ['forged.x', cookie],
      )
      assert.deepEqual([status, body, calls, sent], [200, { before: {}, id: 's', code }, ['read'], undefined])
      const idOf: Handler = ({ session }) => ({ id: session.sessionId })
      for (const other of ['forged.x', signed('other')])
        assert.equal((await send(idOf, [cookie, other])).body.id, 's', 'the first cookie with a valid signature')
      await send(({ session }) => session.destroy(), [cookie])
      store.unavailable = undefined
      assert.equal(stored('s'), null)
      put('s')
      store.unavailable = /read/
      const again = await send((request) => request.session.regenerate(), [cookie])
      assert.deepEqual(again.calls, ['read', 'write', 'destroy'], 'the stored session ends')
      store.unavailable = /merge/
      assert.equal((await send(change, [put('s')])).status, 200)
      assert.deepEqual(stored('s'), { a: 1 })
    })

    test("passes on other errors with onOutage 'allow'", async (t) => {
      const { send, put } = await recorded(t, { onOutage: 'allow', maxBytes: 100 }, isSlow)
      const { status } = await send(
        ({ session }) => {
          session.b = 'x'.repeat(66_000)
        },
        [put('s')],
      )
      assert.equal(status, 413)
    })
  })

test('a session that gets a new id leaves the list of its user', async (t) => {
  const { send, put, store } = await recorded(t)
  const cookie = put('s', '"userId":"ann"')
  store.addToUser('ann', 's')
  // In Redis, the end of a session does not change the list.
  const removed = t.mock.method(store, 'removeFromUser')
  const { body } = await send(
    async (request) => {
      await request.session.regenerate(['userId'])
      return { id: request.session.sessionId }
    },
    [cookie],
  )
  assert.deepEqual(store.idsOfUser('ann'), [body.id])
  assert.deepEqual(
    removed.mock.calls.map((call) => call.arguments),
    [['ann', 's']],
  )
})

describe('anonymous sessions beyond the limit', () => {
  test('are not saved, but those that are stored or have a login are', async (t) => {
    const { send, put } = await recorded(t, { anonymous: { perMinute: 1 } })
    const calls = async (does: Handler, ...cookies: string[]) => (await send(does, cookies)).calls
    assert.deepEqual([await calls(change), await calls(change)], [['write'], []])
    const { sent } = await send(async ({ session }) => {
      session.a = 1
      await session.save()
    })
    assert.equal(sent, undefined, 'no cookie names a session that was not saved')
    const stored = put('s', '"a":1', `{"at":${Date.now()},"anonymous":3600000}`)
    assert.deepEqual(await calls(change, stored), ['read', 'merge "b"'])
    const login: Handler = ({ session }) => {
      session.userId = 'ann'
    }
    assert.deepEqual(await calls(login), ['write'])
    assert.deepEqual(await calls((request) => request.session.regenerate()), ['write'])
  })
})
