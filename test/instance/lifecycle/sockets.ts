import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** A connection to this machine that records what it receives. */
export async function open(port: number, send = ''): Promise<Socket & { received: () => string }> {
  const socket = connect(port, '127.0.0.1')
  let received = ''
  socket.on('data', (chunk) => (received += chunk))
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  if (send) socket.write(send)
  return Object.assign(socket, { received: () => received })
}

export const get = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`
