import { type ClientHttp2Session, connect } from 'node:http2'
import type { Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { undici } from '../../../base/internals/undici.ts'
import { guard } from '../../boundary.ts'
import type { WireOptions } from './connection.ts'
import { Http2Exchange } from './http2-exchange.ts'
import type { WireRequest } from './request-writer.ts'
import type { HeadHandler } from './response-head.ts'
import { openSocket, type SessionOwner } from './socket.ts'

/** Requests that share one connection, unless the server allows fewer. */
const maxStreams = 100
/** Memory of one session, in MB: Node's default. */
const maxSessionMemory = 10

/** A connection, with the requests that wait for it or use it. */
interface Session {
  readonly http2: ClientHttp2Session
  readonly socket: Socket
  readonly open: Set<Http2Exchange>
  ready: boolean
  idleSince: number
}

/** The HTTP/2 connections to one server. Requests share a connection. */
export class Http2Pool implements SessionOwner {
  session: Buffer | undefined
  readonly #options: WireOptions
  readonly #sessions = new Set<Session>()
  #onClosed: (() => void) | undefined

  constructor(options: WireOptions) {
    this.#options = options
  }

  /** @param repeatable whether the request may be sent again when its connection turns out to be dead */
  dispatch(request: WireRequest, handler: HeadHandler, repeatable: boolean): void {
    const session = this.#take(repeatable) ?? this.#connect()
    const done = (): void => {
      session.open.delete(exchange)
      session.idleSince = performance.now()
      if (this.#onClosed || session.http2.closed) this.#retire(session)
    }
    const exchange = new Http2Exchange(request, handler, this.#options, done)
    session.open.add(exchange)
    if (session.ready) exchange.start(session.http2)
  }

  /** Closes idle connections; resolves when the others have closed after their requests. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#onClosed = resolve
      for (const session of [...this.#sessions]) this.#retire(session)
      if (this.#sessions.size === 0) resolve()
    })
  }

  #take(repeatable: boolean): Session | undefined {
    const { keepAliveMs, unsafeKeepAliveMs } = this.#options
    const idleMs = repeatable ? keepAliveMs : Math.min(keepAliveMs, unsafeKeepAliveMs)
    for (const session of [...this.#sessions]) {
      const { http2, open, ready, idleSince } = session
      const most = Math.min(maxStreams, http2.remoteSettings?.maxConcurrentStreams ?? maxStreams)
      if (http2.closed || http2.destroyed || open.size >= most) continue
      if (open.size > 0 || !ready || performance.now() < idleSince + idleMs) return session
      this.#retire(session)
    }
    return undefined
  }

  #connect(): Session {
    const { connectTimeoutMs, keepAliveMs, serverName, maxHeaderBytes } = this.#options
    const socket = openSocket(this.#options, 'h2', this)
    const http2 = connect(serverName === undefined ? 'http://server' : 'https://server', {
      createConnection: () => socket,
      maxSessionMemory,
      settings: { enablePush: false, maxHeaderListSize: maxHeaderBytes },
    })
    const session: Session = { http2, socket, open: new Set(), ready: false, idleSince: performance.now() }
    this.#sessions.add(session)
    let cause: Error | undefined
    const late = guard('a late HTTP/2 connection', () => {
      cause = new (undici().errors.ConnectTimeoutError)()
      http2.destroy()
    })
    const timer = setTimeout(late, connectTimeoutMs)
    const on = (event: string, listener: (error: Error) => void): void => {
      http2.on(
        event,
        guard('an HTTP/2 connection', listener, () => http2.destroy()),
      )
    }
    // Only a server that speaks HTTP/2 sends settings: until then no request was sent.
    on('remoteSettings', () => {
      clearTimeout(timer)
      if (session.ready) return
      session.ready = true
      for (const exchange of [...session.open]) exchange.start(http2)
    })
    on('goaway', () => {
      if (session.open.size === 0) this.#retire(session)
    })
    on('error', (error) => {
      cause ??= error
    })
    on('close', () => {
      clearTimeout(timer)
      this.#sessions.delete(session)
      const error = cause ?? new (undici().errors.SocketError)('other side closed')
      for (const exchange of [...session.open]) exchange.closed(error)
      if (this.#sessions.size === 0) this.#onClosed?.()
    })
    on('timeout', () => {
      if (session.open.size === 0) this.#retire(session)
    })
    http2.setTimeout(keepAliveMs)
    return session
  }

  /** Closes a connection once it has no requests. */
  #retire({ http2, socket, open }: Session): void {
    if (open.size === 0) {
      http2.destroy()
      // A closed session would wait until the server closes the connection.
      socket.destroy()
    } else if (!http2.closed) http2.close()
  }
}
