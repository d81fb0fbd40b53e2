import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { type ClientSessionOptions, connect as connectHttp2, type SecureClientSessionOptions } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type App, type ForkOptions, forkApp } from './fork-app.ts'
import { until } from './until.ts'

/** Behaviour of a hostile client. */
export interface Script {
  /** Written at once; a string is Latin-1. */
  readonly bytes?: string | Buffer
  /** Written repeatedly while the connection is open. */
  readonly drip?: string | Buffer
  /** Interval of `drip` in milliseconds. @default 20 */
  readonly everyMs?: number
  /** How the client ends its side, at once or after receiving `after`. */
  readonly acts?: 'reset' | 'end'
  readonly after?: RegExp
  /** The client reads nothing. */
  readonly deaf?: boolean
  /** Must match all that the server sent by the time the connection is closed. */
  readonly gets?: RegExp
}

/** Where to play a script: a TCP port or the path of a Unix socket, with TLS when `ca` is given. */
export interface Place {
  readonly port?: number
  readonly path?: string
  readonly ca?: string
  readonly protocol?: 'h2' | 'http/1.1'
}

function dial({ port, path, ca, protocol = 'http/1.1' }: Place): { socket: Socket; raw: Socket } {
  const at = path === undefined ? { port: port as number, host: '127.0.0.1' } : { path }
  const raw = connect({ ...at, allowHalfOpen: true }).on('error', () => {})
  if (ca === undefined) return { socket: raw, raw }
  return { socket: connectTls({ socket: raw, ca, servername: 'localhost', ALPNProtocols: [protocol] }), raw }
}

/** The kernel's state of a connection; a socket that is not read from emits no event. */
function isEstablished({ localPort, connecting }: Socket): boolean {
  if (connecting) return true
  const port = (localPort ?? 0).toString(16).toUpperCase().padStart(4, '0')
  return new RegExp(`^ *\\d+: \\w+:${port} \\w+:\\w+ 01 `, 'm').test(readFileSync('/proc/self/net/tcp', 'utf8'))
}

/**
 * Plays a script until the server closes the connection, or the script does.
 *
 * @returns what the server sent, as Latin-1
 * @throws when the connection is still open after 20 s
 */
export async function play(place: Place, script: Script): Promise<string> {
  const { bytes, drip, everyMs = 20, acts, after, deaf = false, gets } = script
  const { socket, raw } = dial(place)
  let text = ''
  let closed = false
  let timer: NodeJS.Timeout | undefined
  socket.on('error', () => {}).on('close', () => (closed = true))
  const act = (): void => {
    // Only the TCP socket below TLS can be reset.
    if (acts === 'reset') raw.resetAndDestroy()
    else if (acts === 'end') socket.end()
  }
  const write = (data: string | Buffer): boolean =>
    typeof data === 'string' ? socket.write(data, 'latin1') : socket.write(data)
  socket.once(place.ca === undefined ? 'connect' : 'secureConnect', () => {
    if (bytes !== undefined) write(bytes)
    if (drip !== undefined) {
      timer = setInterval(() => socket.writable && socket.writableLength < 65_536 && write(drip), everyMs)
    }
    if (!after) act()
  })
  if (deaf) socket.pause()
  else {
    socket.setEncoding('latin1').on('data', (chunk) => {
      const before = after?.test(text)
      text += chunk
      if (after?.test(text) && !before) act()
    })
    socket.on('end', () => (closed = true))
  }
  try {
    await until(() => closed || (deaf && !isEstablished(raw)), { timeoutMs: 20_000, what: 'the end of the connection' })
  } finally {
    clearInterval(timer)
    socket.destroy()
  }
  if (gets) assert.match(text, gets)
  return text
}

/** Longest wait of an ordinary client for one response, ms. A busy server may close its session first; then it tries again. */
export const patienceMs = 5_000

/** @returns the status of `GET /` over a new HTTP/2 session */
export async function statusOverHttp2(
  authority: string,
  options: ClientSessionOptions | SecureClientSessionOptions = {},
): Promise<number> {
  const session = connectHttp2(authority, options).on('error', () => {})
  try {
    const stream = session
      .request({ ':path': '/' })
      .resume()
      .on('error', () => {})
    const [headers] = await once(stream, 'response', { signal: AbortSignal.timeout(patienceMs) })
    return headers[':status']
  } finally {
    session.destroy()
  }
}

/** Resource usage of a process under attack. */
export interface Stats {
  /** Bytes in use after garbage collection. */
  readonly heap: number
  readonly [gauge: string]: number
}

/** A program under attack, in a separate process. It responds to the message `stats` with {@link Stats}. */
export class Victim {
  readonly app: App
  #idle: { stats: Stats; descriptors: number } | undefined

  constructor(file: URL, options: ForkOptions = {}) {
    this.app = forkApp(file, { ...options, execArgv: ['--expose-gc'], ipc: true })
  }

  get descriptors(): number {
    return readdirSync(`/proc/${this.app.pid}/fd`).length
  }

  async stats(): Promise<Stats> {
    const { length } = this.app.messages
    this.app.send('stats')
    return (await until(() => this.app.messages[length])) as Stats
  }

  /** @throws with its output when the process has ended */
  lives(): void {
    assert.equal(this.app.ended, undefined, this.app.stderr)
  }

  /** Records the resource usage at rest, after a warm-up. */
  async rest(): Promise<void> {
    this.#idle = { stats: await this.stats(), descriptors: this.descriptors }
  }

  /** Waits until the usage is back at rest. @throws when the process ended or does not release everything */
  async restored(): Promise<void> {
    this.lives()
    const idle = this.#idle
    assert.ok(idle, 'rest() was called')
    let last = ''
    await until(
      async () => {
        const { heap, ...gauges } = await this.stats()
        last = JSON.stringify({ heap, ...gauges, descriptors: this.descriptors, idle })
        return (
          heap < idle.stats.heap + 16e6 &&
          this.descriptors <= idle.descriptors + 4 &&
          Object.entries(gauges).every(([name, value]) => value <= (idle.stats[name] ?? 0))
        )
      },
      { timeoutMs: 20_000, what: 'the state at rest' },
    ).catch((cause) => assert.fail(`${cause.message}: ${last}`))
  }
}

/** Call in a victim: responds to `stats`. */
export function reportStats(gauges: () => Record<string, number>): void {
  process.on('message', (message) => {
    if (message !== 'stats') return
    globalThis.gc?.()
    const { heapUsed, external } = process.memoryUsage()
    process.send?.({ heap: heapUsed + external, ...gauges() })
  })
}

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
