import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { Dispatcher } from 'undici'
import { undici } from '../../../base/internals/undici.ts'
import { caught, guard } from '../../boundary.ts'
import type { HeaderFields } from '../headers.ts'
import { ChunkedDecoder } from './chunks.ts'
import { noTrailers } from './fields.ts'
import { RequestWriter, type WireRequest } from './request-writer.ts'
import { type HeadHandler, parseHead, passHead, type ResponseHead } from './response-head.ts'
import { openSocket, type ServerAddress, type SessionOwner } from './socket.ts'

export interface WireOptions extends ServerAddress {
  readonly connectTimeoutMs: number
  /** From the request to the headers of its response. */
  readonly responseTimeoutMs: number
  /** Between two reads of a response body; 0: no limit. */
  readonly bodyTimeoutMs: number
  /** An idle connection is not used again after this time. */
  readonly keepAliveMs: number
  /** The same for requests that must not be sent twice. */
  readonly unsafeKeepAliveMs: number
  readonly maxHeaderBytes: number
}

/** The pool that a connection reports to. */
export interface ConnectionOwner extends SessionOwner {
  /** The connection can take another request. */
  idle(connection: Connection): void
  closed(connection: Connection): void
}

/**
 * All connections read into this one buffer: each read is processed before the next one, and chunks of a body are
 * copied.
 */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024)
/** Subtracted from the keep-alive time that a server announces, in milliseconds. */
const hintMarginMs = 2000

/**
 * One connection to an HTTP/1.1 server, with one request at a time. docs/balancer.md explains why the proxy has its own.
 */
export class Connection implements Dispatcher.DispatchController {
  aborted = false
  paused = false
  reason: Error | null = null
  /** Monotonic milliseconds at which the current step times out. */
  deadline: number
  idleSince = 0
  idleUntil = 0
  readonly #options: WireOptions
  readonly #owner: ConnectionOwner
  readonly #socket: Socket
  readonly #writer: RequestWriter
  #request: WireRequest | undefined
  #handler: HeadHandler | undefined
  #connected = false
  /** The part of a head that has arrived. */
  #text = ''
  #head: ResponseHead | undefined
  #chunks: ChunkedDecoder | undefined
  #left = 0
  /** Why the connection was closed on this side. */
  #cause: Error | undefined
  #dead = false
  /** The connection closes after the current request. */
  #last = false

