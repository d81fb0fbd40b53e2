import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { Script } from 'node:vm'
import Fastify from 'fastify'
import { dashboard } from '../../src/dashboard/index.ts'
import { fleet } from '../../src/fleet.ts'
import { operators } from '../../src/instance/operators/index.ts'
import { Tickets } from '../../src/instance/operators/tickets.ts'
import { codeOf, cookieOf, enter, json, page, start, token } from './operators.ts'

describe('the sign-in page', () => {
  it('is shown to browsers that are not signed in and exposes nothing of the fleet', async (t) => {
    const { url } = await start(t)
    const response = await fetch(`${url}/fleet`, { headers: page })
    const html = await response.text()
    assert.equal(response.status, 401)
    assert.equal(response.headers.get('www-authenticate'), 'Bearer')
    assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8')
    assert.equal(response.headers.get('cache-control'), 'no-store')
    assert.equal(response.headers.get('referrer-policy'), 'no-referrer')
    assert.doesNotMatch(html, /shop|https?:\/\/(?!www\.w3\.org\/2000\/svg)/)
    assert.match(html, / data-root="fleet"/, 'relative, for a proxy that serves it under another prefix')
    assert.match(html, /<label for="token">/)
    assert.match(html, /role="alert"/)
    const policy = response.headers.get('content-security-policy') ?? ''
    assert.match(policy, /^default-src 'none'; .*frame-ancestors 'none'$/)
    for (const tag of ['script', 'style']) {
      const source = new RegExp(`<${tag}>(.*?)</${tag}>`, 's').exec(html)?.[1] ?? ''
      assert.ok(policy.includes(`${tag}-src 'sha256-${createHash('sha256').update(source).digest('base64')}'`), tag)
    }
    assert.doesNotThrow(() => new Script(/<script>(.*?)<\/script>/s.exec(html)?.[1] ?? 'throw'))
  })

  it('does not exist for programs, without a token, or for networks outside `allow`', async (t) => {
    const { app: own, url } = await start(t)
    assert.equal((await fetch(`${url}/fleet`)).status, 404)
    assert.equal((await own.inject('/fleet')).statusCode, 404, 'without Accept')
    assert.equal((await fetch(`${url}/fleet/state`, { headers: page })).status, 404)
    const elsewhere = await start(t, { operators: { loopback: false, allow: ['192.0.2.0/24'] } })
    assert.equal((await fetch(`${elsewhere.url}/fleet`, { headers: page })).status, 404)
    assert.equal((await enter(elsewhere.url, { token })).status, 404)
    const bearer = { authorization: `Bearer ${token}` }
    assert.equal((await fetch(`${elsewhere.url}/fleet`, { headers: bearer })).status, 200)
    const proxied = { 'x-forwarded-for': '192.0.2.9' }
    const near = await start(t, { operators: { allow: ['192.0.2.0/24'] } })
    assert.equal((await fetch(`${near.url}/fleet`, { headers: page })).status, 401)
    assert.equal((await fetch(`${near.url}/fleet`, { headers: { ...page, ...proxied } })).status, 404)

    const app = Fastify()
    t.after(() => app.close())
    await app.register(fleet, { lifecycle: { signals: false }, redis: { client: null } })
    const development = await app.listen({ port: 0, host: '127.0.0.1' })
    assert.equal((await enter(development, { token })).status, 404)
    assert.equal((await fetch(`${development}/fleet`, { headers: { ...page, ...proxied } })).status, 404)
    assert.equal((await fetch(`${development}/fleet`, { headers: page })).status, 200)
  })
})

