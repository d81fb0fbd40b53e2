import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { atEnd } from './at-end.ts'

/** Requests and tunnels in progress at the upstream. */
export const upstream = { slow: 0, later: 0, mostLater: 0, tunnels: new Set<Socket>() }
const sockets = new Set<Socket>()
const server = createServer((incoming, response) => {
  incoming.resume()
  if (incoming.url === '/slow' || incoming.url === '/hang') {
    upstream.slow++
    response.on('close', () => upstream.slow--)
  } else if (incoming.url === '/later') {
    upstream.mostLater = Math.max(upstream.mostLater, ++upstream.later)
    setTimeout(() => response.end('ok'), 300)
    response.on('close', () => upstream.later--)
  } else if (incoming.url === '/big') {
    response.writeHead(200)
    const piece = Buffer.alloc(65_536)
    const more = (): void => {
      while (!response.destroyed && response.write(piece));
      response.once('drain', more)
    }
    more()
  } else response.end('ok')
})
server.on('upgrade', (incoming, socket: Socket) => {
  socket.on('error', () => {})
  if (incoming.url === '/never') return
  upstream.tunnels.add(socket)
  // It does not close its own side, because the test expects the proxy to do so.
  for (const event of ['end', 'close']) socket.on(event, () => upstream.tunnels.delete(socket))
  sockets.add(socket)
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello')
  if (incoming.url === '/leaves') socket.resume().end('goodbye')
  // Like a server that does not read, so the end of the other side goes unnoticed.
  else if (incoming.url === '/chatty') {
    const more = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      socket.once('drain', more)
    }
    more()
  } else socket.resume()
})

await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
export const upstreamUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
atEnd(() => {
  server.close().closeAllConnections()
  for (const socket of sockets) socket.destroy()
})