  constructor(options: WireOptions, owner: ConnectionOwner) {
    this.#options = options
    this.#owner = owner
    this.deadline = performance.now() + options.connectTimeoutMs
    const onread = {
      buffer: readBuffer,
      callback: (length: number, buffer: Uint8Array): boolean => {
        try {
          this.#read(buffer as Buffer, length)
        } catch (thrown) {
          caught('the reading of a response', thrown, (error) => this.#end(error))
        }
        return !this.paused
      },
    }
    this.#socket = openSocket(options, 'http/1.1', owner, onread)
    this.#writer = new RequestWriter(this.#socket, (forServer) => this.#onWait(forServer))
    this.#on(options.serverName === undefined ? 'connect' : 'secureConnect', () => {
      this.#connected = true
      this.#write()
    })
    this.#on('error', (error: Error) => {
      this.#cause ??= error
    })
    this.#on('drain', () => this.#writer.proceed())
    this.#on('end', () => this.#ended())
    this.#on('close', () => this.#end(undefined))
  }

  get busy(): boolean {
    return this.#handler !== undefined
  }

  /** Sends a request once the connection is established. The connection must not be busy. */
  send(request: WireRequest, handler: HeadHandler): void {
    this.#request = request
    this.#handler = handler
    if (this.#connected) this.#write()
  }

  pause(): void {
    this.paused = true
    this.deadline = Number.POSITIVE_INFINITY
    this.#socket.pause()
  }

  resume(): void {
    if (!this.paused) return
    this.paused = false
    this.#waitForBody()
    this.#socket.resume()
  }

  abort(reason: Error): void {
    this.aborted = true
    this.reason = reason
    this.#end(reason)
  }

  /** Ends the connection with the error of the step that timed out. */
  expire(): void {
    if (!this.#connected) this.#end(new (undici().errors.ConnectTimeoutError)())
    else if (this.#head) this.#end(new (undici().errors.BodyTimeoutError)())
    else this.#end(new (undici().errors.HeadersTimeoutError)())
  }

  /** Closes the connection now, or after the current request. */
  retire(): void {
    this.#last = true
    if (!this.busy) this.#end(undefined)
  }

  #on(event: string, listener: (error: Error) => void): void {
    this.#socket.on(
      event,
      guard('an upstream connection', listener, (error) => this.#end(error)),
    )
  }

  #write(): void {
    this.aborted = false
    this.reason = null
    this.#handler?.onRequestStart?.(this, null)
    if (this.aborted) return
    this.#writer.write(this.#request as WireRequest)?.catch((error: Error) => this.#end(error))
  }

  /** The time that the source of a body takes is not the server's. */
  #onWait(forServer: boolean): void {
    if (this.#head) return
    const { responseTimeoutMs } = this.#options
    const ms = this.#request?.responseTimeoutMs ?? responseTimeoutMs
    this.deadline = forServer ? performance.now() + ms : Number.POSITIVE_INFINITY
  }

  #read(buffer: Buffer, length: number): void {
    // A response without a request.
    if (!this.busy) this.#end(undefined)
    else if (this.#head) this.#readBody(buffer.subarray(0, length))
    else this.#readHead(buffer, length)
  }

  #readHead(buffer: Buffer, length: number): void {
    const before = this.#text.length
    this.#text += buffer.toString('latin1', 0, length)
    let start = 0
    while (this.busy && !this.#dead) {
      const end = this.#text.indexOf('\r\n\r\n', start)
      if ((end < 0 ? this.#text.length : end) - start > this.#options.maxHeaderBytes) {
        this.#end(new (undici().errors.HeadersOverflowError)())
        return
      }
      if (end < 0) {
        this.#text = this.#text.slice(start)
        return
      }
      const head = parseHead(this.#text.slice(start, end), this.#request?.method === 'HEAD')
      // 101 responds to an upgrade, which this class never requests.
      if (!head || head.status === 101) {
        this.#reject()
        return
      }
      start = end + 4
      if (head.status >= 200) {
        this.#text = ''
        this.#begin(head, buffer.subarray(start - before, length))
        return
      }
      passHead(this.#handler as HeadHandler, this, head)
    }
  }

  #begin(head: ResponseHead, rest: Buffer): void {
    this.#head = head
    this.#left = typeof head.framing === 'number' ? head.framing : Number.POSITIVE_INFINITY
    this.#chunks =
      head.framing === 'chunked'
        ? new ChunkedDecoder(this.#options.maxHeaderBytes, (data) => this.#pass(data))
        : undefined
    this.#waitForBody()
    passHead(this.#handler as HeadHandler, this, head)
    if (!this.#dead) this.#readBody(rest)
  }

  #readBody(bytes: Buffer): void {
    if (bytes.length > 0 && !this.paused) this.#waitForBody()
    if (this.#chunks) {
      const used = this.#chunks.read(bytes)
      if (this.#dead) return
      if (used < 0) this.#reject()
      else if (this.#chunks.trailers) this.#complete(this.#chunks.trailers, bytes.length > used)
      return
    }
    const length = Math.min(bytes.length, this.#left)
    this.#left -= length
    if (length > 0) this.#pass(bytes.subarray(0, length))
    if (this.#left === 0 && !this.#dead) this.#complete(noTrailers, bytes.length > length)
  }

  #pass(data: Buffer): void {
    if (!this.#dead) this.#handler?.onResponseData?.(this, Buffer.from(data))
  }

  /** @param more bytes arrived that do not belong to this response */
  #complete(trailers: HeaderFields, more: boolean): void {
    const handler = this.#handler
    const { keepAlive, keepAliveMs = Number.POSITIVE_INFINITY } = this.#head as ResponseHead
    const idleMs = Math.min(this.#options.keepAliveMs, keepAliveMs - hintMarginMs)
    this.#handler = undefined
    this.#request = undefined
    this.#head = undefined
    this.#chunks = undefined
    if (this.paused) {
      this.paused = false
      this.#socket.resume()
    }
    this.deadline = Number.POSITIVE_INFINITY
    // A server that has sent its response may not read the rest of a request.
    const unsent = this.#writer.writing || this.#socket.writableLength > 0
    if (!keepAlive || more || this.#last || idleMs <= 0 || unsent) this.#end(undefined)
    else {
      this.idleSince = performance.now()
      this.idleUntil = this.idleSince + idleMs
      this.#owner.idle(this)
    }
    handler?.onResponseEnd?.(this, trailers)
  }

  #waitForBody(): void {
    const { bodyTimeoutMs } = this.#options
    this.deadline = bodyTimeoutMs > 0 ? performance.now() + bodyTimeoutMs : Number.POSITIVE_INFINITY
  }

  #reject(): void {
    this.#end(new (undici().errors.HTTPParserError)('it is not valid HTTP/1.1 (RFC 9112)'))
  }

  /** The server has ended its side. */
  #ended(): void {
    if (this.#head?.framing === 'close') this.#complete(noTrailers, false)
    else this.#end(this.busy ? new (undici().errors.SocketError)('other side closed') : undefined)
  }

  /** Closes the connection and reports that to the current request. */
  #end(cause: Error | undefined): void {
    if (this.#dead) return
    this.#dead = true
    this.#cause ??= cause
    this.#owner.closed(this)
    this.#socket.destroy()
    const handler = this.#handler
    this.#handler = undefined
    this.#writer.proceed()
    if (!handler) return
    const error = this.#cause ?? new (undici().errors.SocketError)('other side closed')
    handler.onResponseError?.(this.#connected ? this : (null as never), error)
  }
}
