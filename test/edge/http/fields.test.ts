import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { HeaderLines, hopByHop, nominatedBy, requestHeaders, responseHeaders } from '../../../src/edge/http/headers.ts'
import { http2Fields, isHttp2Status } from '../../../src/edge/http/http2-fields.ts'
import { type Origin, Origins } from '../../../src/edge/http/origins.ts'
import { responseTrailers } from '../../../src/edge/http/trailers.ts'
import { liveObjects } from '../../helpers/live-objects.ts'

const hops =
  'connection http2-settings keep-alive proxy-connection proxy-authenticate proxy-authorization te transfer-encoding upgrade'.split(
    ' ',
  )
const trusted = new Origins(['10.0.0.0/8'], 'trustProxy')
const originOf = (remoteAddress: string | undefined, more: object = {}): Origin =>
  trusted.of({ remoteAddress, localPort: 443, ...more } as unknown as Socket)

describe('the fields of a request', () => {
  /** What the upstream gets besides the fields that the proxy adds. */
  const passed = (names: readonly string[], origin = originOf('192.0.2.1'), connection?: string): string[] => {
    const raw = names.flatMap((name) => [name, `of ${name}`])
    const lines = requestHeaders(new HeaderLines(), raw, { connection }, origin, 'shop.example', 'id')
    return [...(lines ?? [])].filter(([, value]) => value.startsWith('of ')).map(([name]) => name)
  }

  it('of the connection, and those that the proxy sets, are dropped in any spelling', () => {
    assert.deepEqual([...hopByHop], hops)
    const set =
      'expect forwarded trailer x-fleet-draining x-fleet-load x-fleet-retry x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip x-request-id'
    const dropped = [...hops, ...set.split(' '), ':path']
    for (const origin of [originOf('192.0.2.1'), originOf('10.0.0.1')]) {
      assert.deepEqual(passed(dropped, origin), [])
      assert.deepEqual(passed(['X-Forwarded-FOR', 'TE', 'X-Real-Ip'], origin), [])
      assert.deepEqual(passed(['X-Own', 'accept', 'via', 'x-fleet'], origin), ['x-own', 'accept', 'via', 'x-fleet'])
    }
  })

  it('are remembered for a thousand names, of fewer than 64 bytes', (t) => {
    const { mock } = t.mock.method(Map.prototype, 'set')
    passed([`x-${'l'.repeat(62)}`])
    const kept = (): number => mock.calls.filter((call) => /^x-(?:n\d|ll)/.test(String(call.arguments[0]))).length
    assert.equal(kept(), 0)
    passed(Array.from({ length: 1_500 }, (_, i) => `x-n${i}`))
    assert.ok(kept() > 500 && kept() <= 1_000, String(kept()))
  })

  it('that describe the original URL come from trusted proxies only', () => {
    const names = ['x-forwarded-prefix', 'x-original-url', 'x-rewrite-url', 'x-host', 'x-http-host-override']
    assert.deepEqual(passed(names), [])
    assert.deepEqual(passed(names, originOf('10.0.0.1')), names)
    const others = ['x-hosts', 'ax-forwarded-prefix', 'x-http-host-override-2', 'x-forwarded']
    assert.deepEqual(passed(others), others)
  })

  it('that Connection names are dropped, except those that it cannot remove', () => {
    const names = ['a', 'b', 'content-length', 'authorization']
    assert.deepEqual(passed(names, undefined, 'A , Content-Length, authorization'), [
      'b',
      'content-length',
      'authorization',
    ])
    assert.deepEqual(passed(names, undefined, 'close'), names)
    assert.deepEqual(passed(['x-original-url'], originOf('10.0.0.1'), 'x-original-url'), [])
  })

  it('have one Host, one cookie, and the host that was requested', () => {
    const lines = (raw: string[], hasHost = true): [string, string][] | undefined => {
      const found = requestHeaders(new HeaderLines(hasHost), raw, {}, originOf('192.0.2.1'), 'shop.example', 'id')
      return found && [...found].slice(0, -6)
    }
    assert.deepEqual(lines(['Host', 'other', 'Cookie', 'a=1', 'X', 'y', 'cookie', 'b=2', 'cookie', 'c=3']), [
      ['host', 'shop.example'],
      ['x', 'y'],
      ['cookie', 'a=1; b=2; c=3'],
    ])
    assert.deepEqual(lines(['host', 'a'], false), [])
    assert.equal(lines(['host', 'a', 'Host', 'a']), undefined)
    assert.equal(requestHeaders(new HeaderLines(), [], {}, originOf('192.0.2.1'), 'a b'), undefined)
  })

  it('tell the origin: the own view, or that of a trusted proxy continued', () => {
    const previous = {
      forwarded: 'for=1.1.1.1',
      'x-forwarded-for': '1.1.1.1',
      'x-forwarded-host': 'h',
      'x-forwarded-port': '1',
      'x-forwarded-proto': 'p',
      'x-request-id': 'theirs',
    }
    const told = (address: string, headers: Record<string, string>, id?: string): Record<string, string> =>
      Object.fromEntries(requestHeaders(new HeaderLines(), [], headers, originOf(address), 'shop.example', id) ?? [])
    const own = {
      host: 'shop.example',
      forwarded: 'for=192.0.2.1;host=shop.example;proto=http',
      'x-forwarded-for': '192.0.2.1',
      'x-forwarded-host': 'shop.example',
      'x-forwarded-port': '443',
      'x-forwarded-proto': 'http',
      'x-request-id': 'id',
    }
    assert.deepEqual(told('192.0.2.1', previous, 'id'), own)
    assert.deepEqual(told('10.0.0.1', previous, 'id'), {
      ...previous,
      host: 'shop.example',
      forwarded: 'for=1.1.1.1, for=10.0.0.1;host=shop.example;proto=http',
      'x-forwarded-for': '1.1.1.1, 10.0.0.1',
    })
    const { forwarded, 'x-forwarded-for': client } = told('10.0.0.1', { forwarded: '', 'x-forwarded-for': '' }, 'id')
    assert.deepEqual([forwarded, client], ['for=10.0.0.1;host=shop.example;proto=http', '10.0.0.1'])
    assert.match(told('192.0.2.1', {})['x-request-id'] ?? '', /^[\w-]{12}-\d+$/)
  })

  it('are pairs as well as text', () => {
    const lines = new HeaderLines()
    lines.push('a', 'b: c')
    lines.push('d', '')
    assert.equal(lines.text, 'a: b: c\r\nd: \r\n')
    assert.deepEqual(
      [...lines],
      [
        ['a', 'b: c'],
        ['d', ''],
      ],
    )
  })
})

