import type { IncomingMessage } from 'node:http'
import { constants, type ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import type { Dispatcher } from 'undici'
import { FleetError } from '../../base/errors.ts'
import { http } from '../../base/internals/node-http.ts'
import { endConnection, resetConnection } from '../../base/socket-bounds.ts'
import { caught, guard } from '../boundary.ts'
import { join, type TunnelBounds, watchDisconnect } from '../join.ts'
import { asFleetError, errorPage } from './error-page.ts'
import { type HeaderFields, responseHeaders } from './headers.ts'
import { http2Fields, isHttp2Status } from './http2-fields.ts'

/** The client's side of a tunnel: how the upgrade is confirmed, or rejected. */
export interface TunnelClient {
  readonly socket: Duplex
  /** Whether a response with this status can be sent to the client. */
  accepts(status: number): boolean
  /** The upstream has upgraded. */
  open(headers: HeaderFields): void
  /** The upstream has sent another response; its body follows on the socket. */
  respond(status: number, headers: HeaderFields): void
  fail(error: FleetError): void
  /** Ends an incomplete response so that the client can tell that it is incomplete. */
  breakOff(): void
}

/** An HTTP/1.1 connection that requested an upgrade: RFC 9110 section 7.8. */
export const upgradedClient = (request: IncomingMessage, socket: Duplex): TunnelClient => ({
  socket,
  accepts: () => true,
  open: (headers) => {
    const lines = responseHeaders(headers, 'content-length', 'trailer')
    lines.push('connection', 'upgrade', 'upgrade', 'websocket')
    socket.write(rawHead(101, lines), 'latin1')
  },
  respond: (status, headers) => {
    const lines = responseHeaders(headers, 'trailer', status === 204 ? 'content-length' : '')
    socket.write(rawHead(status, [...lines, 'connection', 'close']), 'latin1')
  },
  fail: (error) => writeRaw(socket, error, request.headers.accept),
  breakOff: () => {
    if (socket instanceof Socket && !(socket instanceof TLSSocket)) resetConnection(socket)
    else socket.destroy()
  },
})

const { NGHTTP2_NO_ERROR: noError } = constants

/** An HTTP/2 stream that requested a WebSocket by an extended CONNECT: RFC 8441. */
export const streamClient = (request: IncomingMessage, stream: ServerHttp2Stream): TunnelClient => {
  const send = (status: number, flat: readonly string[]): void => {
    if (stream.destroyed || stream.closed || stream.headersSent) return
    stream.respond({ ...http2Fields(flat), ':status': status })
  }
  return {
    socket: stream,
    accepts: isHttp2Status,
    open: (headers) => send(200, responseHeaders(headers, 'sec-websocket-accept', 'content-length', 'trailer')),
    respond: (status, headers) =>
      send(status, responseHeaders(headers, 'trailer', status === 204 || status === 205 ? 'content-length' : '')),
    fail: (error) => {
      if (stream.destroyed || stream.closed || stream.headersSent) return
      const page = errorPage(error, request.headers.accept)
      send(page.status, page.headers)
      stream.once('finish', () => stream.close(noError)).end(page.body)
    },
    breakOff: () => stream.close(constants.NGHTTP2_INTERNAL_ERROR),
  }
}

/** A WebSocket between a client and an upstream. */
export class Tunnel implements Dispatcher.DispatchHandler {
  readonly #client: TunnelClient
  readonly #head: Buffer
  readonly #tunnels: Set<Duplex>
  readonly #bounds: TunnelBounds
  readonly #unwatch: () => void
  #responded = false

  /**
   * @param head bytes that the client has already sent
   * @param tunnels contains the client's side while the tunnel is open
   */
  constructor(client: TunnelClient, head: Buffer, tunnels: Set<Duplex>, bounds: TunnelBounds) {
    this.#client = client
    this.#head = head
    this.#tunnels = tunnels
    this.#bounds = bounds
    this.#unwatch = watchDisconnect(client.socket)
  }

  onRequestUpgrade(_: Dispatcher.DispatchController, _status: number, headers: HeaderFields, upstream: Duplex): void {
    const client = this.#client.socket
    if (client.destroyed) {
      upstream.destroy()
      return
    }
    // The client did not request this protocol.
    if (String(headers.upgrade).toLowerCase() !== 'websocket') {
      upstream.destroy()
      this.#unwatch()
      this.#client.fail(new FleetError('FLEET_ERR_UPSTREAM_FAILED', 'it switched to another protocol'))
      return
    }
    this.#client.open(headers)
    if (this.#head.length > 0) upstream.write(this.#head)
    this.#tunnels.add(client)
    client.once('close', () => this.#tunnels.delete(client))
    this.#unwatch()
    join(client, upstream, this.#bounds)
  }

  /** The upstream did not upgrade: its response is forwarded, and the connection ends with it. */
  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: HeaderFields): void {
    if (status < 200) return
    if (!this.#client.accepts(status)) {
      controller.abort(new FleetError('FLEET_ERR_UPSTREAM_FAILED', `status ${status} cannot be sent over HTTP/2`))
      return
    }
    this.#responded = true
    this.#client.respond(status, headers)
  }

  /** The stall guard disconnects a client that does not read. */
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
      if (this.#responded || this.#tunnels.has(this.#client.socket)) this.#client.breakOff()
      else this.#client.fail(asFleetError(error))
    } catch (thrown) {
      caught('the end of a tunnel', thrown, () => this.#client.socket.destroy())
    }
  }
}

/** Writes an error response to a connection that Node's HTTP server no longer handles. */
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
