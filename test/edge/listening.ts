import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { atEnd } from './at-end.ts'

const file = (name: string): string => readFileSync(new URL(`fixtures/localhost.${name}`, import.meta.url), 'utf8')
/** Key and certificate of localhost. */
export const pem: { key: string; cert: string } = { key: file('key'), cert: file('crt') }

/**
 * Starts a server of any protocol on a free port of 127.0.0.1, or at the path of a Unix socket. It ends with the test.
 *
 * @returns its port; 0 for a Unix socket
 */
export async function startListening(server: unknown, path?: string): Promise<number> {
  const listening = server as Server
  const sockets = new Set<{ destroy(): void }>()
  listening.on('connection', (socket) => sockets.add(socket))
  listening.listen(path === undefined ? { port: 0, host: '127.0.0.1' } : { path })
  await once(listening, 'listening')
  atEnd(() => {
    listening.close()
    for (const socket of sockets) socket.destroy()
  })
  return (listening.address() as AddressInfo | null)?.port ?? 0
}
