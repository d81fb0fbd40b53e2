import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { describe, type TestContext, test } from 'node:test'
import { Signer as Hmac } from '@fastify/cookie'
import Fastify, { type FastifyRequest } from 'fastify'
import { isHttps } from '../../../src/instance/client-key.ts'
import { identity } from '../../../src/instance/identity.ts'
import { inPath, isTouchDue, lifetimeOf, SessionCookie, toStored } from '../../../src/state/session/cookie.ts'
import { CookieSigner } from '../../../src/state/session/signer.ts'

const old = 'the older secret, which has more than 32 bytes'
const current = 'the current secret, which has more than 32 bytes'
const signature = (id: string, secret: string, algorithm = 'sha256'): string =>
  createHmac(algorithm, secret).update(id).digest('base64').replace(/=+$/, '')
const rejected = { valid: false, renew: false, value: null }

describe('the signature of a session cookie', () => {
  test('covers the id: another id, another signature, a part of one and none are rejected', () => {
    const signer = new CookieSigner([current], 'sha256')
    const good = signer.sign('the-id')
    assert.equal(good, `the-id.${signature('the-id', current)}`)
    assert.deepEqual(signer.unsign(good), { valid: true, renew: false, value: 'the-id' })
    for (const forged of [
      good.replace('the-id', 'an-id'),
      good.slice(0, -1),
      `${good}x`,
      good.replace('.', ''),
      'the-id.',
      'the-id',
      '.',
      '',
      `the-id.${signature('the-id', old)}`,
      `the-id.${signature('the-id', '')}`,
      `the-id.${signature('the-id', current, 'sha512')}`,
    ])
      assert.deepEqual(signer.unsign(forged), rejected, forged)
  })

  test('is checked again for another id with the signature of one that was accepted before', () => {
    const signer = new CookieSigner([current], 'sha256')
    const good = signer.sign('the-id')
    for (const _ of [1, 2]) assert.equal(signer.unsign(good).valid, true)
    // The end of the cookie is the same, and is the key of the cache of accepted signatures.
    for (const _ of [1, 2]) assert.deepEqual(signer.unsign(`an-${good}`), rejected)
    assert.equal(signer.unsign(good).value, 'the-id')
  })

  test('is remembered for the last 10,000 that were accepted, and for none that was rejected', (t) => {
    const signer = new CookieSigner([current], 'sha256')
    const all = Array.from({ length: 10_001 }, (_, i) => signer.sign(`id-${i}`))
    const checked = t.mock.method(Hmac.prototype, 'unsign')
    const countOf = (...cookies: string[]): number => {
      checked.mock.resetCalls()
      for (const cookie of cookies) signer.unsign(cookie)
      return checked.mock.callCount()
    }
    assert.equal(countOf(...all.slice(0, 10_000)), 10_000)
    assert.equal(countOf(...all.slice(0, 10_000)), 0)
    assert.equal(countOf(...all.slice(10_000), ...all.slice(1)), 1)
    assert.equal(countOf(all[0] as string), 1, 'the oldest one was dropped')
    assert.equal(countOf('x.y', 'x.y'), 2)
  })

  test('may be that of an older secret, which asks for a new cookie, each time', () => {
    const signer = new CookieSigner([current, old], 'sha256')
    const signed = `the-id.${signature('the-id', old)}`
    for (const _ of [1, 2]) assert.deepEqual(signer.unsign(signed), { valid: true, renew: true, value: 'the-id' })
    assert.equal(signer.sign('the-id'), `the-id.${signature('the-id', current)}`, 'the first secret signs')
  })

  test('of a removed secret is rejected at once, although it was accepted before', () => {
    const secrets = [current, old]
    const signer = new CookieSigner(secrets, 'sha256')
    const signed = `the-id.${signature('the-id', old)}`
    assert.equal(signer.unsign(signed).valid, true)
    secrets.pop()
    assert.deepEqual(signer.unsign(signed), rejected)
    secrets[0] = old
    assert.deepEqual(signer.unsign(signed), { valid: true, renew: false, value: 'the-id' })
    assert.equal(signer.sign('the-id'), signed)
  })

  test('is accepted for 10,000 cookies and more', () => {
    const signer = new CookieSigner([current], 'sha256')
    for (let i = 0; i < 10_002; i++) assert.equal(signer.unsign(signer.sign(`id ${i}`)).value, `id ${i}`)
    assert.equal(signer.unsign(signer.sign('id 0')).value, 'id 0')
  })
})

