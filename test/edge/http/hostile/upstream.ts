import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { atEnd } from '../../at-end.ts'

/** The bytes that an upstream sends, one character per byte, or a function that sends them. */
export type Script = string | ((socket: Socket) => void)

/** A server that runs the script named by the path. It reads requests only up to their headers. */
export async function startHostileUpstream(
  scripts: ReadonlyMap<string, Script>,
): Promise<{ url: string; server: Server }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    let text = ''
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.setEncoding('latin1').on('data', (chunk) => {
      text += chunk
      for (;;) {
        const path = /[A-Z]+ (\S+) HTTP\/1\.1\r\n(?:[^\r]+\r\n)+\r\n/.exec(text)
        if (!path) return
        text = text.slice(path.index + path[0].length)
        const script = scripts.get(decodeURIComponent(path[1] as string))
        if (typeof script === 'string') socket.write(script, 'latin1')
        else script?.(socket)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEnd(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** Writes `piece` repeatedly, as long as the other side reads. */
export const endless =
  (first: string, piece: string): Script =>
  (socket) => {
    socket.write(first, 'latin1')
    const more = (): void => {
      while (!socket.destroyed && socket.write(piece, 'latin1'));
    }
    socket.on('drain', more)
    more()
  }

/** Sends all of `text`, and ends the connection with a FIN, or with a reset. */
export const thenEnd =
  (text: string): Script =>
  (socket) =>
    void socket.end(text, 'latin1')
export const thenReset =
  (text: string): Script =>
  (socket) => {
    // A reset may overtake written bytes, so it waits for their arrival.
    if (text === '') socket.resetAndDestroy()
    else socket.write(text, 'latin1', () => setTimeout(() => socket.resetAndDestroy(), 20))
  }

/** One byte at a time. */
export const dribble =
  (text: string, everyMs: number): Script =>
  (socket) => {
    let at = 0
    const timer = setInterval(() => {
      if (socket.destroyed || at === text.length) clearInterval(timer)
      else socket.write(text.charAt(at++), 'latin1')
    }, everyMs)
  }
