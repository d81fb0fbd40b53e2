import { connect } from 'node:net'

/**
 * Writes raw bytes to a port and returns the bytes that arrive until the server closes, or until `done` returns true.
 */
export function raw(url: string, bytes: string | readonly string[], done?: (text: string) => boolean): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(Number(port), hostname)
    socket.setEncoding('latin1')
    socket.setTimeout(60_000, () => socket.destroy(new Error(`no end after ${JSON.stringify(text)}`)))
    socket.on('connect', () => {
      for (const piece of [bytes].flat()) socket.write(piece, 'latin1')
    })
    socket.on('data', (chunk) => {
      text += chunk
      if (done?.(text)) socket.destroy()
    })
    socket.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(text) : reject(error),
    )
    socket.on('close', () => resolve(text))
  })
}

export const statusOf = (text: string): number => Number(/^HTTP\/1\.\d (\d{3})/.exec(text)?.[1])

/** A request that asks for no persistent connection. */
export const head = (request: string, ...headers: string[]): string =>
  `${[`${request} HTTP/1.1`, 'Host: x', 'Connection: close', ...headers].join('\r\n')}\r\n\r\n`
