import { EventEmitter } from 'node:events'
import type { Http2Server } from 'node:http2'
import type { TestContext } from 'node:test'
import { type Http2Bounds, Http2Sessions } from '../../src/base/http2-sessions.ts'
import { type Clock, clock } from '../helpers/clock.ts'
import { type FakeSocket, fake } from './fake-socket.ts'

export class FakeSession extends EventEmitter {
  destroyed = false
  closed = false
  readonly calls: string[] = []
  close(): void {
    this.closed = true
    this.calls.push('close')
  }
  destroy(): void {
    this.destroyed = true
    this.calls.push('destroy')
  }
  goaway(code: number): void {
    this.calls.push(`goaway ${code}`)
  }
  ping(): void {
    this.calls.push('ping')
  }
}

export class FakeStream extends EventEmitter {
  destroyed = false
  endAfterHeaders = true
  readableEnded = false
  writableLength = 0
  rstCode = 0
  readonly calls: string[] = []
  close(code: number): void {
    this.calls.push(`close ${code}`)
  }
  destroy(): void {
    this.calls.push('destroy')
  }
}

const off: Http2Bounds = {
  headersTimeoutMs: 0,
  idleTimeoutMs: 0,
  requestTimeoutMs: 0,
  sendTimeoutMs: 0,
  maxHeaderBytes: 1000,
  maxRequests: 0,
  maxConcurrentStreams: 100,
}

export interface Connection {
  readonly raw: FakeSocket & { bytesRead: number; bytesWritten: number }
  readonly session: FakeSession
  /** A request, without a body unless `stream` says otherwise. */
  request(stream?: Partial<FakeStream>, method?: string): FakeStream
}

export interface Started {
  readonly time: Clock
  readonly server: EventEmitter
  readonly sessions: Http2Sessions
  connect(): Connection
}

let port = 1000
/** Sessions of a server whose connections and requests a test makes up. */
export function start(t: TestContext, bounds: Partial<Http2Bounds>): Started {
  const time = clock(t)
  const server = new EventEmitter()
  const sessions = new Http2Sessions({ ...off, ...bounds })
  sessions.watch(server as Http2Server)
  const connect = (): Connection => {
    const raw = Object.assign(fake({ remotePort: ++port }), { bytesRead: 0, bytesWritten: 0 })
    const session = new FakeSession()
    server.emit('connection', raw)
    server.emit('session', session)
    return {
      raw,
      session,
      request(state = {}, method = 'GET') {
        const stream = Object.assign(new FakeStream(), state)
        session.emit('stream', stream, { ':method': method })
        return stream
      },
    }
  }
  return { time, server, sessions, connect }
}