describe('the fields that Connection names', () => {
  it('are none for its own words alone', () => {
    for (const value of [undefined, '', 'keep-alive', 'Keep-Alive', 'close', 'CLOSE', 'Upgrade'])
      assert.equal(nominatedBy(value), undefined)
  })

  it('are a list in lower case, of one or more lines', () => {
    assert.deepEqual([...(nominatedBy('close, X-A ,x-b') ?? [])], ['close', 'x-a', 'x-b'])
    assert.deepEqual([...(nominatedBy(['close', 'X-A']) ?? [])], ['close', 'x-a'])
    assert.deepEqual([...(nominatedBy('cookie, content-length, authorization, closed') ?? [])], ['closed'])
    assert.equal(nominatedBy(['close']), undefined)
  })
})

describe('the fields of a response', () => {
  it('are forwarded in their order, without those of the connection and those given', () => {
    const given = { ...Object.fromEntries(hops.map((name) => [name, 'x'])), connection: 'x-hop, close' }
    const headers = { ...given, 'x-hop': '1', a: '1', b: ['2', '3'], 'x-fleet-draining': '1', trailer: 't', c: '4' }
    assert.deepEqual(responseHeaders(headers, 'trailer', ''), ['a', '1', 'b', '2', 'b', '3', 'c', '4'])
    assert.deepEqual(responseHeaders({ trailer: 't', 'content-length': '1' }, '', 'content-length'), ['trailer', 't'])
    assert.deepEqual(responseHeaders({ a: '', b: [] }), ['a', ''])
  })

  it('over HTTP/2 are lists, except those that may be sent once only', () => {
    const fields = http2Fields([
      ...['set-cookie', 'a', 'set-cookie', 'b', 'set-cookie', 'c', 'etag', '1', 'etag', '2'],
      ...['content-encoding', 'gzip', 'content-encoding', 'br', 'content-language', 'de', 'content-language', 'en'],
      ...['x', 'y'],
    ])
    assert.deepEqual(
      { ...fields },
      {
        'set-cookie': ['a', 'b', 'c'],
        etag: '1',
        'content-encoding': 'gzip, br',
        'content-language': 'de, en',
        x: 'y',
      },
    )
    assert.equal(Object.getPrototypeOf(fields), null)
    const once =
      'access-control-allow-credentials access-control-max-age access-control-request-method age authorization content-length content-location content-md5 content-range content-type date dnt etag expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards proxy-authorization range referer retry-after tk upgrade-insecure-requests user-agent x-content-type-options'
    for (const name of once.split(' '))
      assert.deepEqual({ ...http2Fields([name, '1', name, '2']) }, { [name]: '1' }, name)
    for (const name of ['vary', 'link', 'via'])
      assert.deepEqual({ ...http2Fields([name, '1', name, '2']) }, { [name]: ['1', '2'] })
    assert.deepEqual([199, 200, 599, 600].map(isHttp2Status), [false, true, true, false])
  })
})