describe('the lifetime of a session', () => {
  const now = 1_800_000_000_000
  const clock = (t: TestContext) => t.mock.timers.enable({ apis: ['Date'], now })

  test('is that of its cookie, else `ttlMs`, and never less than a millisecond', (t) => {
    clock(t)
    assert.equal(lifetimeOf({}, 5000), 5000)
    assert.equal(lifetimeOf({ expires: null }, 5000), 5000)
    for (const expires of [now + 900, new Date(now + 900), new Date(now + 900).toISOString()])
      assert.equal(lifetimeOf({ expires }, 5000), 900)
    assert.equal(lifetimeOf({ expires: now + 9000 }, 5000), 9000)
    for (const expires of [now, now - 1, now - 9000]) assert.equal(lifetimeOf({ expires }, 5000), 1)
  })

  test('of an anonymous session is the shorter of the two', (t) => {
    clock(t)
    assert.equal(lifetimeOf({ anonymous: 300 }, 5000), 300)
    assert.equal(lifetimeOf({ anonymous: 6000 }, 5000), 5000)
    assert.equal(lifetimeOf({ anonymous: 300, expires: now + 200 }, 5000), 200)
    assert.equal(lifetimeOf({ anonymous: 300, expires: now + 400 }, 5000), 300)
  })

  test('is extended exactly `touchAfterMs` after the last extension', (t) => {
    clock(t)
    const options = { ttlMs: 10_000, touchAfterMs: 1000 }
    for (const [since, due] of [
      [999, false],
      [1000, true],
      [1001, true],
    ] as const) {
      assert.equal(isTouchDue({ at: now - since }, options), due)
      assert.equal(isTouchDue({ expires: now - since + 12_000, originalMaxAge: 12_000 }, options), due)
    }
    assert.equal(isTouchDue({ at: now }, { ...options, touchAfterMs: 0 }), true)
    assert.equal(isTouchDue({}, options), false, 'of a cookie without times')
    assert.equal(isTouchDue({ at: now, expires: now - 9000, originalMaxAge: 7000 }, options), false, '`at` comes first')
  })

  test('of an anonymous session is extended after the same fraction of it, and not later than that of others', (t) => {
    clock(t)
    const options = { ttlMs: 10_000, touchAfterMs: 1000 }
    const due = (since: number, anonymous: number) => isTouchDue({ at: now - since, anonymous }, options)
    assert.deepEqual([due(199, 2000), due(200, 2000)], [false, true])
    assert.deepEqual([due(999, 50_000), due(1000, 50_000)], [false, true])
  })

  test('set by a handler starts anew, and applies to an anonymous session too', (t) => {
    clock(t)
    const cookie = new SessionCookie({ maxAge: 5000, anonymous: 1000 }, true)
    assert.equal(cookie.maxAge, 5000)
    cookie.maxAge = 7000
    assert.deepEqual([cookie.originalMaxAge, cookie.maxAge, cookie.anonymous], [7000, 7000, 7000])
    cookie.maxAge = null
    assert.deepEqual([cookie.maxAge, cookie.expires, cookie.anonymous], [null, null, 7000])
  })

  test('is not extended by loading the session, and is by touch()', (t) => {
    clock(t)
    const cookie = new SessionCookie({ originalMaxAge: 5000, expires: now + 100 }, true)
    assert.equal(cookie.maxAge, 100)
    cookie.touch()
    assert.equal(cookie.maxAge, 5000)
  })
})

describe('the cookie of a session', () => {
  test('is HttpOnly for the whole site, unless the options say otherwise', () => {
    const { path, httpOnly, secure, sameSite } = new SessionCookie({}, false)
    assert.deepEqual([path, httpOnly, secure, sameSite], ['/', true, null, null])
    assert.equal(new SessionCookie({ httpOnly: false }, false).httpOnly, false)
  })

  test('with `secure: auto` is Secure over TLS only, and then keeps SameSite=None', () => {
    const given = { secure: 'auto', sameSite: 'none' } as const
    const tls = new SessionCookie(given, true)
    const plain = new SessionCookie(given, false)
    assert.deepEqual([tls.secure, tls.sameSite], [true, 'none'])
    assert.deepEqual([plain.secure, plain.sameSite], [false, 'lax'])
    for (const secure of ['true', 'yes']) assert.equal(new SessionCookie({ secure } as object, false).secure, true)
  })

  test('is stored with its own attributes only, and with 200 characters of the User-Agent', () => {
    const defaults = new SessionCookie({ maxAge: 5000 }, true)
    const own = new SessionCookie({ maxAge: 5000, path: '/shop', domain: 'example.com' }, true)
    const stored = toStored(own, defaults, 'x'.repeat(201))
    assert.deepEqual(Object.keys(stored).sort(), ['agent', 'domain', 'expires', 'originalMaxAge', 'path'])
    assert.equal(stored.agent, 'x'.repeat(200))
    assert.equal('at' in toStored(new SessionCookie({}, true), defaults), true)
  })

  test('applies to its path and what is below it', () => {
    const applies = (url: string, path: string) => inPath({ raw: { url } } as FastifyRequest, path)
    for (const url of ['/shop', '/shop?x', '/shop/', '/shop/a/b', '/shop/?x'])
      assert.equal(applies(url, '/shop'), true, url)
    for (const url of ['/', '/shopping', '/sho', '/a/shop', '/?/shop/']) assert.equal(applies(url, '/shop'), false, url)
    assert.deepEqual([applies('/shop/a', '/shop/'), applies('/shop', '/shop/')], [true, false])
    assert.equal(applies('/anything', '/'), true)
  })

  test('counts as sent over TLS if the connection, or a trusted proxy, says so', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(identity, { trustProxy: ['10.0.0.0/8'] })
    const https = (forwarded?: unknown, protocol = 'http', remoteAddress: string | undefined = '10.1.2.3') =>
      isHttps({
        protocol,
        headers: { 'x-forwarded-proto': forwarded },
        server: app,
        socket: { remoteAddress },
      } as never)
    assert.deepEqual(
      [https(), https('http'), https('https'), https('https, http'), https(' https')],
      [false, false, true, true, true],
    )
    assert.deepEqual([https('http, https'), https('httpsx'), https(['https'])], [false, false, false])
    assert.equal(https('http', 'https'), true)
    for (const stranger of ['192.0.2.1', '127.0.0.1', '::1', '']) assert.equal(https('https', 'http', stranger), false)
    assert.equal(isHttps({ headers: { 'x-forwarded-proto': 'https' } }), false)
  })
})
