import { type IncomingMessage, STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import type { FleetError } from '../base/errors.ts'
import { asFleetError, errorPage } from './error-page.ts'
import { responseHeaders } from './headers.ts'

/** An upgraded connection: what comes from one side goes to the other. */
export class Tunnel implements Dispatcher.DispatchHandler {
  readonly #request: IncomingMessage
  readonly #socket: Duplex
  readonly #head: Buffer
  readonly #tunnels: Set<Duplex>
  #answered = false

  constructor(request: IncomingMessage, socket: Duplex, head: Buffer, tunnels: Set<Duplex>) {
    this.#request = request
    this.#socket = socket
    this.#head = head
    this.#tunnels = tunnels
  }

  onRequestStart(): void {}

  onRequestUpgrade(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[]>,
    upstream: Duplex,
  ): void {
    const client = this.#socket
    if (client.destroyed) {
      upstream.destroy()
      return
    }
    const lines = responseHeaders(headers)
    lines.push('connection', 'upgrade', 'upgrade', String(headers.upgrade ?? this.#request.headers.upgrade))
    client.write(rawHead(status, lines), 'latin1')
    if (this.#head.length > 0) upstream.write(this.#head)
    this.#tunnels.add(client)
    client.once('close', () => this.#tunnels.delete(client))
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
      from.pipe(to)
    }
  }

  /** The upstream would not upgrade: its answer goes back, and the connection ends with it. */
  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: Record<string, string | string[]>): void {
    if (status < 200) return
    this.#answered = true
    this.#socket.write(rawHead(status, [...responseHeaders(headers), 'connection', 'close']), 'latin1')
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#socket.write(chunk)) return
    controller.pause()
    this.#socket.once('drain', () => controller.resume())
  }

  onResponseEnd(): void {
    this.#socket.end()
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    if (this.#answered) this.#socket.destroy()
    else writeRaw(this.#socket, asFleetError(error), this.#request.headers.accept)
  }
}

/** An error page on a connection that Node does not answer on any more. */
export function writeRaw(socket: Duplex, error: FleetError, accept?: string): void {
  if (socket.destroyed) return
  const page = errorPage(error, accept)
  socket.end(rawHead(page.status, [...page.headers, 'connection', 'close']) + page.body, 'latin1')
}

function rawHead(status: number, headers: readonly string[]): string {
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`
  return `${head}\r\n`
}
