import type { TestContext } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { FleetStore, type SessionOptions, session } from '../../../src/state/session/index.ts'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'
import { CookieSigner } from '../../../src/state/session/signer.ts'
import { secret } from './app.ts'

/** A store in memory that records its calls, and is unavailable while the test says so. */
export class RecordedStore extends MemoryRecordStore {
  calls: string[] = []
  unavailable: RegExp | undefined

  #record(call: string): void {
    this.calls.push(call)
    if (this.unavailable?.test(call)) throw new FleetError('FLEET_ERR_STATE_UNAVAILABLE')
  }
  override read(id: string): string | null {
    this.#record('read')
    return super.read(id)
  }
  override write(id: string, text: string, ttlMs: number): void {
    this.#record('write')
    super.write(id, text, ttlMs)
  }
  override merge(id: string, changes: Map<string, string>, ttlMs: number, maxBytes: number): boolean {
    this.#record(`merge ${[...changes.keys()].join()}`)
    const text = super.read(id)
    if (text === null) return false
    const before = this.calls
    const isMerged = super.merge(id, changes, ttlMs, maxBytes)
    // In memory a merge is a write.
    this.calls = before.filter((call, i) => call !== 'write' || i < before.length - 1)
    return isMerged
  }
  override destroy(id: string): boolean {
    this.#record('destroy')
    return super.destroy(id)
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
export async function recorded(t: TestContext, options: SessionOptions = {}) {
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
  /** @param cookies values of the session's cookie */
  const send = async (does: Handler, cookies: string[] = [], url = '/') => {
    handler = does
    const cookie = cookies.map((value) => `fleet.sid=${encodeURIComponent(value)}`).join('; ')
    const response = await app.inject({ url, headers: cookie ? { cookie } : {} })
    const [sent] = response.cookies
    return { status: response.statusCode, body: response.json(), sent, calls: store.taken() }
  }
  /** Stores a session, and returns its cookie. */
  const put = (id: string, data = '"a":1', cookie = '{"expires":null,"originalMaxAge":null,"at":9e15}'): string => {
    store.write(id, `{"cookie":${cookie}\n,${data}\n}`, 600_000)
    store.taken()
    return signed(id)
  }
  const stored = (id: string): unknown => {
    const text = store.read(id)
    store.taken()
    if (text === null) return null
    const { cookie: _, ...data } = JSON.parse(text)
    return data
  }
  return { app, store, send, put, stored }
}
