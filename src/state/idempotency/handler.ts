import { randomUUID } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import type { LimitStore } from '../rate-limit/store.ts'
import { bodyOf, captureResponse, parseStoredResponse, type StoredHeaders } from '../stored-response.ts'
import type { ResolvedIdempotency, RouteIdempotency } from './options.ts'
import { PendingWrites } from './pending-writes.ts'
import { fingerprint, keyOf, recordId } from './request.ts'
import { type CallerScope, laterScopes, scopeOf, startedSession } from './scope.ts'
import type { Claim, IdempotencyStore } from './store.ts'

/** The first request with its key, until its response is sent. */
interface FirstRequest {
  readonly key: string
  readonly scope: CallerScope
  readonly id: string
  readonly print: string
  readonly token: string
  readonly ttlMs: number
  /** The headers before the handler ran. */
  readonly before: StoredHeaders
  /** `undefined` if the claim failed and `onOutage` is `allow`. */
  renewal?: NodeJS.Timeout
}

export const first: unique symbol = Symbol('fleet.idempotency')
export type KeyedRequest = FastifyRequest & { [first]: FirstRequest | null }

/** Maximum size of the stored headers of a response. */
const maxHeaderBytes = 16_384

const hour = 3_600_000

/** A request renews its record for this long at most, so that one that never ends does not lock its key for ever. */
const maxLockMs = hour

/** A response that invites the client to retry. It is not stored. */
const isTransient = (status: number): boolean => status >= 500 || status === 408 || status === 425 || status === 429

export class IdempotencyHandler {
  /** Requests with a key by result. */
  readonly counts = {
    first: 0,
    replayed: 0,
    in_flight: 0,
    other_request: 0,
    answer_lost: 0,
    unprotected: 0,
    unavailable: 0,
    too_many: 0,
  }
  readonly #store: IdempotencyStore
  readonly #options: ResolvedIdempotency
  readonly #limits: LimitStore
  readonly #pending = new PendingWrites()

  constructor(store: IdempotencyStore, limits: LimitStore, options: ResolvedIdempotency) {
    this.#store = store
    this.#limits = limits
    this.#options = options
  }

  /** Runs before the handler: lets the first request of a key pass and responds to its repetitions. */
  async begin(
    request: KeyedRequest,
    reply: FastifyReply,
    route: Required<RouteIdempotency>,
  ): Promise<FastifyReply | undefined> {
    const key = keyOf(request.headers['idempotency-key'])
    if (key === undefined) {
      if (route.required) throw new FleetError('FLEET_ERR_IDEMPOTENCY_KEY_MISSING')
      return undefined
    }
    const scope = scopeOf(request, this.#options)
    const own: FirstRequest = {
      key,
      scope,
      id: recordId(scope.id, key),
      print: fingerprint(request),
      token: randomUUID(),
      ttlMs: route.ttlMs,
      before: reply.getHeaders(),
    }
    let claim: Claim | { readonly status: 'too_many' }
    try {
      claim = await this.#claimWithin(own)
    } catch (error) {
      const isRejected = route.onOutage === 'reject'
      this.counts[isRejected ? 'unavailable' : 'unprotected']++
      if (isRejected) {
        // The claim may have been carried out although its reply was lost.
        this.#writeLater(own)
        throw error
      }
      request.log.warn(
        { err: error },
        'idempotency: Redis is unavailable; a repetition of this request would run again',
      )
      request[first] = own
      return undefined
    }
    if (claim.status === 'completed') return this.#replay(reply, claim.response)
    this.counts[claim.status]++
    if (claim.status === 'too_many') {
      const message = `at most ${this.#options.maxKeys} requests with an Idempotency-Key in an hour`
      throw new FleetError('FLEET_ERR_RATE_LIMITED', message, { retryAfter: 360 })
    }
    if (claim.status === 'other_request') throw new FleetError('FLEET_ERR_IDEMPOTENCY_KEY_REUSED')
    if (claim.status === 'in_flight')
      throw new FleetError('FLEET_ERR_IDEMPOTENCY_IN_FLIGHT', undefined, { retryAfter: 1 })
    own.renewal = this.#renew(own)
    request[first] = own
    return undefined
  }

  #replay(reply: FastifyReply, stored: string): FastifyReply {
    const response = parseStoredResponse(stored)
    if (response?.body === undefined) {
      this.counts.answer_lost++
      throw new FleetError('FLEET_ERR_IDEMPOTENCY_ANSWER_LOST')
    }
    this.counts.replayed++
    return reply
      .code(response.status)
      .headers(response.headers)
      .header('idempotency-replayed', 'true')
      .send(bodyOf(response))
  }

