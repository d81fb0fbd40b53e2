import assert from 'node:assert/strict'
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import { Admission, type AdmittedRequest } from '../../../src/edge/http/admission.ts'
import type { HeaderLines } from '../../../src/edge/http/headers.ts'
import {
  createProxyServer,
  effectiveHeadersTimeoutMs,
  isHttp2,
  isWebSocket,
} from '../../../src/edge/http/node-server.ts'
import { type ResolvedProxyOptions, resolveProxyOptions } from '../../../src/edge/http/options.ts'
import { Origins } from '../../../src/edge/http/origins.ts'
import { Pools } from '../../../src/edge/http/pools.ts'
import { pem } from '../listening.ts'

interface Given {
  url?: string
  method?: string
  headers?: Record<string, string>
  rawHeaders?: string[]
  http2?: boolean
  version?: [text: string, major: number]
  inflight?: number
  peer?: string
}

function admission(t: TestContext) {
  const { proxy, pools, router } = resolveProxyOptions({
    targets: ['http://10.0.0.1:1'],
    probe: { type: 'off' },
    pools: { v2: { targets: ['http://10.0.0.2:1'], maxBodyBytes: 9 } },
    routes: '/v2=v2',
    trustProxy: ['10.0.0.0/8'],
    maxHeaders: 4,
    maxConcurrentStreams: 2,
  })
  const all = new Pools(pools, router)
  t.after(() => all.close())
  const origins = new Origins(proxy.trustProxy, 'proxy.trustProxy')
  const admit = (given: Given = {}): AdmittedRequest | FleetError => {
    const { url = '/a', method = 'GET', headers = {}, http2 = false, inflight = 1, peer = '192.0.2.1' } = given
    const [httpVersion, httpVersionMajor] = given.version ?? (http2 ? ['2.0', 2] : ['1.1', 1])
    const rawHeaders = given.rawHeaders ?? Object.entries(headers).flat()
    const socket = { remoteAddress: peer, localPort: 80 } as Socket
    const request = { url, method, headers, rawHeaders, httpVersion, httpVersionMajor, ...(http2 && { stream: {} }) }
    return admissionOf.admit(request as unknown as IncomingMessage, Object.assign(origins.of(socket), { inflight }))
  }
  const admissionOf = new Admission(origins, proxy, all)
  const codeOf = (given: Given): string => {
    const admitted = admit(given)
    return admitted instanceof FleetError ? admitted.code.replace('FLEET_ERR_', '') : 'admitted'
  }
  return { admit: (given?: Given) => admit(given) as AdmittedRequest, codeOf, pools: all }
}

const host = (admitted: AdmittedRequest): unknown => new Map(admitted.options.headers as HeaderLines).get('host')

describe('a request that is sent upstream', () => {
  it('has its path and method, the pool of its route, the client, and the length of its body', (t) => {
    const { admit, pools } = admission(t)
    const { options, input, length, pool } = admit({
      url: '/v2/x?y',
      method: 'POST',
      headers: { 'content-length': '5' },
    })
    assert.deepEqual([options.path, options.method, length, pool], ['/v2/x?y', 'POST', 5, pools.byName.get('v2')])
    assert.deepEqual(
      [input.client, input.setCookie, input.headers],
      ['192.0.2.1', undefined, { 'content-length': '5' }],
    )
    assert.equal(admit().pool, pools.default)
    assert.equal(admit({ url: '//%562;a/x' }).pool.name, 'v2', 'as a router behind the proxy may read the path')
    assert.equal(admit({ peer: '10.0.0.1', headers: { 'x-forwarded-for': '1.1.1.1' } }).input.client, '1.1.1.1')
    assert.equal(admit({ headers: { 'x-forwarded-for': '1.1.1.1' } }).input.client, '192.0.2.1')
  })

  it('has the host of its target, else of :authority, else of Host', (t) => {
    const { admit } = admission(t)
    assert.equal(host(admit({ headers: { host: 'a.example' } })), 'a.example')
    assert.equal(host(admit({ url: 'http://b.example:81/a?b', headers: { host: 'a.example' } })), 'b.example:81')
    assert.equal(admit({ url: 'HTTPS://b.example/a?b' }).options.path, '/a?b')
    const authority = { ':authority': 'c.example', host: 'a.example' }
    assert.equal(host(admit({ http2: true, headers: authority })), 'c.example')
    assert.equal(host(admit({ headers: authority })), 'a.example')
    assert.equal(host(admit({ http2: true, headers: { host: 'a.example' } })), 'a.example')
    assert.equal(host(admit()), '')
  })
})

