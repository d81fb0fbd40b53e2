import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  bearerToken,
  cameThroughProxy,
  changesState,
  initiatorOf,
  isAddressHost,
  isLoopbackHost,
  isNavigation,
  isProvenChange,
  requestedHost,
  SecretToken,
} from '../../src/base/operator-access.ts'

const value = <T, R>(of: (given: T) => R, given: readonly T[]): R[] => given.map((each) => of(each))

describe("an operator's token", () => {
  const token = 'a'.repeat(32)

  it('has 32 bytes at least, and equals itself only', () => {
    const secret = new SecretToken(token, 'FLEET_ADMIN_TOKEN')
    assert.deepEqual(
      value((guess) => secret.equals(guess), [token, `${token}a`, 'a'.repeat(31), `b${'a'.repeat(31)}`, '']),
      [true, false, false, false, false],
    )
    assert.throws(() => new SecretToken('a'.repeat(31), 'FLEET_ADMIN_TOKEN'), {
      code: 'FLEET_ERR_SECRET_WEAK',
      message: /FLEET_ADMIN_TOKEN/,
    })
    // Bytes, not characters.
    assert.equal(new SecretToken('é'.repeat(16), 'x').equals('é'.repeat(16)), true)
  })

  it('follows `Bearer` in any case, and no other scheme', () => {
    const bearer = (authorization?: string) => bearerToken({ authorization })
    assert.deepEqual(value(bearer, ['Bearer abc', 'bearer  abc ', 'BEARER a b', 'Bearer ']), ['abc', 'abc', 'a b', ''])
    assert.deepEqual(value(bearer, [undefined, '', 'Bearer', 'Basic abc', 'xBearer abc', 'Basic Bearer abc']), [
      ...new Array(6).fill(undefined),
    ])
  })
})

describe('a request', () => {
  it('came through a proxy if it has a header that only proxies add', () => {
    const names =
      'forwarded via x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip fastly-client-ip cdn-loop x-amzn-trace-id x-envoy-external-address x-forwarded-for x-forwarded-prefix'
    for (const name of names.split(' ')) assert.equal(cameThroughProxy({ host: 'a', [name]: 'x' }), true, name)
    for (const name of ['host', 'x-forwarded', 'not-x-forwarded-for', 'x-request-id', ''])
      assert.equal(cameThroughProxy({ [name]: 'x' }), false, name)
    assert.equal(cameThroughProxy({}), false)
  })

  it('asks for a host: a name or address in lower case without its port', () => {
    const host = (name: string | undefined) => requestedHost({ host: name })
    assert.deepEqual(value(host, ['Fleet.Example:8080', 'localhost', '[::1]:80', '[FE80::1]', '10.0.0.1:1']), [
      'fleet.example',
      'localhost',
      '[::1]',
      '[fe80::1]',
      '10.0.0.1',
    ])
    assert.deepEqual(value(host, [undefined, '', 'a b', 'a:123456', 'a:', '::1', 'a/b', '[x]', 'u@a']), [
      ...new Array(9).fill(undefined),
    ])
    assert.equal(requestedHost({ ':authority': 'two.example', host: 'one.example' }), 'two.example')
  })

  it('asks for this machine by a loopback address or a name below localhost', () => {
    for (const name of ['localhost', 'a.localhost', 'a.b.localhost', '[::1]', '127.0.0.1', '127.9.9.9'])
      assert.equal(isLoopbackHost(name), true, name)
    for (const name of [
      'localhost.example',
      'xlocalhost',
      '.localhost',
      '[::2]',
      '128.0.0.1',
      '127.example',
      '::1',
      '',
    ])
      assert.equal(isLoopbackHost(name), false, name)
  })

  it('asks for an address or for a name', () => {
    for (const name of ['127.0.0.1', '[::1]', '::1', '10.1.2.3']) assert.equal(isAddressHost(name), true, name)
    for (const name of ['localhost', 'a.example', '[a]', '', '10.0.0']) assert.equal(isAddressHost(name), false, name)
  })

  it('changes state unless it is GET, HEAD or OPTIONS', () => {
    assert.deepEqual(value(changesState, ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'DELETE', 'get', undefined]), [
      false,
      false,
      false,
      ...new Array(5).fill(true),
    ])
  })

  it('is a navigation if it is a GET for a document', () => {
    const navigation = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
    assert.equal(isNavigation('GET', navigation), true)
    assert.equal(isNavigation('POST', navigation), false)
    assert.equal(isNavigation('GET', { ...navigation, 'sec-fetch-mode': 'cors' }), false)
    assert.equal(isNavigation('GET', { ...navigation, 'sec-fetch-dest': 'iframe' }), false)
    assert.equal(isNavigation('GET', {}), false)
  })
})

describe('the page that sent a request', () => {
  const host = 'fleet.example:8080'
  const own = 'http://fleet.example:8080'

  it('is of this server if Sec-Fetch-Site and Origin say so, as far as they are present', () => {
    const same = [
      { host, origin: own },
      { host, origin: 'HTTP://FLEET.example:8080' },
      { host: 'fleet.example:443', origin: 'https://fleet.example' },
      { host: 'fleet.example', origin: 'http://fleet.example:80' },
      { host, 'sec-fetch-site': 'same-origin' },
      { host, 'sec-fetch-site': 'same-origin', origin: own },
      { ':authority': host, origin: own },
    ]
    for (const headers of same) assert.equal(initiatorOf(headers), 'same-origin', JSON.stringify(headers))
  })

  it('is of another site if one of them says so, or is not valid', () => {
    const cross = [
      { host, origin: 'http://fleet.example' },
      { host, origin: 'http://fleet.example:8081' },
      { host, origin: 'http://evil.example:8080' },
      { host, origin: 'null' },
      { host, origin: '' },
      { host, origin: 'file:///a' },
      { origin: 'http://a' },
      { host: '', origin: 'data:x' },
      { host, 'sec-fetch-site': 'cross-site' },
      { host, 'sec-fetch-site': 'same-site' },
      { host, 'sec-fetch-site': 'none' },
      { host, 'sec-fetch-site': 'cross-site', origin: own },
      { host, 'sec-fetch-site': 'same-origin', origin: 'http://evil.example' },
    ]
    for (const headers of cross) assert.equal(initiatorOf(headers), 'cross-origin', JSON.stringify(headers))
  })

  it('is unknown without both headers', () => assert.equal(initiatorOf({ host }), 'unknown'))

  it('proves a change if it is of this server, or if it is none and the type is JSON', () => {
    const json = { 'content-type': 'application/json' }
    assert.equal(isProvenChange({ host, origin: own, 'content-type': 'text/plain' }), true)
    assert.equal(isProvenChange({ host, origin: 'http://evil.example', ...json }), false)
    assert.equal(isProvenChange({ host, 'sec-fetch-site': 'cross-site', ...json }), false)
    for (const type of ['application/json', 'Application/JSON; charset=utf-8', 'application/json ;a'])
      assert.equal(isProvenChange({ host, 'content-type': type }), true, type)
    for (const type of [undefined, '', 'text/plain', 'text/plain;application/json', 'application/jsonx'])
      assert.equal(isProvenChange({ host, 'content-type': type }), false, type)
  })
})
