import { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import type { SessionStore } from '@fastify/session'
import type { Session as SessionData } from 'fastify'
import { keysOf, type RedisClient } from '../redis/index.ts'
import type { StoredCookie } from './cookie.ts'
import { MemorySessions, RedisSessions, type SessionEngine } from './engine.ts'
import { type Later, run } from './later.ts'
import { copy, type Loaded } from './loaded.ts'
import { Sessions, type SessionsOptions } from './sessions.ts'

export interface FleetStoreOptions extends SessionsOptions {
  /** `null`: memory, for one process. */
  client: RedisClient | null
  /** Name of the fleet, the first part of every key. @default 'fleet' */
  name?: string
  /** What sessions are kept in. @default Redis when there is a client, else memory */
  engine?: SessionEngine
}

type Callback<T = void> = (error?: unknown, result?: T) => void

/**
 * {@link Sessions} with the interface of connect-redis, for `@fastify/session` and `express-session`. These do not say
 * what a request has read, so beneath them a save replaces the whole session, as with every other store.
 */
export class FleetStore extends EventEmitter implements SessionStore {
  readonly sessions: Sessions

  constructor({ client, name = 'fleet', engine, ...options }: FleetStoreOptions) {
    super()
    const usual = (): SessionEngine => (client ? new RedisSessions(client, keysOf(name)) : new MemorySessions())
    this.sessions = new Sessions(engine ?? usual(), options)
  }

  get(sessionId: string, callback: Callback<SessionData | null>): void {
    const found = (loaded?: Loaded): void => callback(null, loaded ? revived(loaded) : null)
    run(() => this.sessions.load(sessionId), found, callback)
  }

  set(sessionId: string, session: SessionData, callback: Callback = ignore): void {
    tell(() => {
      const { cookie, ...data } = session
      return this.sessions.create(sessionId, data, kept(cookie))
    }, callback)
  }

  destroy(sessionId: string, callback: Callback = ignore): void {
    tell(() => this.sessions.destroy(sessionId), callback)
  }

  touch(sessionId: string, session: SessionData, callback: Callback = ignore): void {
    tell(() => {
      const { cookie, ...data } = session
      return this.sessions.touch(sessionId, data, kept(cookie))
    }, callback)
  }

  // The rest is for express-session, whose stores inherit it from a class of that package.

  createSession(request: object, session: object): unknown {
    return express().createSession.call(this, request, session)
  }

  regenerate(request: object, callback: Callback): void {
    express().regenerate.call(this, request, callback)
  }

  load(sessionId: string, callback: Callback): void {
    express().load.call(this, sessionId, callback)
  }
}

const ignore = (): void => {}
const tell = (work: () => Later<unknown>, callback: Callback): void => run(work, () => callback(), callback)

type ExpressStore = Record<'createSession' | 'regenerate' | 'load', (...args: unknown[]) => unknown>
const express = (): ExpressStore => createRequire(import.meta.url)('express-session').Store.prototype

/** A session need not have a cookie: it then lives as long as the store's `ttl` says. */
function kept(cookie: unknown): StoredCookie {
  const given = (cookie ?? {}) as StoredCookie & { toJSON?: () => StoredCookie }
  const plain = typeof given.toJSON === 'function' ? given.toJSON() : given
  const { expires, originalMaxAge, ...rest } = plain ?? {}
  return { ...rest, originalMaxAge: originalMaxAge ?? null, expires: expires ? new Date(expires).getTime() : null }
}

function revived({ data, cookie }: Loaded): SessionData {
  const expires = cookie?.expires ? new Date(cookie.expires) : null
  return { ...copy(data), cookie: { ...cookie, expires } } as unknown as SessionData
}
