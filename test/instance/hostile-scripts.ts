import type { Script } from '../helpers/hostile/client.ts'
import { head, http1Scripts } from '../helpers/hostile/http1.ts'
import { frame, frames, get, http2Scripts, noWindow, preface } from '../helpers/hostile/http2.ts'

const upgrade = (path: string): string =>
  head(
    `GET ${path} HTTP/1.1`,
    'Connection: upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  )
const fields = (count: number): string[] => Array.from({ length: count }, (_, i) => `x${i}:`)

/** For an instance's HTTP/1.1 server, with and without TLS. */
export const instanceHttp1: Readonly<Record<string, Script>> = {
  ...http1Scripts({ get: '/', post: '/', big: '/big' }),
  'resets while its WebSocket waits for a hook': { bytes: upgrade('/ws'), closeBy: 'reset' },
  'resets while its WebSocket is refused': { bytes: upgrade('/refused'), closeBy: 'reset' },
  'resets its WebSocket': { bytes: upgrade('/ws'), closeAfter: /101/, closeBy: 'reset' },
  'stays after a refused upgrade': { bytes: upgrade('/refused'), receives: /^HTTP\/1\.1 403 / },
  'sends a body beyond the limit': {
    bytes: head('POST / HTTP/1.1', 'Content-Type: text/plain', 'Content-Length: 9000000'),
    drip: 'x',
    receives: /^HTTP\/1\.1 413 /,
  },
  'sends 1,000 header fields': {
    bytes: head('GET /fields HTTP/1.1', ...fields(1000), 'Connection: close'),
    receives: /^HTTP\/1\.1 200 .*\r\n\r\n1002$/s,
  },
}

/** For its HTTP/2 server, with and without TLS. */
export const instanceHttp2: Readonly<Record<string, Script>> = {
  ...http2Scripts,
  'gives no window, and resets': {
    bytes: Buffer.concat([noWindow, get(1, '/big')]),
    closeAfter: /./,
    closeBy: 'reset',
  },
  'opens 1,000 streams and resets the connection': {
    bytes: Buffer.concat([preface(), ...Array.from({ length: 1000 }, (_, i) => get(2 * i + 1, '/slow'))]),
    closeBy: 'reset',
  },
  'resets a stream that it never opened': {
    bytes: Buffer.concat([preface(), frame(frames.reset, 0, 1, Buffer.from([0, 0, 0, 8]))]),
  },
}

export const agentCheckPort: Readonly<Record<string, Script>> = {
  'never closes its side': { receives: /^up ready 100%\n$/ },
  'resets at once': { closeBy: 'reset' },
  'sends without end': { drip: 'x'.repeat(10_000), receives: /^up ready 100%\n$/ },
  'never reads': { paused: true },
}

const drain = '/api/v1/load-balancer/drain'

export const managementListener: Readonly<Record<string, Script>> = {
  ...http1Scripts({ get: '/live', post: '/echo', big: '/endless' }),
  'resets after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), closeAfter: /405/, closeBy: 'reset' },
  'stays after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), receives: /^HTTP\/1\.1 405 / },
  'stays after an upgrade': {
    bytes: head('GET /live HTTP/1.1', 'Connection: upgrade', 'Upgrade: websocket'),
    receives: /^HTTP\/1\.1 200 /,
  },
  'drips the body of a command without a token': {
    bytes: head(`POST ${drain} HTTP/1.1`, 'Content-Type: application/json', 'Content-Length: 1000000'),
    drip: 'x',
    receives: /^HTTP\/1\.1 404 /,
  },
  'sends a body beyond the limit': {
    bytes: head('POST /echo HTTP/1.1', 'Content-Type: text/plain', 'Content-Length: 9000000'),
    drip: 'x',
    receives: /^HTTP\/1\.1 413 /,
  },
  'sends 1,000 header fields': {
    bytes: head('GET /live HTTP/1.1', ...fields(1000)),
    receives: /^HTTP\/1\.1 (?:200|431) /,
  },
  'requests an application route': { bytes: head('GET /slow HTTP/1.1'), receives: /^HTTP\/1\.1 404 / },
}