describe('a request that is rejected', () => {
  it('has too many fields, or too many others on its connection', (t) => {
    const { codeOf } = admission(t)
    const fields = (count: number): string[] => Array.from({ length: count }, (_, i) => [`x-${i}`, 'a']).flat()
    assert.deepEqual(
      [4, 5].map((count) => codeOf({ rawHeaders: fields(count) })),
      ['admitted', 'HEADERS_TOO_LARGE'],
    )
    assert.deepEqual(
      [2, 3].map((inflight) => codeOf({ inflight })),
      ['admitted', 'PIPELINE_LIMIT'],
    )
  })

  it('is of another version of HTTP, also one that only says so', (t) => {
    const { codeOf } = admission(t)
    assert.equal(codeOf({ version: ['0.9', 0] }), 'REQUEST_INVALID')
    assert.equal(codeOf({ version: ['2.0', 2] }), 'VERSION_UNSUPPORTED')
    assert.equal(codeOf({ version: ['1.0', 1] }), 'admitted')
    assert.equal(codeOf({ http2: true }), 'admitted')
  })

  it('is TRACE, or frames its body in a way that parsers read differently', (t) => {
    const { codeOf } = admission(t)
    assert.equal(codeOf({ method: 'TRACE' }), 'METHOD_REFUSED')
    assert.equal(codeOf({ headers: { 'transfer-encoding': 'gzip, chunked' } }), 'REQUEST_INVALID')
    assert.equal(codeOf({ headers: { 'transfer-encoding': 'chunked' } }), 'admitted')
  })

  it('has a target that is no path and no URL of HTTP, or has a user', (t) => {
    const { codeOf } = admission(t)
    for (const url of ['http://a/b', 'https://a/b', '/a;b', '/', '/a%2Fb'])
      assert.equal(codeOf({ url }), 'admitted', url)
    const invalid = ['ftp://a/b', 'http://u@a/b', 'nonsense', '*', '', '/%zz', '/a\x7f', '/a b', '/a\u0100', '/a?\x01']
    for (const url of invalid) assert.equal(codeOf({ url }), 'REQUEST_INVALID', url)
  })

  it('has a blocked path, or one that others could read as blocked', (t) => {
    const { codeOf } = admission(t)
    for (const url of ['/metrics', '/metrics/', '//metrics', '/a/../metrics', '/%6detrics', 'http://a/metrics'])
      assert.equal(codeOf({ url }), 'PATH_BLOCKED', url)
    assert.equal(codeOf({ url: '/metricsx' }), 'admitted')
  })

  it('has an invalid host, or over HTTP/2 a value that HTTP/1.1 cannot have', (t) => {
    const { codeOf } = admission(t)
    assert.equal(codeOf({ headers: { host: 'a b' } }), 'REQUEST_INVALID')
    assert.equal(codeOf({ rawHeaders: ['host', 'a', 'host', 'a'] }), 'REQUEST_INVALID')
    for (const value of ['a\nb', '\u0100', '\x00', '\x7f'])
      assert.equal(codeOf({ http2: true, rawHeaders: ['x', value] }), 'REQUEST_INVALID')
    assert.equal(codeOf({ http2: true, rawHeaders: ['x', '\ta \xe9~'] }), 'admitted')
    assert.equal(codeOf({ rawHeaders: ['x', '\u0100'] }), 'admitted')
  })
})

describe('a pool', () => {
  it('rejects requests during maintenance, and bodies above its limit', (t) => {
    const { pools } = admission(t)
    const [none, v2] = [pools.default, pools.byName.get('v2') as typeof pools.default]
    const code = (pool: typeof none, length: number): string | undefined => pool.rejects(length)?.code
    assert.deepEqual(
      [code(none, 1e9), code(v2, 9), code(v2, Number.POSITIVE_INFINITY)],
      [undefined, undefined, undefined],
    )
    assert.equal(code(v2, 10), 'FLEET_ERR_BODY_TOO_LARGE')
    v2.maintenance = true
    const rejection = v2.rejects(0)
    assert.deepEqual([rejection?.code, rejection?.headers], ['FLEET_ERR_MAINTENANCE', { 'retry-after': '30' }])
    assert.notEqual(pools.unrouted, pools.default.times)
  })
})

describe('the server of a proxy', () => {
  it('waits for headers no longer than for the whole request; 0 is no limit', () => {
    const ms = (headersTimeoutMs: number, requestTimeoutMs: number): number =>
      effectiveHeadersTimeoutMs({ headersTimeoutMs, requestTimeoutMs } as ResolvedProxyOptions)
    assert.deepEqual([ms(10, 20), ms(20, 10), ms(0, 20), ms(20, 0), ms(0, 0), ms(2, 1)], [10, 10, 20, 20, 0, 1])
  })

  it('has the limits of the options, and lets Node drop no header field', () => {
    const { proxy } = resolveProxyOptions({
      targets: ['http://10.0.0.1:1'],
      headersTimeoutMs: 1_000,
      requestTimeoutMs: 2_000,
      keepAliveMs: 3_000,
      maxRequestsPerConnection: 4,
      maxConnections: 5,
    })
    const { headersTimeout, requestTimeout, keepAliveTimeout, maxRequestsPerSocket, maxConnections, maxHeadersCount } =
      createProxyServer(proxy, 65_536, () => undefined) as Server
    assert.deepEqual([headersTimeout, requestTimeout, keepAliveTimeout], [1_000, 2_000, 3_000])
    assert.deepEqual([maxRequestsPerSocket, maxConnections, maxHeadersCount], [4, 5, 0])
  })

  it('lets the kernel find clients that vanished, after 30 seconds of silence, with TLS too', () => {
    for (const tls of [undefined, pem]) {
      const { proxy } = resolveProxyOptions({ targets: ['http://10.0.0.1:1'], tls })
      // Node passes these options on to each connection without an event or a property of the socket.
      const server = createProxyServer(proxy, 65_536, () => undefined) as unknown as Record<string, unknown>
      assert.deepEqual([server.keepAlive, server.keepAliveInitialDelay], [true, 30])
    }
  })

  it('knows HTTP/2 by its stream, and a WebSocket by its upgrade', () => {
    assert.deepEqual([isHttp2({ stream: {} } as never), isHttp2({ httpVersionMajor: 2 } as never)], [true, false])
    const asks = (method: string, upgrade?: string): boolean => isWebSocket({ method, headers: { upgrade } } as never)
    assert.deepEqual(
      [asks('GET', 'WebSocket'), asks('POST', 'websocket'), asks('GET', 'h2c'), asks('GET')],
      [...[true, false, false, false]],
    )
  })
})
