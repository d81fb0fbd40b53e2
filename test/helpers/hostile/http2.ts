import assert from 'node:assert/strict'
import type { Script } from './client.ts'

const header = (length: number, type: number, flags: number, stream: number): Buffer => {
  const bytes = Buffer.alloc(9)
  bytes.writeUIntBE(length, 0, 3)
  bytes[3] = type
  bytes[4] = flags
  bytes.writeUInt32BE(stream, 5)
  return bytes
}

/** One frame of HTTP/2 (RFC 9113 section 4.1). */
export const frame = (type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([header(payload.length, type, flags, stream), payload])

export const frames = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const
export const flags = { endStream: 1, endHeaders: 4 } as const

/** The client's preface with these settings, by number. */
export function preface(settings: Record<number, number> = {}): Buffer {
  const payload = Buffer.concat(
    Object.entries(settings).map(([id, value]) => {
      const bytes = Buffer.alloc(6)
      bytes.writeUInt16BE(Number(id), 0)
      bytes.writeUInt32BE(value, 2)
      return bytes
    }),
  )
  return Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(frames.settings, 0, 0, payload)])
}

const literal = (name: string, value: string): Buffer => {
  assert.ok(name.length < 127 && value.length < 127)
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ])
}

/** A header block without compression (RFC 7541 section 6.2.2). */
export function block(method: string, path: string, extra: readonly (readonly [string, string])[] = []): Buffer {
  const fields = [
    [':method', method],
    [':scheme', 'https'],
    [':path', path],
    [':authority', 'localhost'],
    ...extra,
  ] as const
  return Buffer.concat(fields.map(([name, value]) => literal(name, value)))
}

export const get = (stream: number, path = '/'): Buffer =>
  frame(frames.headers, flags.endStream | flags.endHeaders, stream, block('GET', path))
const word = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
export const times = (count: number, make: (i: number) => Buffer): Buffer =>
  Buffer.concat(Array.from({ length: count }, (_, i) => make(i)))
export const odd = (i: number): number => 2 * i + 1
export const noWindow = preface({ 4: 0 })

const fields = (count: number): [string, string][] => Array.from({ length: count }, (_, i) => [`x${i}`, ''])

/** Scripts for every HTTP/2 listener with the paths `/`, `/slow`, `/big` and `/hang`. */
export const http2Scripts: Readonly<Record<string, Script>> = {
  'sends no preface': {},
  'sends a preface and nothing else': { bytes: preface() },
  'sends something else than a preface': { bytes: 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' },
  'only responds to pings': { bytes: preface(), drip: frame(frames.ping, 0, 0, Buffer.alloc(8)), everyMs: 100 },
  'stays idle after a request': { bytes: Buffer.concat([preface(), get(1)]) },
  'does not end its headers': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endStream, 1, block('GET', '/'))]),
  },
  'floods with CONTINUATION': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endStream, 1, block('GET', '/'))]),
    drip: times(200, (i) => frame(frames.continuation, 0, 1, block('GET', `/${i}`).subarray(0, 40))),
  },
  'floods with PING': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.ping, 0, 0, Buffer.alloc(8))),
    everyMs: 2,
  },
  'floods with PING and does not read': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.ping, 0, 0, Buffer.alloc(8))),
    everyMs: 2,
    paused: true,
  },
  'floods with SETTINGS': { bytes: preface(), drip: times(2000, () => frame(frames.settings, 0, 0)), everyMs: 2 },
  'floods with PRIORITY': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.priority, 0, 1, Buffer.from([0, 0, 0, 0, 16]))),
    everyMs: 2,
  },
  'floods with WINDOW_UPDATE': {
    bytes: preface(),
    drip: times(2000, () => frame(frames.window, 0, 0, word(1))),
    everyMs: 2,
  },
  'floods with empty DATA': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('POST', '/slow'))]),
    drip: times(2000, () => frame(frames.data, 0, 1)),
    everyMs: 2,
  },
  'resets its requests at once': {
    bytes: Buffer.concat([
      preface(),
      times(3000, (i) => Buffer.concat([get(odd(i), '/slow'), frame(frames.reset, 0, odd(i), word(8))])),
    ]),
  },
  'opens streams without end': {
    bytes: Buffer.concat([preface(), times(1000, (i) => get(odd(i), '/slow'))]),
    drip: frame(frames.goaway, 0, 0, Buffer.alloc(8)),
    closeBy: 'reset',
    closeAfter: /./,
  },
  'does not acknowledge PING while a response is due': { bytes: Buffer.concat([preface(), get(1, '/hang')]) },
  'does not finish an upload': {
    bytes: Buffer.concat([
      preface(),
      frame(frames.headers, flags.endHeaders, 1, block('POST', '/', [['content-length', '10']])),
    ]),
  },
  'drips a streamed upload': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('POST', '/'))]),
    drip: frame(frames.data, 0, 1, Buffer.from('x')),
  },
  'sends a body with GET and never ends it': {
    bytes: Buffer.concat([preface(), frame(frames.headers, flags.endHeaders, 1, block('GET', '/'))]),
  },
  'gives no window for a short response': { bytes: Buffer.concat([noWindow, get(1)]) },
  'gives no window for a long response': { bytes: Buffer.concat([noWindow, get(1, '/big')]) },
  'gives no window, and pings': {
    bytes: Buffer.concat([noWindow, get(1, '/big')]),
    drip: frame(frames.ping, 0, 0, Buffer.alloc(8)),
    everyMs: 100,
  },
  'never reads a long response': {
    bytes: Buffer.concat([preface({ 4: 0x7fffffff }), frame(frames.window, 0, 0, word(0x7fff0000)), get(1, '/big')]),
    drip: frame(frames.ping, 0, 0, Buffer.alloc(8)),
    paused: true,
  },
  'sends 1,000 header fields': {
    bytes: Buffer.concat([preface(), frame(frames.headers, 5, 1, block('GET', '/', fields(1000)))]),
  },
  'sends 130 header fields': {
    bytes: Buffer.concat([preface(), frame(frames.headers, 5, 1, block('GET', '/', fields(130)))]),
  },
  'sends DATA on a stream that it never opened': {
    bytes: Buffer.concat([preface(), frame(frames.data, 0, 1, Buffer.from('x'))]),
  },
  'sends a frame that is too long': {
    bytes: Buffer.concat([preface(), frame(frames.data, 0, 1, Buffer.alloc(20_000))]),
  },
  'sends a window that overflows': {
    bytes: Buffer.concat([
      preface(),
      frame(frames.window, 0, 0, word(0x7fffffff)),
      frame(frames.window, 0, 0, word(0x7fffffff)),
    ]),
  },
  'sends broken HPACK': { bytes: Buffer.concat([preface(), frame(frames.headers, 5, 1, Buffer.alloc(20, 0xff))]) },
  'resets while it waits': { bytes: Buffer.concat([preface(), get(1, '/slow')]), closeBy: 'reset', closeAfter: /./ },
}
