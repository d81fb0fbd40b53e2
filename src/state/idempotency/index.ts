import { randomUUID } from 'node:crypto'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../../base/errors.ts'
import { resolveOptions } from '../../base/options.ts'
import identity from '../../instance/identity.ts'
import { expose } from '../metrics.ts'
import { type Limits, MemoryLimits, RedisLimits } from '../rate-limit/limits.ts'
import redis from '../redis/index.ts'
import {
  parseStoredResponse as answerOf,
  bytesOf,
  toStoredResponse as describe,
  type StoredHeaders as Headers,
} from '../stored-response.ts'
import {
  defaults,
  type IdempotencyOptions,
  type Resolved,
  type RouteIdempotency,
  routeShapes,
  shapes,
} from './options.ts'
import { Owed } from './owed.ts'
import { type Claim, MemoryRecords, type Records, RedisRecords } from './records.ts'
import { fingerprint, keyOf, recordId } from './request.ts'
import { laterScopes, type Scope, scopeOf, startedSession } from './scope.ts'

export type { IdempotencyOptions, RouteIdempotency } from './options.ts'

/** A request that was the first with its key, until it is answered. */
interface Held {
  readonly key: string
  readonly scope: Scope
  readonly id: string
  readonly print: string
  readonly token: string
  readonly ttlMs: number
  /** The headers the handler found. */
  readonly before: Headers
  readonly renewal: NodeJS.Timeout | undefined
}

const held = Symbol('fleet.idempotency')
type Request = FastifyRequest & { [held]: Held | null }

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Take `Idempotency-Key` on this route, or never. */
    idempotency?: boolean | RouteIdempotency
  }
}

/** Most that is kept of the headers of a response. */
const maxHeaderBytes = 16_384

const hour = 3_600_000

/** Longest that a request keeps its key, however long it runs, ms: one that never ends must not hold it for ever. */
const longestMs = hour

const tooMany = ({ maxKeys }: Resolved): FleetError =>
  new FleetError('FLEET_ERR_RATE_LIMITED', `at most ${maxKeys} requests with an Idempotency-Key in an hour`, {
    retryAfter: 360,
  })

/** Not an answer to what was asked, but the wish that it be asked again. */
const isTransient = (status: number): boolean => status >= 500 || status === 408 || status === 425 || status === 429

const resultOf = { first: 'first', 'in flight': 'in_flight', 'another request': 'other_request' } as const
/** What became of requests with a key. */
const results = () => ({
  first: 0,
  replayed: 0,
  in_flight: 0,
  other_request: 0,
  answer_lost: 0,
  unprotected: 0,
  unavailable: 0,
  too_many: 0,
})

class Idempotency {
  readonly counts = results()
  readonly #records: Records
  readonly #options: Resolved
  readonly #limits: Limits
  readonly #owed = new Owed()

  constructor(records: Records, limits: Limits, options: Resolved) {
    this.#records = records
    this.#limits = limits
    this.#options = options
  }

