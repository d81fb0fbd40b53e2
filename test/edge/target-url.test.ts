import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { addressOf, authorityOf, basePathOf, isTls, parseServer, parseTarget } from '../../src/edge/target-url.ts'

const invalid = { code: 'FLEET_ERR_TARGET_INVALID' }

describe('the URL of a target', () => {
  it('names where to connect, whether over TLS, the Host, and the path in front of all others', () => {
    for (const [text, address, tls, authority, basePath] of [
      ['http://a.example', { host: 'a.example', port: 80 }, false, 'a.example', ''],
      ['https://a.example/', { host: 'a.example', port: 443 }, true, 'a.example', ''],
      ['http://a:8080/base//', { host: 'a', port: 8080 }, false, 'a:8080', '/base'],
      ['https://[::1]:8443/a/b', { host: '::1', port: 8443 }, true, '[::1]:8443', '/a/b'],
      ['http://10.0.0.1:443', { host: '10.0.0.1', port: 443 }, false, '10.0.0.1:443', ''],
      ['tcp://a:5432', { host: 'a', port: 5432 }, false, 'a:5432', ''],
      ['unix+http://%2Frun%2Fa.sock/x', { path: '/run/a.sock' }, false, 'localhost', '/x'],
      ['unix+https://%2Frun%2Fa.sock', { path: '/run/a.sock' }, true, 'localhost', ''],
      ['http+unix://%2Frun%2Fa.sock', { path: '/run/a.sock' }, false, 'localhost', ''],
      ['https+unix://%2Frun%2Fa.sock', { path: '/run/a.sock' }, true, 'localhost', ''],
    ] as const) {
      const url = parseTarget(text)
      assert.deepEqual(
        [addressOf(url), isTls(url), authorityOf(url), basePathOf(url)],
        [address, tls, authority, basePath],
      )
    }
  })

  it('has a host, and no login, query, fragment or unknown scheme', () => {
    const wrong = [
      ...[
        undefined,
        '',
        'nonsense',
        'a.example:80',
        '/a',
        'ftp://a',
        'file:///a',
        'http://',
        'xhttp://a',
        'httpsx://a',
      ],
      ...['http://u@a', 'http://u:p@a', 'http://a?b', 'http://a/#b', 'http://a:99999'],
    ]
    for (const text of wrong)
      for (const parse of [parseTarget, parseServer]) assert.throws(() => parse(text), invalid, text)
  })

  it('of TCP has a port and no path', () => {
    for (const text of ['tcp://a:1', 'tcp://a:1/']) assert.equal(parseTarget(text).port, '1')
    for (const text of ['tcp://a', 'tcp://a:1/b']) assert.throws(() => parseTarget(text), invalid)
  })

  it('of a socket has an absolute path that fits into an address', () => {
    parseTarget(`unix+http://%2F${'a'.repeat(106)}`)
    parseTarget(`unix+http://%2F${'%C3%A9'.repeat(53)}`)
    for (const host of [`%2F${'a'.repeat(107)}`, `%2F${'%C3%A9'.repeat(53)}a`, 'run', '%2F', '%2Fa%00', '%2F%ff'])
      assert.throws(() => parseTarget(`unix+http://${host}`), invalid, host)
  })

  it('that names a whole server has no path and is no socket', () => {
    for (const text of ['http://a', 'https://a:1/', 'tcp://a:1'])
      assert.equal(parseServer(text).href.startsWith(text), true)
    for (const text of ['http://a/b', 'unix+http://%2Fa', 'tcp://a']) assert.throws(() => parseServer(text), invalid)
  })

  it('that is wrong is shown up to 100 characters', () => {
    assert.throws(
      () => parseTarget('x'.repeat(200)),
      ({ message }: Error) => message.includes(`"${'x'.repeat(100)}"`),
    )
  })
})
