import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import { type Socket, Server as TcpServer } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../helpers/free-port.ts'
import { atEnd } from './at-end.ts'

/** A small HTTP server that can drain, be killed, and restart on the same port. */
export class Upstream {
  readonly name: string
  port = 0
  /** Method and path of each request except probes. */
  readonly seen: string[] = []
  ready = true
  draining = false
  handler: RequestListener = (request, response) => this.response(request, response)
  #server: Server | undefined
  readonly #sockets = new Set<Socket>()
  readonly #busy = new Set<Socket>()

  constructor(name: string) {
    this.name = name
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  get server(): Server {
    return this.#server as Server
  }

  async start(): Promise<this> {
    this.ready = true
    this.draining = false
    const server = createServer({ keepAliveTimeout: 72_000 }, (request, response) => this.#serve(request, response))
    this.#server = server
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    // Reserved while it is stopped, too: the kernel could give a port of its own choice to another process.
    this.port ||= await freePort()
    await once(server.listen(this.port, '127.0.0.1'), 'listening')
    return this
  }

  /**
   * Shuts down like an instance: announces the drain, closes its listener, finishes in-flight requests, and closes a
   * connection only after 250 ms of silence, because a front may be writing to it. Bytes that have arrived are read first.
   */
  async leave(): Promise<void> {
    this.draining = true
    TcpServer.prototype.close.call(this.server)
    const seen = new Map<Socket, number>()
    while (this.#sockets.size > 0) {
      for (const socket of this.#sockets) {
        if (this.#busy.has(socket)) continue
        if (seen.get(socket) === socket.bytesRead) socket.destroy()
        else seen.set(socket, socket.bytesRead)
      }
      await sleep(250)
      await nextTurn()
    }
  }

  /** Like SIGKILL: every connection is reset. */
  kill(): void {
    this.#server?.close()
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  response(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      const { method, url, headers } = request
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ name: this.name, method, url, headers, body }))
    })
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    this.#busy.add(request.socket)
    response.on('close', () => this.#busy.delete(request.socket))
    if (this.draining) {
      response.setHeader('connection', 'close')
      response.setHeader('x-fleet-draining', '1')
    }
    if (request.url === '/ready') {
      response.statusCode = this.ready && !this.draining ? 200 : 503
      response.end()
      return
    }
    if (this.draining && request.headers['x-fleet-retry']) {
      response.statusCode = 502
      response.end('{"code":"FLEET_ERR_DRAINING"}')
      return
    }
    this.seen.push(`${request.method} ${request.url}`)
    this.handler(request, response)
  }
}

export async function startUpstreams(count: number): Promise<Upstream[]> {
  const upstreams = await Promise.all(Array.from({ length: count }, (_, i) => new Upstream(`u${i}`).start()))
  atEnd(() => {
    for (const upstream of upstreams) upstream.kill()
  })
  return upstreams
}