describe('signing in', () => {
  it('exchanges the token for a cookie that is hidden from scripts, other sites and other paths', async (t) => {
    const { app, url } = await start(t)
    const response = await enter(url, { token })
    assert.equal(response.status, 204)
    const cookies = response.headers.getSetCookie()
    assert.deepEqual(cookies.map((cookie) => /; Path=([^;]+)/.exec(cookie)?.[1]).sort(), [
      '/api/v1/load-balancer',
      '/fleet',
      '/health/detailed',
      '/metrics',
    ])
    for (const attributes of cookies) {
      assert.match(attributes, /^fleet_operator=[\w.-]+; Path=[^;]+; Max-Age=28800; HttpOnly; SameSite=Strict$/)
      assert.doesNotMatch(attributes, new RegExp(token))
    }
    const cookie = cookieOf(response)
    for (const path of ['/fleet', '/fleet/state', '/metrics', '/api/v1/load-balancer/config', '/health/detailed']) {
      assert.equal((await fetch(url + path, { headers: { cookie } })).status, 200, path)
    }
    assert.match(await (await fetch(`${url}/fleet`, { headers: { cookie } })).text(), /id="sign-out">/)
    const bearer = await fetch(`${url}/fleet`, { headers: { authorization: `Bearer ${token}` } })
    assert.match(await bearer.text(), /id="sign-out" hidden>/)

    const drain = (headers: Record<string, string>): Promise<Response> =>
      fetch(`${url}/fleet/drain`, {
        method: 'POST',
        headers: { cookie, ...json, ...headers },
        body: JSON.stringify({ instance: app.fleet.instance.id }),
      })
    for (const foreign of [{ origin: 'https://evil.example' }, { 'sec-fetch-site': 'same-site' }] as Record<
      string,
      string
    >[]) {
      const rejected = await drain(foreign)
      assert.equal(rejected.status, 403)
      assert.equal(await codeOf(rejected), 'FLEET_ERR_ORIGIN_UNPROVEN')
      assert.equal((await fetch(`${url}/fleet/state`, { headers: { cookie, ...foreign } })).status, 404)
    }
    assert.equal(app.fleet.state, 'serving')
    assert.equal((await drain({ origin: url })).status, 202)
    assert.equal(app.fleet.state, 'draining')
  })

  it('sends the cookie to the dashboard of an app with a prefix', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(operators, { token })
    await app.register(async (scope) => void (await scope.register(dashboard)), { prefix: '/shop' })
    const response = await app.inject({ method: 'POST', url: '/shop/fleet/session', headers: json, payload: { token } })
    assert.equal(response.statusCode, 204)
    const paths = response.cookies.map(({ path }) => path)
    assert.ok(paths.includes('/shop/fleet') && !paths.includes('/fleet') && !paths.includes('/'), String(paths))
  })

  it('deletes the cookie on sign-out, which other sites cannot trigger', async (t) => {
    const { url } = await start(t)
    const leave = (headers: Record<string, string>): Promise<Response> =>
      fetch(`${url}/fleet/session`, { method: 'DELETE', headers })
    assert.equal((await leave({})).status, 403)
    assert.equal((await leave({ origin: 'https://evil.example', ...json })).status, 403)
    const response = await leave({ 'sec-fetch-site': 'same-origin' })
    assert.equal(response.status, 204)
    for (const cookie of response.headers.getSetCookie()) assert.match(cookie, /^fleet_operator=; Path=.*; Max-Age=0; /)
  })

  it('marks the cookie Secure if a trusted proxy reports https', async (t) => {
    const { url } = await start(t, {}, { trustProxy: '127.0.0.1' })
    const secure = await enter(
      url,
      { token },
      { ...json, 'x-forwarded-proto': 'https', 'x-forwarded-for': '192.0.2.1' },
    )
    assert.match(secure.headers.getSetCookie()[0] ?? '', /; SameSite=Strict; Secure$/)
    assert.equal(secure.headers.get('cache-control'), 'no-store')
    const over = await fetch(`${url}/fleet/session`, {
      method: 'DELETE',
      headers: { 'sec-fetch-site': 'same-origin', 'x-forwarded-proto': 'https', 'x-forwarded-for': '192.0.2.1' },
    })
    assert.match(over.headers.getSetCookie()[0] ?? '', /; Secure$/)
    assert.equal(over.headers.get('cache-control'), 'no-store')
  })

  it('rejects wrong tokens with 401, invalid bodies with 400 and other sites with 403', async (t) => {
    const { url } = await start(t)
    for (const wrong of [{ token: '' }, { token: `${token}x` }, { code: token }, { code: '1.2.3.4' }]) {
      const response = await enter(url, wrong)
      assert.equal(response.status, 401)
      assert.equal(await codeOf(response), 'FLEET_ERR_SIGN_IN_FAILED')
      assert.deepEqual(response.headers.getSetCookie(), [])
    }
    for (const none of [{}, [], { token: 7 }, { token: null }, null]) {
      const response = await enter(url, none)
      assert.deepEqual([response.status, await codeOf(response)], [400, 'FLEET_ERR_REQUEST_INVALID'])
    }
    assert.equal((await enter(url, { token: 'x'.repeat(10_000) })).status, 413)
    for (const headers of [
      { 'content-type': 'text/plain' },
      { ...json, origin: 'https://evil.example' },
      { ...json, 'sec-fetch-site': 'cross-site' },
    ] as Record<string, string>[]) {
      assert.equal((await enter(url, { token }, headers)).status, 403)
    }
  })

  it('rate-limits a client after ten failed attempts, and no other client', async (t) => {
    const { app, url } = await start(t)
    for (let i = 0; i < 10; i++) assert.equal((await enter(url, { token: `wrong ${i}` })).status, 401)
    const late = await enter(url, { token })
    assert.equal(late.status, 429)
    assert.equal(await codeOf(late), 'FLEET_ERR_RATE_LIMITED')
    assert.ok(Number(late.headers.get('retry-after')) > 0)
    const from = async (remoteAddress: string, given: string): Promise<number> =>
      (
        await app.inject({
          method: 'POST',
          url: '/fleet/session',
          headers: json,
          payload: { token: given },
          remoteAddress,
        })
      ).statusCode
    assert.equal(await from('192.0.2.7', token), 204)
    assert.equal(await from('::ffff:192.0.2.8', token), 204)
    for (let i = 0; i < 10; i++) assert.equal(await from(`2001:db8:1:2::${i}`, 'wrong'), 401)
    assert.equal(await from('2001:db8:1:2:ffff::1', token), 429, 'a client has a whole /64')
    assert.equal(await from('2001:db8:1:3::1', token), 204)
  })

  it('rejects cookies that are forged, expired, of another kind or of another token', async (t) => {
    const { url } = await start(t)
    const good = new Tickets(token).issue('session', 60_000)
    const state = async (value: string): Promise<number> =>
      (await fetch(`${url}/fleet/state`, { headers: { cookie: value } })).status
    assert.equal(await state(`fleet_operator=${good}`), 200)
    assert.equal(await state(`a=b; fleet_operator=stale; fleet_operator=${good}`), 200, 'beside an old one')
    const [issued, , ...rest] = good.split('.')
    for (const bad of [
      new Tickets(token).issue('link', 60_000),
      new Tickets(token).issue('session', -1),
      new Tickets(`${token}x`).issue('session', 60_000),
      [issued, 'zzzzzzzzz', ...rest].join('.'),
      good.slice(0, -1),
      `${good}.`,
      '',
    ]) {
      assert.equal(await state(`fleet_operator=${bad}`), 404, bad)
    }
    assert.equal(await state(`xfleet_operator=${good}`), 404)
    const wrongBearer = { cookie: `fleet_operator=${good}`, authorization: 'Bearer wrong' }
    assert.equal((await fetch(`${url}/fleet/state`, { headers: wrongBearer })).status, 404)
  })
})

describe('a link that signs in', () => {
  const code = (lifetimeMs = 60_000): string => new Tickets(token).issue('link', lifetimeMs)

  it('works once per process without Redis, and not if it is older than the process', async (t) => {
    const before = code()
    const { url } = await start(t)
    const link = code()
    assert.equal((await enter(url, { code: link })).status, 204)
    assert.equal((await enter(url, { code: link })).status, 401)
    assert.equal((await enter(url, { code: before })).status, 401)
    assert.equal((await enter(url, { code: code(-1) })).status, 401)
    const session = new Tickets(token).issue('session', 60_000)
    assert.equal((await enter(url, { code: session })).status, 401)
  })
})
