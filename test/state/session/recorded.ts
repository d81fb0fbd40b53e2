import type { TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { FleetStore, type SessionOptions, session } from '../../../src/state/session/index.ts'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'
import { applyChanges } from '../../../src/state/session/record.ts'
import { CookieSigner } from '../../../src/state/session/signer.ts'
import { secret } from './app.ts'

/** A store in memory that records its calls, and is unavailable while the test says so. */
export class RecordedStore extends MemoryRecordStore {
  calls: string[] = []
  unavailable: RegExp | undefined
  /** Whether reads and writes take a turn of the event loop. */
  isSlow = false

  #record(call: string): void {
    this.calls.push(call)
    if (this.unavailable?.test(call)) throw new FleetError('FLEET_ERR_STATE_UNAVAILABLE')
  }
  /** A promise of the result if this store is slow. Types of the memory store have no promises. */
  #result<T>(call: string, work: () => T): T {
    if (this.isSlow) return turn().then(() => this.#now(call, work)) as T
    return this.#now(call, work)
  }
  #now<T>(call: string, work: () => T): T {
    this.#record(call)
    return work()
  }
  override read(id: string): string | null {
    return this.#result('read', () => super.read(id))
  }
  override write(id: string, text: string, ttlMs: number) {
    return this.#result('write', () => super.write(id, text, ttlMs))
  }
  override merge(id: string, changes: Map<string, string>, ttlMs: number, maxBytes: number): boolean {
    return this.#result(`merge ${[...changes.keys()].join()}`, () => {
      const text = super.read(id)
      if (text === null) return false
      super.write(id, applyChanges(text, changes, maxBytes), ttlMs || 600_000)
      return true
    })
  }
  override destroy(id: string): boolean {
    return this.#result('destroy', () => super.destroy(id))
  }
  /** The calls since the last time. */
  taken(): string[] {
    return this.calls.splice(0)
  }
}

export const signed = (id: string, key = secret): string => new CookieSigner([key], 'sha256').sign(id)

/** What a handler may do with its session. */
export type Handler = (request: FastifyRequest) => unknown

/** An app whose only route does what the test says, over a store that records its calls. */
export async function recorded(t: TestContext, options: SessionOptions = {}, isSlow = false) {
  const store = new RecordedStore()
  const app: FastifyInstance = Fastify()
  t.after(() => app.close())
  await app.register(redis, { client: null })
  await app.register(session, {
    secret,
    anonymous: false,
    store: new FleetStore({ client: null, engine: store, ...(options.merge === false && { merge: false }) }),
    ...options,
  })
  let handler: Handler = () => undefined
  const handle: Handler = async (request) => (await handler(request)) ?? {}
  for (const url of ['/', '/app', '/app/x', '/apple']) app.all(url, handle as never)
  app.get('/probe', { config: { probe: true } }, handle as never)
  app.get('/none', { config: { session: false } }, handle as never)
  store.isSlow = isSlow
  /** @param cookies values of the session's cookie */
  const send = async (does: Handler, cookies: string[] = [], url = '/') => {
    handler = does
    const cookie = cookies.map((value) => `fleet.sid=${encodeURIComponent(value)}`).join('; ')
    const response = await app.inject({ url, headers: cookie ? { cookie } : {} })
    const [sent] = response.cookies
    return { status: response.statusCode, body: response.json(), sent, calls: store.taken() }
  }
  /** Uses the store for the test itself. */
  const quickly = <T>(work: () => T): T => {
    const [slow, unavailable] = [store.isSlow, store.unavailable]
    Object.assign(store, { isSlow: false, unavailable: undefined })
    const result = work()
    Object.assign(store, { isSlow: slow, unavailable })
    store.calls.pop()
    return result
  }
  /** Stores a session, and returns its cookie. */
  const put = (id: string, data = '"a":1', cookie = '{"expires":null,"originalMaxAge":null,"at":9e15}'): string => {
    quickly(() => store.write(id, `{"cookie":${cookie}\n,${data}\n}`, 600_000))
    return signed(id)
  }
  const stored = (id: string): unknown => {
    const text = quickly(() => store.read(id))
    if (text === null) return null
    const { cookie: _, ...data } = JSON.parse(text)
    return data
  }
  return { app, store, send, put, stored }
}
