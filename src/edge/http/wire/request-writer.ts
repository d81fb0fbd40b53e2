import type { Socket } from 'node:net'

/** A request whose parts need no validation, because they come from Node's parser and from this proxy. */
export interface WireRequest {
  readonly method: string
  readonly path: string
  /** Lines with their line ends, names in lower case. */
  readonly headers: string
  /** A stream is as long as `content-length` says. */
  readonly body: Buffer | AsyncIterable<Buffer> | null
  /** Ask the server to reject the request instead of serving it while it drains (`X-Fleet-Retry`). */
  readonly rejectable: boolean
  /** Instead of that of the pool. */
  readonly responseTimeoutMs?: number
}

/** The head of a request, with the empty line that ends it. A stream without a length is sent in chunks. */
function requestText({ method, path, headers, body, rejectable }: WireRequest): string {
  let text = `${method} ${path} HTTP/1.1\r\nconnection: keep-alive\r\n${headers}`
  if (!hasLength(headers)) {
    if (body !== null && !Buffer.isBuffer(body)) text += 'transfer-encoding: chunked\r\n'
    // Methods that usually have a body send a length of 0 without one (RFC 9110 section 8.6).
    else if (body?.length || method === 'POST' || method === 'PUT' || method === 'PATCH') {
      text += `content-length: ${body?.length ?? 0}\r\n`
    }
  }
  return text + (rejectable ? 'x-fleet-retry: 1\r\n\r\n' : '\r\n')
}

const hasLength = (headers: string): boolean => `\n${headers}`.includes('\ncontent-length: ')

/** Longest body that is written together with its head, in bytes. */
const smallBody = 8192

/** Writes requests to a socket, one after the other. */
export class RequestWriter {
  /** The body of the current request is not complete. */
  writing = false
  readonly #socket: Socket
  readonly #onWait: (forServer: boolean) => void
  /** Continues a body that waits until the socket accepts more. */
  #continue: (() => void) | undefined

  /** @param onWait called before a wait: for the server, or for the source of a body */
  constructor(socket: Socket, onWait: (forServer: boolean) => void) {
    this.#socket = socket
    this.#onWait = onWait
  }

  /** @returns for a stream, a promise that rejects with its error */
  write(request: WireRequest): Promise<void> | undefined {
    const { body, headers } = request
    const text = requestText(request)
    if (body !== null && !Buffer.isBuffer(body)) return this.#stream(text, body, !hasLength(headers))
    this.#onWait(true)
    if (body === null || body.length === 0) this.#socket.write(text, 'latin1')
    else if (body.length <= smallBody) this.#socket.write(text + body.toString('latin1'), 'latin1')
    else this.#writeBoth(text, body)
    return undefined
  }

  /** Call it when the socket has drained or closed. */
  proceed(): void {
    this.#continue?.()
  }

  async #stream(head: string, body: AsyncIterable<Buffer>, chunked: boolean): Promise<void> {
    this.writing = true
    this.#onWait(false)
    this.#socket.write(head, 'latin1')
    let before = ''
    for await (const chunk of body) {
      if (this.#socket.destroyed) return
      this.#writeBoth(chunked ? `${before}${chunk.length.toString(16)}\r\n` : '', chunk)
      before = '\r\n'
      if (this.#socket.writableNeedDrain) await this.#drain()
    }
    if (this.#socket.destroyed) return
    if (chunked) this.#socket.write(`${before}0\r\n\r\n`, 'latin1')
    this.writing = false
    this.#onWait(true)
  }

  async #drain(): Promise<void> {
    this.#onWait(true)
    await new Promise<void>((resolve) => {
      this.#continue = resolve
    })
    this.#continue = undefined
    this.#onWait(false)
  }

  #writeBoth(text: string, data: Buffer): void {
    this.#socket.cork()
    if (text !== '') this.#socket.write(text, 'latin1')
    this.#socket.write(data)
    this.#socket.uncork()
  }
}