  /** `too_many`: beyond `maxKeys`. @throws FLEET_ERR_STATE_UNAVAILABLE */
  async #claimWithin(own: FirstRequest): Promise<Claim | { readonly status: 'too_many' }> {
    const [claim, mayAdd] = await Promise.all([this.#claim(own), this.#mayAdd(own.scope)])
    if (claim.status !== 'first' || mayAdd) return claim
    await this.#store.release(own.id, own.print, own.token)
    return { status: 'too_many' }
  }

  /** Whether the user or client may add a record. A Redis that cannot count, because it is full or read-only, adds none. */
  async #mayAdd({ owner }: CallerScope): Promise<boolean> {
    const { maxKeys } = this.#options
    if (maxKeys === false) return true
    try {
      return (await this.#limits.take(`idempotency ${owner}`, hour, maxKeys, true)).count <= maxKeys
    } catch {
      return true
    }
  }

  /** Claims the key. If the result of the first request is a pending write of this instance, writes it first. */
  async #claim({ id, print, token }: FirstRequest): Promise<Claim> {
    const { lockMs } = this.#options
    const claim = await this.#store.claim(id, print, token, lockMs)
    const isSettled = claim.status === 'in_flight' && (await this.#pending.flush(claim.token))
    return isSettled ? this.#store.claim(id, print, token, lockMs) : claim
  }

  /** Runs before the response is sent, so that a client never has a response that a repetition would not get. */
  async end(request: KeyedRequest, reply: FastifyReply, payload: unknown): Promise<void> {
    const own = request[first] as FirstRequest
    const { scope, id, print, token, ttlMs, renewal } = own
    request[first] = null
    clearInterval(renewal)
    const full = isTransient(reply.statusCode) ? undefined : this.#serialize(own, reply, payload)
    // A repetition from the same address without the session's cookie may come from another client.
    const startsSession = scope.by === 'client' && startedSession(request, reply) !== undefined
    const response = full && startsSession ? this.#serialize(own, reply, payload, false) : full
    try {
      if (renewal && full) await this.#completeLaterScopes(request, reply, own, full)
      // The claim failed: Redis is unavailable or has just recovered, and the client must not wait for it.
      if (!renewal) this.#writeLater(own, response)
      else if (response === undefined) await this.#store.release(id, print, token)
      else if (!(await this.#store.complete(id, print, token, response, ttlMs)))
        request.log.warn('idempotency: the key was lost while the request ran; it may have run twice')
    } catch (err) {
      this.#writeLater(own, response)
      request.log.warn({ err }, 'idempotency: a response could not be stored; retrying until `lockMs` is over')
    }
  }

  /** Stores the response in the other scopes in which repetitions may arrive. */
  async #completeLaterScopes(
    request: KeyedRequest,
    reply: FastifyReply,
    own: FirstRequest,
    response: string,
  ): Promise<void> {
    const { key, scope, print, token, ttlMs } = own
    for (const later of laterScopes(request, reply, this.#options, scope)) {
      const id = recordId(later.id, key)
      const claim = await this.#store.claim(id, print, token, this.#options.lockMs)
      if (claim.status === 'first') await this.#store.complete(id, print, token, response, ttlMs)
    }
  }

  /** @param withBody `false`: repetitions get 409 */
  #serialize({ before }: FirstRequest, reply: FastifyReply, payload: unknown, withBody = true): string {
    const response = captureResponse(reply, before, payload, this.#options.maxResponseBytes)
    const fits = withBody && JSON.stringify(response.headers).length <= maxHeaderBytes
    return JSON.stringify(fits ? response : { status: response.status, headers: {} })
  }

  close(): void {
    this.#pending.stop()
  }

  /** @param response `undefined`: releases the key */
  #writeLater({ id, print, token, ttlMs }: FirstRequest, response?: string): void {
    const write = (): Promise<unknown> =>
      response === undefined
        ? this.#store.release(id, print, token)
        : this.#store.complete(id, print, token, response, ttlMs)
    this.#pending.add(token, write, response?.length ?? 0, this.#options.lockMs)
  }

  #renew({ id, print, token }: FirstRequest): NodeJS.Timeout {
    const { lockMs } = this.#options
    const until = performance.now() + maxLockMs
    const timer = setInterval(() => {
      if (performance.now() > until) clearInterval(timer)
      else this.#store.renew(id, print, token, lockMs).catch(() => undefined)
    }, lockMs / 3).unref()
    return timer
  }
}
