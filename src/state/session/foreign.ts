import type { SessionStore } from '@fastify/session'
import type { Session as SessionData } from 'fastify'
import { unavailable } from '../redis/index.ts'
import type { StoredCookie } from './cookie.ts'
import { chain, type Later } from './later.ts'
import type { Data, Loaded } from './loaded.ts'
import type { Backing } from './sessions.ts'

const lostConnection = /connect|clos|abort|timed out|timeout|writeable|redis|unreachable|topology|pool/i
/** An error that Redis itself sends: its first word is a code, whatever client received it. */
const reply =
  /^(?:-?(?:ERR|OOM|WRONGTYPE|READONLY|NOAUTH|WRONGPASS|NOPERM|LOADING|MISCONF|BUSY|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|NOSCRIPT|TRYAGAIN|MOVED|ASK|CROSSSLOT|EXECABORT)) /

/** An error of somebody else's store as it is, but one that tells of a lost connection as 503 without its text. */
export function outage(error: unknown): unknown {
  const { code, name, message } = error as NodeJS.ErrnoException
  const system = typeof code === 'string' && /^E[A-Z]+$/.test(code)
  const isOutage = system || reply.test(message) || lostConnection.test(`${name}: ${message}`)
  return isOutage ? unavailable(error) : error
}

/** A store of connect-redis' interface: it reads and writes whole sessions, so of two overlapping writers one loses. */
export class ForeignSessions implements Backing {
  readonly slides = true
  readonly maxBytes: number
  readonly #store: SessionStore
  readonly #failure: (cause: unknown) => unknown

  /** @param failure what an error of the store becomes */
  constructor(store: SessionStore, failure: (cause: unknown) => unknown, maxBytes: number) {
    this.maxBytes = maxBytes
    this.#store = store
    this.#failure = failure
  }

  load(id: string): Later<Loaded | undefined> {
    return chain(
      this.#ask<SessionData | null | undefined>((done) => this.#store.get(id, done), isMissing),
      (session) => {
        if (!session) return undefined
        const data = session as unknown as Data
        return { id, data, cookie: session.cookie as StoredCookie | undefined, baseline: this.snapshot(data) }
      },
    )
  }

  snapshot(data: Data): string {
    return JSON.stringify(Object.entries(data).filter(([name]) => name !== 'cookie'))
  }

  differ(snapshot: string, baseline: string): boolean {
    return snapshot !== baseline
  }

  create(id: string, data: Data): Later<unknown> {
    return this.#ask((done) => this.#store.set(id, data as unknown as SessionData, done))
  }

  update(id: string, data: Data): Later<boolean> {
    return chain(this.create(id, data), () => true)
  }

  destroy(id: string): Later<unknown> {
    return this.#ask((done) => this.#store.destroy(id, done))
  }

  #ask<T>(call: (done: Answer<T>) => void, isNone: (error: unknown) => boolean = () => false): Later<T | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<T | undefined>()
    const answers: { error?: unknown; result?: T }[] = []
    call((error, result) => {
      const failed = error && !isNone(error)
      answers.push(failed ? { error: this.#failure(error) } : { result })
      if (failed) reject(answers[0]?.error)
      else resolve(result)
    })
    const [answer] = answers
    if (!answer) return promise
    if (answer.error === undefined) return answer.result
    promise.catch(() => {})
    throw answer.error
  }
}

type Answer<T> = (error?: unknown, result?: T) => void
const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT'