  /** Lets the first request of a key pass, and answers the others. */
  async begin(
    request: Request,
    reply: FastifyReply,
    route: Required<RouteIdempotency>,
  ): Promise<FastifyReply | undefined> {
    const key = keyOf(request.headers['idempotency-key'])
    if (key === undefined) {
      if (route.required) throw new FleetError('FLEET_ERR_IDEMPOTENCY_KEY_MISSING')
      return undefined
    }
    const { whenDown } = this.#options
    const scope = scopeOf(request, this.#options)
    const [id, print, token] = [recordId(scope.id, key), fingerprint(request), randomUUID()]
    const hold = (renewal?: NodeJS.Timeout): void => {
      request[held] = { key, scope, id, print, token, ttlMs: route.ttlMs, before: reply.getHeaders(), renewal }
    }
    let claim: Claim
    try {
      const [taken, mayAdd] = await Promise.all([this.#claim(id, print, token), this.#mayAdd(scope)])
      claim = taken
      if (claim.is === 'first' && !mayAdd) {
        await this.#records.release(id, print, token)
        this.counts.too_many++
        throw tooMany(this.#options)
      }
    } catch (error) {
      if ((error as FleetError).code === 'FLEET_ERR_RATE_LIMITED') throw error
      this.counts[whenDown === 'unavailable' ? 'unavailable' : 'unprotected']++
      if (whenDown === 'unavailable') {
        this.#owe(id, print, token)
        throw error
      }
      request.log.warn({ err: error }, 'idempotency: Redis is away; a repetition of this request would be done again')
      hold()
      return undefined
    }
    if (claim.is !== 'answered') this.counts[resultOf[claim.is]]++
    if (claim.is === 'another request') throw new FleetError('FLEET_ERR_IDEMPOTENCY_KEY_REUSED')
    if (claim.is === 'in flight') throw new FleetError('FLEET_ERR_IDEMPOTENCY_IN_FLIGHT', undefined, { retryAfter: 1 })
    if (claim.is === 'answered') {
      const answer = answerOf(claim.answer)
      if (answer?.body === undefined) {
        this.counts.answer_lost++
        throw new FleetError('FLEET_ERR_IDEMPOTENCY_ANSWER_LOST')
      }
      this.counts.replayed++
      return reply
        .code(answer.status)
        .headers(answer.headers)
        .header('idempotency-replayed', 'true')
        .send(bytesOf(answer))
    }
    hold(this.#renew(id, print, token))
    return undefined
  }

  /** Whether this user or client may add a record. A Redis that cannot count, being full or read-only, adds none. */
  async #mayAdd({ owner }: Scope): Promise<boolean> {
    const { maxKeys } = this.#options
    if (maxKeys === false) return true
    try {
      return (await this.#limits.take(`idempotency ${owner}`, hour, maxKeys, true)).count <= maxKeys
    } catch {
      return true
    }
  }

  /** Takes the key. Where it is only this instance that has not told yet what became of the first, it tells that before. */
  async #claim(id: string, print: string, token: string): Promise<Claim> {
    const { lockMs } = this.#options
    const claim = await this.#records.claim(id, print, token, lockMs)
    const settled = claim.is === 'in flight' && (await this.#owed.pay(claim.by))
    return settled ? this.#records.claim(id, print, token, lockMs) : claim
  }

  /** Before the answer is sent, so that no client has one that a repetition would not get. */
  async end(request: Request, reply: FastifyReply, payload: unknown): Promise<void> {
    const first = request[held] as Held
    const { scope, id, print, token, ttlMs, renewal } = first
    request[held] = null
    clearInterval(renewal)
    const full = isTransient(reply.statusCode) ? undefined : this.#describe(first, reply, payload)
    // Whoever repeats the request from this address without the cookie need not be the guest whose session this is.
    const isOfSession = scope.by === 'client' && startedSession(request, reply) !== undefined
    const answer = full && isOfSession ? this.#describe(first, reply, payload, false) : full
    try {
      if (renewal && full) await this.#keepElsewhere(request, reply, first, full)
      // Its claim was lost: Redis is away, or has only just come back, and the client shall not wait for it.
      if (!renewal) this.#owe(id, print, token, answer, ttlMs)
      else if (answer === undefined) await this.#records.release(id, print, token)
      else if (!(await this.#records.keep(id, print, token, answer, ttlMs)))
        request.log.warn('idempotency: the key was lost while the request ran; it may have been done twice')
    } catch (err) {
      this.#owe(id, print, token, answer, ttlMs)
      const message = 'idempotency: an answer could not be kept; it will be when Redis is back within `lockMs`'
      request.log.warn({ err }, message)
    }
  }

  /** Keeps the response where those who repeat the request will look for it, too. */
  async #keepElsewhere(request: Request, reply: FastifyReply, first: Held, answer: string): Promise<void> {
    const { key, scope, print, token, ttlMs } = first
    for (const later of laterScopes(request, reply, this.#options, scope)) {
      const id = recordId(later.id, key)
      const claim = await this.#records.claim(id, print, token, this.#options.lockMs)
      if (claim.is === 'first') await this.#records.keep(id, print, token, answer, ttlMs)
    }
  }

  /** @param withBody `false`: the response is not to be given again */
  #describe({ before }: Held, reply: FastifyReply, payload: unknown, withBody = true): string {
    const answer = describe(reply, before, payload, this.#options.maxResponseBytes)
    const fits = withBody && JSON.stringify(answer.headers).length <= maxHeaderBytes
    return JSON.stringify(fits ? answer : { status: answer.status, headers: {} })
  }

  close(): void {
    this.#owed.stop()
  }

  /** @param answer none: the key is given free */
  #owe(id: string, print: string, token: string, answer?: string, ttlMs = 0): void {
    const pay = (): Promise<unknown> =>
      answer === undefined
        ? this.#records.release(id, print, token)
        : this.#records.keep(id, print, token, answer, ttlMs)
    this.#owed.add(token, pay, answer?.length ?? 0, this.#options.lockMs)
  }

  #renew(id: string, print: string, token: string): NodeJS.Timeout {
    const { lockMs } = this.#options
    const until = performance.now() + longestMs
    const timer = setInterval(() => {
      if (performance.now() > until) clearInterval(timer)
      else this.#records.renew(id, print, token, lockMs).catch(() => undefined)
    }, lockMs / 3).unref()
    return timer
  }
}

const plugin: FastifyPluginAsync<IdempotencyOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  if (!app.hasDecorator('redis')) await app.register(redis)
  const resolved = resolveOptions<Resolved>('idempotency', shapes, defaults, given)
  const options = { ...resolved, credentialHeaders: resolved.credentialHeaders.map((name) => name.toLowerCase()) }
  app.fleet.configure('idempotency', options)
  app.fleet.describe('idempotencyStore', app.redis ? 'redis' : 'memory')
  const records = app.redis ? new RedisRecords(app.redis, app.redisKey) : new MemoryRecords()
  const limits = app.redis ? new RedisLimits(app.redis, app.redisKey) : new MemoryLimits()
  const idempotency = new Idempotency(records, limits, options)
  expose(app, 'fleet_idempotency_requests_total', 'Requests with an Idempotency-Key', 'result', idempotency.counts)
  app.addHook('onClose', async () => idempotency.close())

  app.decorateRequest(held, null)
  app.addHook('onRoute', (route: RouteOptions) => {
    const wanted = route.config?.idempotency ?? (options.global && /POST|PATCH/.test(String(route.method)))
    if (!wanted) return
    const { required, ttlMs } = options
    const own = wanted === true ? {} : wanted
    const resolved = resolveOptions<Required<RouteIdempotency>>('idempotency', routeShapes, { required, ttlMs }, own)
    const begin = (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> =>
      idempotency.begin(request as Request, reply, resolved)
    // Last, behind whatever decides that this client may have the answer.
    route.preHandler = [route.preHandler ?? [], begin].flat()
    // A reply that was hijacked passes by `onSend`, and what was sent is not known.
    const hijacked = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
      if ((request as Request)[held]) await idempotency.end(request as Request, reply, reply.raw)
    }
    route.onResponse = [route.onResponse ?? [], hijacked].flat()
  })
  // Of the app and not of the route, so that it comes before what is registered later: an answer is kept uncompressed.
  app.addHook('onSend', (request, reply, payload, done) => {
    // `undefined` on routes of plugins that were registered before this one.
    if (!(request as Request)[held]) done(null, payload)
    else idempotency.end(request as Request, reply, payload).then(() => done(null, payload))
  })
}

/**
 * `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a request that is repeated with its key gets the
 * first one's answer, from any instance, and is done once: 409 while the first is in flight, 422 when it is not the same
 * request. This is what makes it safe for a front, or a client, to send a POST again.
 *
 * Answers that invite a repetition (5xx, 408, 425, 429) are not kept, nor are their cookies. Errors:
 * FLEET_ERR_IDEMPOTENCY_KEY_MISSING, _KEY_INVALID, _KEY_REUSED, _IN_FLIGHT, _ANSWER_LOST, FLEET_ERR_STATE_UNAVAILABLE.
 */
export const idempotency: FastifyPluginAsync<IdempotencyOptions> = fp(plugin, {
  name: 'fleet-idempotency',
  fastify: '5.x',
})
export default idempotency