describe('the trailers of a response', () => {
  it('are forwarded unless they would have to be in the head', () => {
    const forbidden =
      'host trailer via forwarded max-forwards cache-control expect pragma range authorization cookie cookie2 set-cookie set-cookie2 www-authenticate age alt-svc clear-site-data date expires location refresh retry-after strict-transport-security vary warning x-fleet-draining content-length content-type if-match access-control-allow-origin x-forwarded-for'
    for (const name of [...hops, ...forbidden.split(' ')])
      assert.deepEqual(responseTrailers({ [name]: '1' }, undefined), [], name)
    for (const name of [
      'content-digest',
      'x-sum',
      'grpc-status',
      'authentication-info',
      'server-timing',
      'x-content-a',
    ])
      assert.deepEqual(responseTrailers({ [name]: '1' }, undefined), [name, '1'])
    assert.deepEqual(responseTrailers({ a: ['1', '2'], b: '3', c: '4' }, 'B'), ['a', '1', 'a', '2', 'c', '4'])
  })
})

describe('the origin of a connection', () => {
  it('is its peer, with the scheme and the local port', () => {
    const facts = ({ address, protocol, port, trusted }: Origin): unknown[] => [address, protocol, port, trusted]
    assert.deepEqual(facts(originOf('::ffff:192.0.2.1')), ['192.0.2.1', 'http', '443', false])
    assert.deepEqual(facts(originOf('10.0.0.1', { encrypted: true })), ['10.0.0.1', 'https', '443', true])
    assert.deepEqual(facts(originOf(undefined, { localPort: undefined })), ['', 'http', '', false])
    assert.equal(originOf('10.0.0.1', { encrypted: 'yes' }).protocol, 'http')
    const socket = { remoteAddress: '10.0.0.1' } as Socket
    assert.equal(trusted.of(socket), trusted.of(socket))
  })

  it('is kept no longer than the connection', () => {
    class Connection {
      readonly remoteAddress = '192.0.2.1'
    }
    for (let i = 0; i < 50; i++) assert.equal(trusted.of(new Connection() as Socket).address, '192.0.2.1')
    assert.ok(liveObjects(Connection) <= 5, `${liveObjects(Connection)} connections`)
  })

  it('is an element of Forwarded', () => {
    assert.equal(originOf('2001:db8::1').element('a'), 'for="[2001:db8::1]";host=a;proto=http')
    assert.equal(originOf(undefined).element('a'), 'for=unknown;host=a;proto=http')
    assert.equal(originOf('10.0.0.1', { encrypted: true }).element('a:80'), 'for=10.0.0.1;host="a:80";proto=https')
    const origin = originOf('10.0.0.1')
    for (const host of ['a', 'b', 'b', 'a']) assert.equal(origin.element(host), `for=10.0.0.1;host=${host};proto=http`)
    assert.equal(origin.element(''), 'for=10.0.0.1;host="";proto=http')
    for (const host of ['a b', 'a/b', 'a:b', '[x]', 'a"b', 'u@a', 'a:1:2'])
      assert.equal(origin.element(host), undefined)
    assert.equal(origin.element('[::1]:80'), 'for=10.0.0.1;host="[::1]:80";proto=http')
  })

  it('is the client: behind a trusted proxy, the nearest address that is not trusted', () => {
    const client = (peer: string, forwarded?: string): string => trusted.client(originOf(peer), forwarded)
    assert.equal(client('192.0.2.1', '1.1.1.1'), '192.0.2.1')
    assert.equal(client('10.0.0.1'), '10.0.0.1')
    assert.equal(client('10.0.0.1', '1.1.1.1'), '1.1.1.1')
    assert.equal(client('10.0.0.1', '1.1.1.1, 2.2.2.2, 10.0.0.2'), '2.2.2.2')
    assert.equal(client('10.0.0.1', '1.1.1.1, x'), '10.0.0.1')
    assert.throws(() => new Origins(['x'], 'proxy.trustProxy'), { message: /proxy\.trustProxy/ })
  })
})
