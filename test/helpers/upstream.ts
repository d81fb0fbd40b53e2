import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { after } from 'node:test'
import { freePort } from './free-port.ts'

export interface Upstream {
  readonly name: string
  readonly port: number
  /** `127.0.0.1:port`, for scripts/nginx-render. */
  readonly target: string
  /** Every request so far. */
  readonly seen: { method: string; path: string; headers: IncomingMessage['headers']; socket: number }[]
  /** Handles requests; may be replaced at any time. */
  handler: RequestListener
  onUpgrade(listener: (request: IncomingMessage, socket: Duplex, head: Buffer) => void): void
  /** Closes connections and refuses new ones. */
  stop(): Promise<void>
  /** Listens again on the same port. */
  start(): Promise<void>
}

/** A small instance in this process, which sends its name in `X-Instance-Id`. Closed at the end of the test file. */
export async function startUpstream(name: string, handler?: RequestListener): Promise<Upstream> {
  const seen: Upstream['seen'] = []
  const sockets = new WeakMap<object, number>()
  let opened = 0
  // Reserved while it is stopped, too: the kernel could give a port of its own choice to another process.
  const port = await freePort()
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const { method = '', url: path = '', headers, socket } = request
    if (!sockets.has(socket)) sockets.set(socket, ++opened)
    seen.push({ method, path, headers, socket: sockets.get(socket) ?? 0 })
    response.setHeader('X-Instance-Id', name)
    upstream.handler(request, response)
  })
  const start = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', resolve)
    })
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  const upstream: Upstream = {
    name,
    port,
    target: `127.0.0.1:${port}`,
    seen,
    handler: handler ?? ((_request, response) => response.end('ok')),
    onUpgrade: (listener) => void server.on('upgrade', listener),
    start,
    stop,
  }
  await start()
  after(() => (server.listening ? stop() : undefined))
  return upstream
}

export const startUpstreams = (...names: string[]): Promise<Upstream[]> =>
  Promise.all(names.map((name) => startUpstream(name)))

export const targets = (...upstreams: Upstream[]): string => upstreams.map(({ target }) => target).join(' ')
