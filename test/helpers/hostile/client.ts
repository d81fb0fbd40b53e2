import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type ClientSessionOptions, connect as connectHttp2, type SecureClientSessionOptions } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { until } from '../until.ts'

/** Behaviour of a hostile client. */
export interface Script {
  /** Written at once; a string is Latin-1. */
  readonly bytes?: string | Buffer
  /** Written repeatedly while the connection is open. */
  readonly drip?: string | Buffer
  /** Interval of `drip` in milliseconds. @default 20 */
  readonly everyMs?: number
  /** How the client ends its side, at once or after receiving `closeAfter`. */
  readonly closeBy?: 'reset' | 'end'
  readonly closeAfter?: RegExp
  /** The client reads nothing. */
  readonly paused?: boolean
  /** Must match all that the server sent by the time the connection is closed. */
  readonly receives?: RegExp
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
 * @throws when the connection is still open after a minute
 */
export async function play(place: Place, script: Script): Promise<string> {
  const { bytes, drip, everyMs = 20, closeBy, closeAfter, paused = false, receives } = script
  const { socket, raw } = dial(place)
  let text = ''
  let closed = false
  let timer: NodeJS.Timeout | undefined
  socket.on('error', () => {}).on('close', () => (closed = true))
  const close = (): void => {
    // Only the TCP socket below TLS can be reset.
    if (closeBy === 'reset') raw.resetAndDestroy()
    else if (closeBy === 'end') socket.end()
  }
  const write = (data: string | Buffer): boolean =>
    typeof data === 'string' ? socket.write(data, 'latin1') : socket.write(data)
  socket.once(place.ca === undefined ? 'connect' : 'secureConnect', () => {
    if (bytes !== undefined) write(bytes)
    if (drip !== undefined) {
      const more = (): unknown => socket.writable && socket.writableLength < 65_536 && write(drip)
      // After reading what has arrived: a write to a closed connection fails, and the rest is not read.
      timer = setInterval(() => setImmediate(more), everyMs)
    }
    if (!closeAfter) close()
  })
  if (paused) socket.pause()
  else {
    socket.setEncoding('latin1').on('data', (chunk) => {
      const before = closeAfter?.test(text)
      text += chunk
      if (closeAfter?.test(text) && !before) close()
    })
    socket.on('end', () => (closed = true))
  }
  try {
    await until(() => closed || (paused && !isEstablished(raw)), { what: 'the end of the connection' })
  } finally {
    clearInterval(timer)
    socket.destroy()
  }
  if (receives) assert.match(text, receives)
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
