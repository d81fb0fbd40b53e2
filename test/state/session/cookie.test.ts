import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { inPath, isTouchDue, lifetimeOf, SessionCookie, toStored } from '../../../src/state/session/cookie.ts'

const now = 1_800_000_000_000
const freeze = (t: TestContext): void => t.mock.timers.enable({ apis: ['Date'], now })

describe('the cookie of a session', () => {
  test('expires `maxAge` from now, unless it was stored with its end', (t) => {
    freeze(t)
    assert.equal(new SessionCookie({ maxAge: 5_000 }, false).expires?.getTime(), now + 5_000)
    const stored = new SessionCookie({ originalMaxAge: 5_000, expires: now + 1_000 }, false)
    assert.deepEqual([stored.expires?.getTime(), stored.maxAge, stored.originalMaxAge], [now + 1_000, 1_000, 5_000])
    const fixed = new SessionCookie({ expires: new Date(now + 7_000) }, false)
    assert.deepEqual([fixed.expires?.getTime(), fixed.originalMaxAge], [now + 7_000, null])
    const none = new SessionCookie({ maxAge: null }, false)
    assert.deepEqual([none.expires, none.maxAge, none.originalMaxAge], [null, null, null])
    assert.equal(new SessionCookie({ expires: 'never' }, false).expires, null)
  })

  test('takes an end, or a lifetime, that a handler sets', (t) => {
    freeze(t)
    const cookie = new SessionCookie({ maxAge: 5_000, anonymous: 1_000 }, false)
    cookie.expires = new Date(now + 9_000)
    assert.deepEqual([cookie.maxAge, cookie.originalMaxAge, cookie.anonymous], [9_000, 5_000, 1_000])
    cookie.maxAge = 3_000
    assert.deepEqual([cookie.maxAge, cookie.originalMaxAge, cookie.anonymous], [3_000, 3_000, 3_000])
    cookie.maxAge = null
    assert.deepEqual([cookie.expires, cookie.originalMaxAge, cookie.anonymous], [null, null, 3_000])
  })

  test('has all its attributes as JSON, and `anonymous` only if it is', () => {
    const attributes = { path: '/a', httpOnly: false, secure: true, sameSite: 'strict', domain: 'shop.test' } as const
    const time = { expires: null, originalMaxAge: null }
    const cookie = new SessionCookie({ ...attributes, partitioned: true }, true)
    assert.deepEqual(cookie.toJSON(), { ...time, ...attributes, partitioned: true })
    assert.equal('anonymous' in cookie.toJSON(), false)
    cookie.anonymous = 5
    assert.equal(cookie.toJSON().anonymous, 5)
  })

  test('is stored with the time of the visit if its end does not tell it', (t) => {
    freeze(t)
    const stored = (given: object) => {
      const { at, expires, originalMaxAge } = toStored(new SessionCookie(given, false), new SessionCookie({}, false))
      return [at, expires, originalMaxAge]
    }
    assert.deepEqual(stored({ maxAge: 5_000 }), [undefined, now + 5_000, 5_000])
    assert.deepEqual(stored({ expires: now + 1_000 }), [now, now + 1_000, null])
    assert.deepEqual(stored({}), [now, null, null])
  })

  test('applies to its path and the paths below it', () => {
    const applies = (url: string, path: string): boolean => inPath({ raw: { url } } as never, path)
    for (const [url, path, expected] of [
      ['/', '/', true],
      ['/x', '/', true],
      ['/app', '/app', true],
      ['/app?x', '/app', true],
      ['/app/x', '/app', true],
      ['/app/x', '/app/', true],
      ['/app', '/app/', false],
      ['/apple', '/app', false],
      ['/x/app', '/app', false],
      ['/x?/app', '/app', false],
    ] as const)
      assert.equal(applies(url, path), expected, `${url} ${path}`)
    assert.equal(inPath({ raw: {} } as never, '/app'), false)
  })
})

describe('the lifetime of a stored session', () => {
  test('is that of its cookie, else the default, and for an anonymous one at most its own', (t) => {
    freeze(t)
    assert.equal(lifetimeOf({}, 60_000), 60_000)
    assert.equal(lifetimeOf({ expires: now + 1_234.4 }, 60_000), 1_234)
    assert.equal(lifetimeOf({ expires: new Date(now + 1_000).toISOString() }, 60_000), 1_000)
    assert.equal(lifetimeOf({ anonymous: 500 }, 60_000), 500)
    assert.equal(lifetimeOf({ anonymous: 5_000, expires: now + 1_000 }, 60_000), 1_000)
    for (const expires of [now, now - 1_000]) assert.equal(lifetimeOf({ expires }, 60_000), 1)
  })

  test('is extended from `touchAfterMs` on, counted from the last extension', (t) => {
    freeze(t)
    const due = (cookie: object): boolean => isTouchDue(cookie, { ttlMs: 10_000, touchAfterMs: 1_000 })
    assert.deepEqual([due({ at: now - 999 }), due({ at: now - 1_000 })], [false, true])
    const ends = (inMs: number) => ({ expires: now + inMs, originalMaxAge: 10_000 })
    assert.deepEqual([due(ends(9_001)), due(ends(9_000))], [false, true])
    assert.deepEqual([due({ ...ends(9_000), at: now }), due({}), due({ expires: now })], [false, false, false])
    // A tenth of its life, as for others.
    const anonymous = (agoMs: number) => due({ at: now - agoMs, anonymous: 2_000 })
    assert.deepEqual([anonymous(199), anonymous(200)], [false, true])
    assert.equal(due({ at: now - 1_000, anonymous: 50_000 }), true, 'no later than others')
    const own = (agoMs: number, originalMaxAge = 2_000) =>
      due({ expires: now + originalMaxAge - agoMs, originalMaxAge })
    assert.deepEqual([own(199), own(200), own(999, 50_000), own(1_000, 50_000)], [false, true, false, true])
  })
})
