import { connect as connectTcp, isIP } from 'node:net'
import { connect as connectTls } from 'node:tls'

export interface Address {
  host: string
  port: number
  /** @default false */
  tls?: boolean
  timeoutMs: number
}

/**
 * Connects, sends once and waits for a response that matches `until`.
 *
 * @param sent without it, an open port is enough
 * @returns what was received, and why nothing matched
 */
export function exchange(
  { host, port, tls = false, timeoutMs }: Address,
  sent?: string | Buffer,
  until: RegExp = /^/,
): Promise<{ text: string; error?: string }> {
  const { promise, resolve } = Promise.withResolvers<{ text: string; error?: string }>()
  let text = ''
  // Node throws for an invalid port.
  if (!(port > 0 && port < 65_536)) return Promise.resolve({ text, error: 'not a TCP port' })
  // An address is no server name (RFC 6066, section 3); Node warns about it.
  const servername = isIP(host) ? undefined : host
  const socket = tls ? connectTls({ host, port, servername }) : connectTcp({ host, port })
  const end = (error?: string): void => {
    clearTimeout(timer)
    socket.destroy()
    resolve({ text, error })
  }
  const timer = setTimeout(() => end(`no response in ${timeoutMs / 1_000} s`), timeoutMs)
  socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message))
  socket.once('close', () => end('the connection was closed'))
  socket.once(tls ? 'secureConnect' : 'connect', () => (sent === undefined ? end() : socket.write(sent)))
  socket.on('data', (data) => {
    text += data.toString('latin1', 0, 1024)
    if (text.length > 4096) end('not the response of such a server')
    if (until.test(text)) end()
  })
  return promise
}
