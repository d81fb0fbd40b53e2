import type { Script } from '../helpers/hostile/client.ts'
import { head, http1Scripts } from '../helpers/hostile/http1.ts'
import { block, flags, frame, frames, get, http2Scripts, noWindow, preface } from '../helpers/hostile/http2.ts'

const upgrade = (path: string): string => head(`GET ${path} HTTP/1.1`, 'Connection: upgrade', 'Upgrade: websocket')
const fields = (count: number): string[] => Array.from({ length: count }, (_, i) => `x${i}:`)

/** For the proxy's HTTP/1.1 listeners, with and without TLS. */
export const proxyHttp1: Readonly<Record<string, Script>> = {
  ...http1Scripts({ get: '/', post: '/', big: '/big' }),
  'resets after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), closeAfter: /405/, closeBy: 'reset' },
  'stays after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), receives: /^HTTP\/1\.1 405 / },
  'stays after a refused upgrade': { bytes: upgrade('/metrics'), receives: /^HTTP\/1\.1 404 / },
  'sends on after a refused upgrade': {
    bytes: upgrade('/metrics'),
    drip: 'x'.repeat(1000),
    receives: /^HTTP\/1\.1 404 /,
  },
  'sends CONNECT as HTTP/2.0': { bytes: head('CONNECT localhost:443 HTTP/2.0'), receives: /^HTTP\/1\.1 505 / },
  'sends GET as HTTP/2.0': { bytes: head('GET / HTTP/2.0'), receives: /^HTTP\/1\.1 505 / },
  'sends an upgrade as HTTP/2.0': { bytes: upgrade('/').replace('HTTP/1.1', 'HTTP/2.0'), receives: /^HTTP\/1\.1 505 / },
  'sends HTTP/1.2': { bytes: head('GET / HTTP/1.2'), receives: /^HTTP\/1\.1 505 / },
  'sends HTTP/3.0': { bytes: head('GET / HTTP/3.0'), receives: /^HTTP\/1\.1 505 / },
  'sends the preface of HTTP/2': { bytes: preface(), receives: /^HTTP\/1\.1 505 / },
  'ends lines with LF': { bytes: 'GET / HTTP/1.1\nHost: x\n\n', receives: /^HTTP\/1\.1 400 / },
  'sends noise and stays': { bytes: 'noise\r\n', drip: 'x'.repeat(1000), receives: /^HTTP\/1\.1 400 / },
  'drips a request line': { drip: 'G', receives: /^HTTP\/1\.1 4/ },
  'drips a long body': { bytes: head('POST / HTTP/1.1', 'Content-Length: 9000000000'), drip: 'x' },
  'waits after Expect': {
    bytes: head('POST / HTTP/1.1', 'Content-Length: 5', 'Expect: 100-continue'),
    receives: /^HTTP\/1\.1 100 /,
  },
  'resets while it waits': { bytes: head('GET /slow HTTP/1.1'), closeBy: 'reset' },
  'sends 1,000 header fields': {
    bytes: head('GET / HTTP/1.1', ...fields(1000)),
    receives: /^HTTP\/1\.1 431 /,
  },
  'sends 129 header fields': { bytes: head('GET / HTTP/1.1', ...fields(128)), receives: /^HTTP\/1\.1 431 / },
  'never reads a tunnel': { bytes: upgrade('/chatty'), drip: 'x', paused: true },
  'leaves a tunnel alone': { bytes: upgrade('/'), receives: /101 .*hello$/s },
  'resets a tunnel': { bytes: upgrade('/'), closeAfter: /hello/, closeBy: 'reset' },
  'ends its side of a tunnel': { bytes: upgrade('/'), closeAfter: /hello/, closeBy: 'end' },
  'reads a tunnel whose other side has ended': { bytes: upgrade('/leaves'), drip: 'x', receives: /hellogoodbye$/ },
  'ends while its upgrade is on the way': { bytes: upgrade('/never'), closeBy: 'end' },
  'resets while its upgrade is on the way': { bytes: upgrade('/never'), closeBy: 'reset' },
}

const connect = (path: string, protocol = 'websocket'): Buffer =>
  frame(frames.headers, flags.endHeaders, 1, block('CONNECT', path, [[':protocol', protocol]]))

/** For its HTTP/2 listener. */
export const proxyHttp2: Readonly<Record<string, Script>> = {
  ...http2Scripts,
  'drips an upload to a target that reads slowly': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('POST', '/slow'))]),
    drip: frame(frames.data, 0, 1, Buffer.from('x')),
  },
  'gives no window for an error page': { bytes: Buffer.concat([noWindow, get(1, '/metrics')]) },
  'leaves a tunnel alone': {
    bytes: Buffer.concat([preface(), connect('/')]),
  },
  'never reads a tunnel': {
    bytes: Buffer.concat([noWindow, connect('/chatty')]),
  },
  'ends its side of a tunnel': {
    bytes: Buffer.concat([preface(), connect('/')]),
    closeAfter: /hello/,
    closeBy: 'end',
  },
  'resets a tunnel': {
    bytes: Buffer.concat([preface(), connect('/')]),
    closeAfter: /hello/,
    closeBy: 'reset',
  },
  'stays after a refused CONNECT': {
    bytes: Buffer.concat([preface(), connect('/', 'other')]),
  },
}

export const tcpProxy: Readonly<Record<string, Script>> = {
  'sends nothing': {},
  'resets at once': { closeBy: 'reset' },
  'sends half a request': { bytes: 'GET / HTTP/1.1\r\n' },
  'ends its side': { bytes: 'GET / HTTP/1.1\r\n', closeBy: 'end' },
}

/** The proxy's admin server. */
export const adminServer: Readonly<Record<string, Script>> = {
  'sends nothing': { receives: /^HTTP\/1\.1 408 / },
  'resets after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), closeBy: 'reset' },
  'resets with an upgrade': { bytes: upgrade('/live'), closeBy: 'reset' },
  'stays after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1') },
  'sends a body that is not wanted': {
    bytes: head('POST /targets/x/drain HTTP/1.1', 'Content-Type: application/json', 'Content-Length: 1000000'),
    drip: 'x',
    receives: /^HTTP\/1\.1 404 .*\r\nConnection: close\r\n/s,
  },
  'drips header lines': { bytes: 'GET / HTTP/1.1\r\n', drip: 'X: y\r\n' },
  'sends a header of 20 KB': {
    bytes: head('GET /live HTTP/1.1', `X: ${'y'.repeat(20_000)}`),
    receives: /^HTTP\/1\.1 431 /,
  },
  'sends 1,000 header fields': {
    bytes: head('GET /live HTTP/1.1', ...fields(1000)),
    receives: /^HTTP\/1\.1 (?:200|431) /,
  },
  'sends GET as HTTP/2.0': { bytes: head('GET /live HTTP/2.0') },
  'pipelines without reading': { drip: head('GET /live HTTP/1.1').repeat(500), paused: true },
  'stays idle after a request': { bytes: head('GET /live HTTP/1.1'), receives: /^HTTP\/1\.1 200 / },
}
