import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HeaderLines } from '../../../src/edge/http/headers.ts'
import { headersOf, isField, linesOf, targetOf } from '../../../src/edge/plugin/request.ts'
import { fieldsOf, sendable } from '../../../src/edge/plugin/response-headers.ts'
import { rewriteCookie, rewriteLocation, splitPrefix, withParams } from '../../../src/edge/plugin/rewrite.ts'

const mapping = { outside: '/api', inside: '/shop', isUpstream: (host: string) => host === 'up:1' }
const root = { ...mapping, outside: '', inside: '' }

describe('a path', () => {
  it('is split after as many segments as the prefix has, as the client spelled them', () => {
    for (const [path, prefix, outside, rest] of [
      ['/api/v1/users', '/api/v1', '/api/v1', '/users'],
      ['/API/x/users/', '/api/:id', '/API/x', '/users/'],
      ['//api//v1//users', '/api/v1', '/api/v1', '//users'],
      ['/api', '/api', '/api', ''],
      ['/api/', '/api/', '/api', '/'],
      ['/users', '', '', '/users'],
      ['/users', '/', '', '/users'],
    ] as const)
      assert.deepEqual(splitPrefix(path, prefix), { outside, rest }, path)
  })

  it('has the parameters of the request, encoded', () => {
    const params = { id: 'a/b', n: 7 }
    assert.equal(withParams('/u/:id/:n/:other/:toString', params), '/u/a%2Fb/7/:other/:toString')
    for (const none of [undefined, null]) assert.equal(withParams('/u/:id', none), '/u/:id')
  })

  it('of a URL has neither fragment nor host, and its query with the question mark', () => {
    for (const [url, path, search] of [
      ['/a?b=1', '/a', '?b=1'],
      ['/a', '/a', ''],
      ['/a?', '/a', '?'],
      ['/a#b?c', '/a', ''],
      ['/a?b#c', '/a', '?b'],
      ['http://other/a?b', '/a', '?b'],
      ['?b', '', '?b'],
      ['/a..b/...', '/a..b/...', ''],
      ['/caf\xe9', '/caf\xe9', ''],
    ] as const)
      assert.deepEqual(targetOf(url), { path, search }, url)
    for (const url of ['/a/../b', '/..', '/a/%2e%2E/b', '/a/.%2e', 'nonsense', '/a b', '/a?b c', '/a\u0100', '/a?\x7f'])
      assert.throws(() => targetOf(url), { code: 'FLEET_ERR_REQUEST_INVALID' }, url)
  })
})

describe('a Location', () => {
  const at = (location: string, of = mapping): string => rewriteLocation(location, of)

  it('below the route is as the client sees it', () => {
    for (const [location, expected] of [
      ['/shop/a?b#c', '/api/a?b#c'],
      ['/shop', '/api'],
      ['/shop?a', '/api?a'],
      ['/shop#a', '/api#a'],
      ['http://up:1/shop/a', '/api/a'],
      ['HTTPS://UP:1/shop/a', '/api/a'],
      ['//up:1/shop/a', '/api/a'],
    ] as const)
      assert.equal(at(location), expected)
    assert.equal(at('http://up:1', root), '/')
    assert.equal(at('http://up:1/', root), '/')
    assert.equal(at('http://up:1//evil/a', root), '/evil/a')
    assert.equal(at('http://up:1/shop', { ...root, inside: '/shop' }), '/')
    assert.equal(at('http://up:1', { ...root, outside: '/api' }), '/api/')
  })

  it('elsewhere stays', () => {
    for (const location of [
      ...[
        'http://other/shop/a',
        'http://up:2/shop',
        '//other/shop',
        'http://up:1/other',
        '/shops',
        '/other',
        'a',
        '../a',
        '',
      ],
      ...['?a', 'mailto:a@up:1/shop', 'ftp://up:1/shop'],
    ])
      assert.equal(at(location), location)
  })
})

