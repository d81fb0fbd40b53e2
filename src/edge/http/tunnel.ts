import type { IncomingMessage } from 'node:http'
import { constants, type ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import type { Dispatcher } from 'undici'
import { FleetError } from '../../base/errors.ts'
import { http } from '../../base/internals/node-http.ts'
import { endConnection } from '../../base/socket-bounds.ts'
import { caught, guard } from '../boundary.ts'
import { join, type TunnelBounds, watchDeparture } from '../join.ts'
import { asFleetError, errorPage } from './error-page.ts'
import { responseHeaders } from './headers.ts'
import { http2Fields, isHttp2Status } from './http2-fields.ts'
import type { HeaderFields } from './wire/fields.ts'

/** How the client's side of a tunnel begins, or does not. */
export interface TunnelClient {
  readonly socket: Duplex
  /** Whether a response with this status can be sent to the client. */
  accepts(status: number): boolean
  /** The upstream agreed. */
  opened(headers: HeaderFields): void
  /** It answered something else, whose body follows on the socket. */
  answered(status: number, headers: HeaderFields): void
  failed(error: FleetError): void
  /** Ends a response that is not complete, so that it cannot be taken for a whole one. */
  broken(): void
}

/** Of a connection that asked for an upgrade: RFC 9110 section 7.8. */
export const upgradedClient = (request: IncomingMessage, socket: Duplex): TunnelClient => ({
  socket,
  accepts: () => true,
  opened: (headers) => {
    const lines = responseHeaders(headers, 'content-length', 'trailer')
    lines.push('connection', 'upgrade', 'upgrade', 'websocket')
    socket.write(rawHead(101, lines), 'latin1')
  },
  answered: (status, headers) => {
    const lines = responseHeaders(headers, 'trailer', status === 204 ? 'content-length' : '')
    socket.write(rawHead(status, [...lines, 'connection', 'close']), 'latin1')
  },
  failed: (error) => writeRaw(socket, error, request.headers.accept),
  broken: () => {
    if (socket instanceof Socket && !(socket instanceof TLSSocket)) socket.resetAndDestroy()
    else socket.destroy()
  },
})

const { NGHTTP2_NO_ERROR: noError } = constants

/** Of a stream that asked for one by an extended CONNECT: RFC 8441. */
export const streamClient = (request: IncomingMessage, stream: ServerHttp2Stream): TunnelClient => {
  const respond = (status: number, flat: readonly string[]): void => {
    if (stream.destroyed || stream.closed || stream.headersSent) return
    stream.respond({ ...http2Fields(flat), ':status': status })
  }
  return {
    socket: stream,
    accepts: isHttp2Status,
    opened: (headers) => respond(200, responseHeaders(headers, 'sec-websocket-accept', 'content-length', 'trailer')),
    answered: (status, headers) =>
      respond(status, responseHeaders(headers, 'trailer', status === 204 || status === 205 ? 'content-length' : '')),
    failed: (error) => {
      if (stream.destroyed || stream.closed || stream.headersSent) return
      const page = errorPage(error, request.headers.accept)
      respond(page.status, page.headers)
      stream.once('finish', () => stream.close(noError)).end(page.body)
    },
    broken: () => stream.close(constants.NGHTTP2_INTERNAL_ERROR),
  }
}

/** An upgraded connection: what comes from one side goes to the other. */
export class Tunnel implements Dispatcher.DispatchHandler {
  readonly #client: TunnelClient
  readonly #head: Buffer
  readonly #tunnels: Set<Duplex>
  readonly #bounds: TunnelBounds
  readonly #unwatch: () => void
  #answered = false

  /**
   * @param head bytes that came from the client already
   * @param tunnels gets the client's side while the tunnel is open
   */
  constructor(client: TunnelClient, head: Buffer, tunnels: Set<Duplex>, bounds: TunnelBounds) {
    this.#client = client
    this.#head = head
    this.#tunnels = tunnels
    this.#bounds = bounds
    this.#unwatch = watchDeparture(client.socket)
  }

  onRequestStart(): void {}

  onRequestUpgrade(_: Dispatcher.DispatchController, _status: number, headers: HeaderFields, upstream: Duplex): void {
    const client = this.#client.socket
    if (client.destroyed) {
      upstream.destroy()
      return
    }
    // A protocol that was not asked for is none that the client could speak.
    if (String(headers.upgrade).toLowerCase() !== 'websocket') {
      upstream.destroy()
      this.#unwatch()
      this.#client.failed(new FleetError('FLEET_ERR_UPSTREAM_FAILED', 'it switched to another protocol'))
      return
    }
    this.#client.opened(headers)
    if (this.#head.length > 0) upstream.write(this.#head)
    this.#tunnels.add(client)
    client.once('close', () => this.#tunnels.delete(client))
    this.#unwatch()
    join(client, upstream, this.#bounds)
  }

  /** The upstream would not upgrade: its answer goes back, and the connection ends with it. */
  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: HeaderFields): void {
    if (status < 200) return
    if (!this.#client.accepts(status)) {
      controller.abort(new FleetError('FLEET_ERR_UPSTREAM_FAILED', `status ${status} cannot be sent over HTTP/2`))
      return
    }
    this.#answered = true
    this.#client.answered(status, headers)
  }

  /** The stall guard cuts a client that does not read. */
  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const { socket } = this.#client
    if (!socket.writable || socket.write(chunk) || controller.paused) return
    controller.pause()
    const drained = guard(
      'the drain of a response',
      () => controller.resume(),
      () => socket.destroy(),
    )
    socket.once('drain', drained)
  }

  onResponseEnd(): void {
    this.#unwatch()
    endConnection(this.#client.socket)
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    this.#unwatch()
    try {
      if (this.#answered || this.#tunnels.has(this.#client.socket)) this.#client.broken()
      else this.#client.failed(asFleetError(error))
    } catch (thrown) {
      caught('the end of a tunnel', thrown, () => this.#client.socket.destroy())
    }
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
