import type { IncomingMessage } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { FleetError } from '../base/errors.ts'
import { http } from '../base/node-http.ts'
import { endConnection } from '../base/socket-bounds.ts'
import { asFleetError, errorPage } from './error-page.ts'
import { responseHeaders } from './headers.ts'
import { join, type TunnelBounds, watchDeparture } from './join.ts'

type Headers = Record<string, string | string[]>

/** How the client's side of a tunnel begins, or does not. */
export interface Door {
  readonly socket: Duplex
  /** The upstream agreed. */
  opened(status: number, headers: Headers): void
  /** It answered something else, whose body follows on the socket. */
  answered(status: number, headers: Headers): void
  failed(error: FleetError): void
}

/** Of a connection that asked for an upgrade: RFC 9110 section 7.8. */
export const upgradeDoor = (request: IncomingMessage, socket: Duplex): Door => ({
  socket,
  opened: (status, headers) => {
    const lines = responseHeaders(headers)
    lines.push('connection', 'upgrade', 'upgrade', String(headers.upgrade ?? request.headers.upgrade))
    socket.write(rawHead(status, lines), 'latin1')
  },
  answered: (status, headers) => {
    socket.write(rawHead(status, [...responseHeaders(headers), 'connection', 'close']), 'latin1')
  },
  failed: (error) => writeRaw(socket, error, request.headers.accept),
})

/** RFC 9113 section 7. */
const noError = 0

/** Of a stream that asked for one by an extended CONNECT: RFC 8441. */
export const streamDoor = (request: IncomingMessage, stream: ServerHttp2Stream): Door => ({
  socket: stream,
  opened: (_, headers) => {
    const { 'sec-websocket-accept': _accept, ...rest } = headers
    stream.respond(listed(200, responseHeaders(rest)))
  },
  answered: (status, headers) => stream.respond(listed(status, responseHeaders(headers))),
  failed: (error) => {
    if (stream.destroyed || stream.headersSent) return
    const page = errorPage(error, request.headers.accept)
    stream.respond(listed(page.status, page.headers))
    stream.once('finish', () => stream.close(noError)).end(page.body)
  },
})

function listed(status: number, flat: readonly string[]): Record<string, number | string[]> {
  const headers: Record<string, number | string[]> = {}
  for (let i = 0; i < flat.length; i += 2) {
    const name = flat[i] as string
    headers[name] = [...((headers[name] as string[] | undefined) ?? []), flat[i + 1] as string]
  }
  return { ...headers, ':status': status }
}

/** An upgraded connection: what comes from one side goes to the other. */
export class Tunnel implements Dispatcher.DispatchHandler {
  readonly #door: Door
  readonly #head: Buffer
  readonly #tunnels: Set<Duplex>
  readonly #bounds: TunnelBounds
  readonly #unwatch: () => void
  #answered = false

  /**
   * @param head bytes that came from the client already
   * @param tunnels gets the client's side while the tunnel is open
   */
  constructor(door: Door, head: Buffer, tunnels: Set<Duplex>, bounds: TunnelBounds) {
    this.#door = door
    this.#head = head
    this.#tunnels = tunnels
    this.#bounds = bounds
    this.#unwatch = watchDeparture(door.socket)
  }

  onRequestStart(): void {}

  onRequestUpgrade(_: Dispatcher.DispatchController, status: number, headers: Headers, upstream: Duplex): void {
    const client = this.#door.socket
    if (client.destroyed) {
      upstream.destroy()
      return
    }
    this.#door.opened(status, headers)
    if (this.#head.length > 0) upstream.write(this.#head)
    this.#tunnels.add(client)
    client.once('close', () => this.#tunnels.delete(client))
    this.#unwatch()
    join(client, upstream, this.#bounds)
  }

  /** The upstream would not upgrade: its answer goes back, and the connection ends with it. */
  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: Headers): void {
    if (status < 200) return
    this.#answered = true
    this.#door.answered(status, headers)
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#door.socket.write(chunk)) return
    controller.pause()
    this.#door.socket.once('drain', () => controller.resume())
  }

  onResponseEnd(): void {
    this.#unwatch()
    endConnection(this.#door.socket)
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    this.#unwatch()
    if (this.#answered) this.#door.socket.destroy()
    else this.#door.failed(asFleetError(error))
  }
}

/** An error page on a connection that Node does not answer on any more. */
export function writeRaw(socket: Duplex, error: FleetError, accept?: string): void {
  if (socket.destroyed) return
  const page = errorPage(error, accept)
  endConnection(socket, rawHead(page.status, [...page.headers, 'connection', 'close']) + page.body)
}

function rawHead(status: number, headers: readonly string[]): string {
  let head = `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}\r\n`
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`
  return `${head}\r\n`
}
