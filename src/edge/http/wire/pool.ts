import { performance } from 'node:perf_hooks'
import { guard } from '../../boundary.ts'
import { Connection, type ConnectionOwner, type WireOptions } from './connection.ts'
import type { WireRequest } from './request-writer.ts'
import type { HeadHandler } from './response-head.ts'

/** The connections to one server: one for each concurrent request. The most recently used one is reused first. */
export class WirePool implements ConnectionOwner {
  session: Buffer | undefined
  readonly #options: WireOptions
  readonly #all = new Set<Connection>()
  readonly #idle: Connection[] = []
  /** Checks all timeouts: one timer per pool instead of several per request. */
  readonly #watch: NodeJS.Timeout
  #onClosed: (() => void) | undefined

  constructor(options: WireOptions) {
    this.#options = options
    const shortest = Math.min(options.connectTimeoutMs, options.responseTimeoutMs, options.bodyTimeoutMs || 1000)
    const check = guard('the timeouts of upstream connections', () => this.#checkTimeouts())
    this.#watch = setInterval(check, Math.max(10, Math.min(500, shortest / 4))).unref()
  }

  /** @param repeatable whether the request may be sent again when its connection turns out to be dead */
  dispatch(request: WireRequest, handler: HeadHandler, repeatable: boolean): void {
    const connection = this.#take(repeatable) ?? this.#open()
    connection.send(request, handler)
  }

  /** Closes idle connections; resolves when the others have closed after their requests. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#onClosed = resolve
      for (const connection of [...this.#all]) connection.retire()
      this.#resolveClosed()
    })
  }

  idle(connection: Connection): void {
    this.#idle.push(connection)
  }

  closed(connection: Connection): void {
    this.#all.delete(connection)
    const place = this.#idle.indexOf(connection)
    if (place >= 0) this.#idle.splice(place, 1)
    this.#resolveClosed()
  }

  #take(repeatable: boolean): Connection | undefined {
    const connection = this.#idle.at(-1)
    if (!connection) return undefined
    const now = performance.now()
    // All others have been idle for longer.
    if (now >= connection.idleUntil) for (const each of this.#idle.splice(0)) each.retire()
    else if (repeatable || now < connection.idleSince + this.#options.unsafeKeepAliveMs) return this.#idle.pop()
    // The new connection replaces the oldest one, so that their number does not grow.
    else this.#idle[0]?.retire()
    return undefined
  }

  #open(): Connection {
    const connection = new Connection(this.#options, this)
    this.#all.add(connection)
    return connection
  }

  #checkTimeouts(): void {
    const now = performance.now()
    for (const connection of [...this.#all]) {
      if (connection.busy ? now > connection.deadline : now > connection.idleUntil) {
        if (connection.busy) connection.expire()
        else connection.retire()
      }
    }
  }

  #resolveClosed(): void {
    if (!this.#onClosed || this.#all.size > 0) return
    clearInterval(this.#watch)
    this.#onClosed()
  }
}
