import { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import type { SessionStore } from '@fastify/session'
import type { Session as FastifySession } from 'fastify'
import { chain, type MaybePromise, run } from '../../base/maybe-promise.ts'
import { type RedisClient, unavailable } from '../redis/index.ts'
import type { StoredCookie } from './cookie.ts'
import { MemoryRecordStore } from './memory-store.ts'
import { copy, type SessionData, type SessionRecord } from './record.ts'
import { RedisRecordStore } from './redis-store.ts'
import { type SessionBackend, SessionCounts, Sessions, type SessionsOptions } from './repository.ts'
import type { RecordStore } from './store.ts'

type NodeCallback<T = void> = (error?: unknown, result?: T) => void

export interface FleetStoreOptions extends Omit<SessionsOptions, 'ttlMs'> {
  /** `null`: memory, for one process. */
  client: RedisClient | null
  /** Name of the fleet, the first part of every key. @default 'fleet' */
  name?: string
  /** Lifetime of a session whose cookie has none, in seconds as with connect-redis. @default 86400 */
  ttl?: number
  /** Where the texts of sessions are kept. @default Redis with a client, else memory */
  engine?: RecordStore
}

/**
 * {@link Sessions} with the interface of connect-redis, for `@fastify/session` and `express-session`. These plugins do
 * not pass on what a request has read, so a save replaces the whole session, as with every other store.
 */
export class FleetStore extends EventEmitter implements SessionStore {
  readonly sessions: Sessions

  constructor({ client, name = 'fleet', engine, ttl = 86_400, ...options }: FleetStoreOptions) {
    super()
    const byClient = (): RecordStore => (client ? new RedisRecordStore(client, name) : new MemoryRecordStore())
    this.sessions = new Sessions(engine ?? byClient(), { ...options, ttlMs: ttl * 1000 })
  }

  get(sessionId: string, callback: NodeCallback<FastifySession | null>): void {
    const found = (record?: SessionRecord): void => callback(null, record ? toSession(record) : null)
    run(() => this.sessions.load(sessionId), found, callback)
  }

  set(sessionId: string, session: FastifySession, callback: NodeCallback = ignore): void {
    report(() => {
      const { cookie, ...data } = session
      return this.sessions.create(sessionId, data, toStoredCookie(cookie))
    }, callback)
  }

  destroy(sessionId: string, callback: NodeCallback = ignore): void {
    report(() => this.sessions.destroy(sessionId), callback)
  }

  touch(sessionId: string, session: FastifySession, callback: NodeCallback = ignore): void {
    report(() => {
      const { cookie, ...data } = session
      return this.sessions.touch(sessionId, data, toStoredCookie(cookie))
    }, callback)
  }

  // Stores of express-session inherit the following methods from a class of that package.

  createSession(request: object, session: object): unknown {
    return express().createSession.call(this, request, session)
  }

  regenerate(request: object, callback: NodeCallback): void {
    express().regenerate.call(this, request, callback)
  }

  load(sessionId: string, callback: NodeCallback): void {
    express().load.call(this, sessionId, callback)
  }
}

const ignore = (): void => {}
const report = (work: () => MaybePromise<unknown>, callback: NodeCallback): void =>
  run(work, () => callback(), callback)

type ExpressStore = Record<'createSession' | 'regenerate' | 'load', (...args: unknown[]) => unknown>
const express = (): ExpressStore => createRequire(import.meta.url)('express-session').Store.prototype

/** The cookie may be missing. The session then lives as long as the store's `ttl`. */
function toStoredCookie(cookie: unknown): StoredCookie {
  const given = (cookie ?? {}) as StoredCookie & { toJSON?: () => StoredCookie }
  const plain = typeof given.toJSON === 'function' ? given.toJSON() : given
  const { expires, originalMaxAge, ...rest } = plain ?? {}
  return { ...rest, originalMaxAge: originalMaxAge ?? null, expires: expires ? new Date(expires).getTime() : null }
}

function toSession({ data, cookie }: SessionRecord): FastifySession {
  const expires = cookie?.expires ? new Date(cookie.expires) : null
  return { ...copy(data), cookie: { ...cookie, expires } } as unknown as FastifySession
}

const lostConnection = /connect|clos|abort|offline|timed out|timeout|writeable|redis|unreachable|topology|pool/i
/** An error reply of Redis. Its first word is a code, whichever client received it. */
const errorReply =
  /^(?:-?(?:ERR|OOM|WRONGTYPE|READONLY|NOAUTH|WRONGPASS|NOPERM|LOADING|MISCONF|BUSY|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|NOSCRIPT|TRYAGAIN|MOVED|ASK|CROSSSLOT|EXECABORT)) /

/** Maps errors of a custom store: a lost connection becomes 503 without its text, other errors stay as they are. */
export function outageError(error: unknown): unknown {
  const { code, name, message } = error as NodeJS.ErrnoException
  // The errors of node-redis have the name 'Error', and some have no message.
  const text = `${(error as Error).constructor?.name} ${name}: ${message}`
  const isSystemError = typeof code === 'string' && /^E[A-Z]+$/.test(code)
  const isOutage = isSystemError || errorReply.test(message) || lostConnection.test(text)
  return isOutage ? unavailable(error) : error
}

/** A store with the interface of connect-redis. It reads and writes whole sessions, so the last of two writers wins. */
export class CustomStoreBackend implements SessionBackend {
  readonly rewritesOnSave = true
  readonly maxBytes: number
  readonly counts: SessionCounts = new SessionCounts()
  readonly #store: SessionStore
  readonly #mapError: (cause: unknown) => unknown

  constructor(store: SessionStore, mapError: (cause: unknown) => unknown, maxBytes: number) {
    this.maxBytes = maxBytes
    this.#store = store
    this.#mapError = mapError
  }

  load(id: string): MaybePromise<SessionRecord | undefined> {
    return chain(
      this.#call<FastifySession | null | undefined>((done) => this.#store.get(id, done), isMissing),
      (session) => {
        if (!session) return undefined
        this.counts.loaded++
        const data = session as unknown as SessionData
        return { id, data, cookie: session.cookie as StoredCookie | undefined, baseline: this.snapshot(data) }
      },
    )
  }

  snapshot(data: SessionData): string {
    return JSON.stringify(Object.entries(data).filter(([name]) => name !== 'cookie'))
  }

  isChanged(snapshot: string, baseline: string): boolean {
    return snapshot !== baseline
  }

  create(id: string, data: SessionData): MaybePromise<unknown> {
    return chain(this.#set(id, data), () => {
      this.counts.created++
    })
  }

  update(id: string, data: SessionData): MaybePromise<boolean> {
    return chain(this.#set(id, data), () => {
      this.counts.saved++
      return true
    })
  }

  destroy(id: string): MaybePromise<unknown> {
    return chain(
      this.#call((done) => this.#store.destroy(id, done)),
      () => {
        this.counts.destroyed++
      },
    )
  }

  #set(id: string, data: SessionData): MaybePromise<unknown> {
    return this.#call((done) => this.#store.set(id, data as unknown as FastifySession, done))
  }

  /** Calls a method with a callback: the result is returned, or the error thrown, synchronously if the store is. */
  #call<T>(
    call: (done: NodeCallback<T>) => void,
    isExpected: (error: unknown) => boolean = () => false,
  ): MaybePromise<T | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<T | undefined>()
    const outcomes: { error?: unknown; result?: T }[] = []
    call((error, result) => {
      const isFailure = error && !isExpected(error)
      outcomes.push(isFailure ? { error: this.#mapError(error) } : { result })
      if (isFailure) reject(outcomes[0]?.error)
      else resolve(result)
    })
    const [outcome] = outcomes
    if (!outcome) return promise
    if (outcome.error === undefined) return outcome.result
    promise.catch(() => {})
    throw outcome.error
  }
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT'
