import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { FleetError } from '../../base/errors.ts'
import { guard } from '../boundary.ts'
import type { TunnelBounds } from '../join.ts'
import { type Admission, type AdmittedRequest, clientGone, invalid, methodNotAllowed } from './admission.ts'
import type { HeaderLines } from './headers.ts'
import { isHttp2, isWebSocket } from './node-server.ts'
import type { Origins } from './origins.ts'
import { streamClient, Tunnel, type TunnelClient, upgradedClient, writeRaw } from './tunnel.ts'

/** Handles upgrades and CONNECT, and keeps the connections that they take from Node's HTTP server. */
export class Tunnels {
  readonly #admission: Admission
  readonly #origins: Origins
  readonly #bounds: TunnelBounds
  readonly #open = new Set<Duplex>()
  /** Sockets that have left Node's HTTP server, which therefore no longer closes them. */
  readonly #detached = new Set<Duplex>()

  constructor(admission: Admission, origins: Origins, bounds: TunnelBounds) {
    this.#admission = admission
    this.#origins = origins
    this.#bounds = bounds
  }

  /** Open WebSockets. */
  get size(): number {
    return this.#open.size
  }

  /** For the event `upgrade`. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.#detach(socket)
    const admitted = this.#admission.admit(request, this.#origins.of(request.socket))
    if (admitted instanceof FleetError || admitted.length > 0 || !isWebSocket(request)) {
      writeRaw(socket, admitted instanceof FleetError ? admitted : invalid('Upgrade'), request.headers.accept)
      return
    }
    this.#start(admitted, upgradedClient(request, socket), head)
  }

  /** For the event `connect`. Only an HTTP/2 CONNECT for a WebSocket is accepted; upstream it becomes an upgrade. */
  connect(request: IncomingMessage, other: Duplex | ServerResponse): void {
    const { headers, rawHeaders, url, httpVersion, httpVersionMajor } = request
    if (!isHttp2(request)) {
      this.#detach(other as Duplex)
      const version = httpVersionMajor === 1 ? undefined : new FleetError('FLEET_ERR_VERSION_UNSUPPORTED')
      writeRaw(other as Duplex, version ?? methodNotAllowed(), headers.accept)
      return
    }
    const stream = (request as unknown as { stream: ServerHttp2Stream }).stream
    const client = streamClient(request, stream)
    const upgrade = { method: 'GET', url, headers, rawHeaders, httpVersion, httpVersionMajor, stream }
    const admitted =
      headers[':protocol'] === 'websocket'
        ? this.#admission.admit(upgrade as never, this.#origins.of(request.socket))
        : methodNotAllowed()
    if (admitted instanceof FleetError) {
      client.fail(admitted)
      return
    }
    ;(admitted.options.headers as HeaderLines).push('sec-websocket-key', randomBytes(16).toString('base64'))
    this.#start(admitted, client, Buffer.alloc(0))
  }

  /** Ends all open tunnels in order. */
  end(): void {
    for (const socket of this.#open) socket.end()
  }

  destroy(): void {
    for (const socket of this.#detached) socket.destroy()
  }

  #start({ pool, options, input }: AdmittedRequest, client: TunnelClient, head: Buffer): void {
    const rejection = pool.rejects(0)
    if (rejection) {
      client.fail(rejection)
      return
    }
    const tunnel = new Tunnel(client, head, this.#open, this.#bounds)
    const exchange = pool.balancer.dispatch({ ...options, upgrade: 'websocket' }, tunnel, input)
    client.socket.once(
      'close',
      guard('the end of a tunnel', () => exchange.abort(clientGone())),
    )
  }

  #detach(socket: Duplex): void {
    this.#detached.add(socket)
    socket.once('close', () => this.#detached.delete(socket))
  }
}