describe('a cookie', () => {
  const as = (cookie: string, domain?: string): string => rewriteCookie(cookie, mapping, domain)

  it('has the path of the route', () => {
    assert.equal(as('a=b; Path=/shop; Secure'), 'a=b; Path=/api; Secure')
    assert.equal(as('a=b; path = /shop/'), 'a=b; Path=/api')
    assert.equal(as('a=b; Path=/shop/x//'), 'a=b; Path=/api/x')
    for (const kept of ['a=b; Path=/other', 'a=b; Path=shop', 'a=b; Path', 'a=b; Path=', 'a=path; XPath=/shop', 'a=b'])
      assert.equal(as(kept), kept)
    assert.equal(rewriteCookie('a=b; Path=/shop', { ...mapping, outside: '' }, undefined), 'a=b; Path=/')
    assert.equal(rewriteCookie('a=b; Path=/', root, undefined), 'a=b; Path=/')
    assert.equal(rewriteCookie('a=b; Path=/', { ...root, outside: '/api' }, undefined), 'a=b; Path=/api')
  })

  it('loses the domain of the upstream, or gets another', () => {
    assert.equal(as('a=b; Domain=up:1; Secure'), 'a=b; Secure')
    assert.equal(as('a=b; domain=.UP:1'), 'a=b')
    assert.equal(as('a=b; Domain=other'), 'a=b; Domain=other')
    assert.equal(as('a=b; Domain=other; Secure', 'own'), 'a=b; Domain=own; Secure')
    assert.equal(as('a=b', 'own'), 'a=b')
    assert.equal(as('a=b; XDomain=up:1; DomainX=up:1'), 'a=b; XDomain=up:1; DomainX=up:1')
  })

  it('that is bound to its host stays as it is', () => {
    for (const cookie of ['__Host-a=b; Path=/shop; Domain=up:1', ' __host-a=b; Domain=up:1'])
      assert.equal(as(cookie, 'own'), cookie)
    assert.equal(as('a__Host-=b; Domain=up:1'), 'a__Host-=b')
  })
})

describe('headers that an app changes', () => {
  it('of a request are an object, with lists for those that repeat', () => {
    const lines = new HeaderLines()
    for (const [name, value] of [
      ['a', '1'],
      ['b', '2'],
      ['a', '3'],
      ['a', '4'],
    ] as const)
      lines.push(name, value)
    assert.deepEqual({ ...headersOf(lines) }, { a: ['1', '3', '4'], b: '2' })
  })

  it('of a request lose those that frame the message or describe the connection', () => {
    const lines = linesOf({
      Host: 'x',
      host: 'h',
      A: '1',
      b: ['2', '3'],
      c: undefined,
      TE: 'x',
      Trailer: 'x',
      Expect: 'x',
    })
    assert.equal(lines.text, 'host: x\r\nhost: h\r\na: 1\r\nb: 2\r\nb: 3\r\n')
    assert.equal(lines.hasHost, true)
    for (const host of [undefined, '', ['a']]) {
      const none = linesOf({ host, a: '1' })
      assert.deepEqual([none.text, none.hasHost], ['a: 1\r\n', false])
    }
  })

  it('are rejected if they cannot be sent', () => {
    for (const [name, value] of [
      ['a b', '1'],
      ['', '1'],
      ['a', 'x\ny'],
      ['a', '\u0100'],
      ['b', ['1', 'x\r']],
    ] as const) {
      assert.equal(isField(name, value as string), false)
      assert.throws(() => linesOf({ [name]: value as string }), { code: 'FLEET_ERR_OPTION_INVALID' })
      assert.throws(() => sendable({ [name]: value as string }, false), { code: 'FLEET_ERR_OPTION_INVALID' })
    }
    for (const value of ['', '\t x\xff', ['1', '2']]) assert.equal(isField('X-a!', value), true)
    assert.deepEqual(
      { ...sendable({ a: '1', B: ['2'], c: undefined, 'Transfer-Encoding': 'chunked' }, false) },
      { a: '1', B: ['2'] },
    )
  })

  it('of a response have at most 60,000 bytes over HTTP/2, with 12 more for each', () => {
    const headers = (size: number) => ({ a: ['x'.repeat(1000), 'y'], bb: 'z'.repeat(size - 1000 - 1 - 2 * 13 - 14) })
    sendable(headers(60_000), true)
    assert.throws(() => sendable(headers(60_001), true), { code: 'FLEET_ERR_UPSTREAM_FAILED' })
    sendable(headers(60_001), false)
  })

  it('of a response come with the cookie of the balancer, without trailers and hops', () => {
    const received = { a: '1', trailer: 't', connection: 'close', etag: ['x', 'y'], 'set-cookie': 'b' }
    assert.deepEqual({ ...fieldsOf(received, 'c=d') }, { a: '1', etag: 'x', 'set-cookie': ['b', 'c=d'] })
    assert.deepEqual({ ...fieldsOf({ a: '1' }, undefined) }, { a: '1' })
  })
})
