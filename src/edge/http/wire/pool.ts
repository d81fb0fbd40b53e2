import { performance } from 'node:perf_hooks'
import { guard } from '../../boundary.ts'
import { Connection, type ConnectionOwner, type WireOptions } from './connection.ts'
import type { WireRequest } from './request-text.ts'
import type { HeadHandler } from './response-head.ts'

/** The connections to one server. As many as there are requests at once; who was used last is used first. */
export class WirePool implements ConnectionOwner {
  readonly #options: WireOptions
  readonly #all = new Set<Connection>()
  readonly #idle: Connection[] = []
  /** Looks for what takes too long: one timer for all, instead of several for each request. */
  readonly #watch: NodeJS.Timeout
  #closed: (() => void) | undefined

  constructor(options: WireOptions) {
    this.#options = options
    const shortest = Math.min(options.connectTimeoutMs, options.responseTimeoutMs, options.bodyTimeoutMs || 1000)
    const look = guard('the time limits of upstream connections', () => this.#look())
    this.#watch = setInterval(look, Math.max(10, Math.min(500, shortest / 4))).unref()
  }

  dispatch(request: WireRequest, handler: HeadHandler): void {
    const connection = this.#take() ?? this.#open()
    connection.send(request, handler)
  }

  /** Lets go of the idle connections; resolves when the others have ended with their requests. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#closed = resolve
      for (const connection of [...this.#all]) connection.leave()
      this.#settle()
    })
  }

  idle(connection: Connection): void {
    this.#idle.push(connection)
  }

  gone(connection: Connection): void {
    this.#all.delete(connection)
    const place = this.#idle.indexOf(connection)
    if (place >= 0) this.#idle.splice(place, 1)
    this.#settle()
  }

  #take(): Connection | undefined {
    const connection = this.#idle.pop()
    if (!connection || performance.now() < connection.idleUntil) return connection
    // All others have been idle for even longer.
    connection.leave()
    for (const other of this.#idle.splice(0)) other.leave()
    return undefined
  }

  #open(): Connection {
    const connection = new Connection(this.#options, this)
    this.#all.add(connection)
    return connection
  }

  #look(): void {
    const now = performance.now()
    for (const connection of [...this.#all]) {
      if (connection.busy ? now > connection.deadline : now > connection.idleUntil) {
        if (connection.busy) connection.expire()
        else connection.leave()
      }
    }
  }

  #settle(): void {
    if (!this.#closed || this.#all.size > 0) return
    clearInterval(this.#watch)
    this.#closed()
  }
}
