import type { Script } from './client.ts'
import { preface } from './http2.ts'

/** A request without its body: request line, Host and further lines. */
export const head = (first: string, ...lines: string[]): string =>
  `${[first, 'Host: localhost', ...lines].join('\r\n')}\r\n\r\n`

export interface Paths {
  /** Responds with 200. */
  readonly get: string
  /** Reads a text or JSON body. */
  readonly post: string
  /** An endless response. */
  readonly big: string
  /** Content-Type of POST. @default text/plain */
  readonly type?: string
}

/** Scripts for every HTTP/1.1 listener. In each, the server closes the connection, unless the script does. */
export function http1Scripts({ get, post, big, type = 'text/plain' }: Paths) {
  const postHead = (...lines: string[]): string => head(`POST ${post} HTTP/1.1`, `Content-Type: ${type}`, ...lines)
  const chunked = postHead('Transfer-Encoding: chunked')
  return {
    'resets with CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1'), closeBy: 'reset' },
    'stays after CONNECT': { bytes: head('CONNECT localhost:443 HTTP/1.1') },
    'sends CONNECT as HTTP/2.0': { bytes: head('CONNECT localhost:443 HTTP/2.0') },
    'sends GET as HTTP/2.0': { bytes: head(`GET ${get} HTTP/2.0`) },
    'sends the preface of HTTP/2': { bytes: preface() },
    'resets with an upgrade to an unknown protocol': {
      bytes: head(`GET ${get} HTTP/1.1`, 'Connection: upgrade', 'Upgrade: x'),
      closeBy: 'reset',
    },
    'sends noise': { bytes: Buffer.from('\x16\x03\x01\x00\xff\xfe'.repeat(9), 'latin1'), receives: /^HTTP\/1\.1 400 / },
    'sends nothing': { receives: /^HTTP\/1\.1 408 / },
    'drips header lines': { bytes: 'GET / HTTP/1.1\r\nHost: x\r\n', drip: 'X: y\r\n', receives: /^HTTP\/1\.1 408 / },
    'drips a short body': { bytes: postHead('Content-Length: 3000'), drip: 'x', receives: /^HTTP\/1\.1 408 / },
    'drips chunks': { bytes: chunked, drip: '1\r\nx\r\n' },
    'stops within a chunk': { bytes: `${chunked}5\r\nab` },
    'resets within headers': { bytes: 'GET / HTTP/1.1\r\nHo', closeBy: 'reset' },
    'resets within a body': { bytes: postHead('Content-Length: 10'), closeBy: 'reset' },
    'resets within a chunk': { bytes: `${chunked}5\r\nab`, closeBy: 'reset' },
    'resets within a response': { bytes: head(`GET ${big} HTTP/1.1`), closeAfter: /200/, closeBy: 'reset' },
    'sends half a request and ends': { bytes: 'GET / HTTP/1.1\r\n', closeBy: 'end', receives: /^HTTP\/1\.1 400 / },
    'sends endless trailers': { bytes: `${chunked}0\r\n${'X-Trailer: aaaaaaaaaaaaaaaaaaaa\r\n'.repeat(1000)}` },
    'sends an endless chunk extension': {
      bytes: `${chunked}1;${'x'.repeat(20_000)}`,
      receives: /HTTP\/1\.1 4(?:00|13) /,
    },
    'sends a header of 20 KB': {
      bytes: head(`GET ${get} HTTP/1.1`, `X: ${'y'.repeat(20_000)}`),
      receives: /^HTTP\/1\.1 431 /,
    },
    'stays idle after a request': { bytes: head(`GET ${get} HTTP/1.1`), receives: /^HTTP\/1\.1 200 / },
    'pipelines without reading': { drip: head(`GET ${get} HTTP/1.1`).repeat(500), paused: true },
    'never reads a response': { bytes: head(`GET ${big} HTTP/1.1`), drip: '\r\n', paused: true },
  } satisfies Record<string, Script>
}
