import { FleetError } from '../../base/errors.ts'
import type { Loader } from './api.ts'
import { Flight } from './flight.ts'
import type { Entry } from './local.ts'
import type { ResolvedCacheOptions, ResolvedLoadOptions } from './options.ts'
import { type Fill, newId, type SharedStore } from './shared.ts'
import type { Found, Layers } from './tiered-store.ts'
import { encode, tooLarge } from './value.ts'

/** One call of `getOrSet()`. */
export interface Plan extends ResolvedLoadOptions {
  readonly ttlMs: number
  readonly loader: Loader<unknown>
}

/** The right to load. Without a token it is no lease: Redis could not be asked, or there is none. */
interface Licence {
  readonly token?: string
  readonly stamps: Readonly<Record<string, string>>
}

/** How long to wait before asking again whether another instance has loaded a value; mostly the push comes first. */
const firstPauseMs = 20
const lastPauseMs = 250

const noop = (): void => {}

/**
 * Single flight: in this process by one {@link Flight} per key, in the fleet by a lease in Redis. Whoever gets the lease
 * loads, and renews it for as long as that takes; the others wait for the news, and ask again now and then, because
 * news can get lost and a holder can die.
 */
export class Flights {
  /** How loaders ended. */
  readonly loads = { ok: 0, failed: 0 }
  readonly #options: ResolvedCacheOptions
  readonly #layers: Layers
  readonly #warn: (details: object, message: string) => void
  readonly #flights = new Map<string, Flight>()

  constructor(options: ResolvedCacheOptions, layers: Layers, warn: (details: object, message: string) => void) {
    this.#options = options
    this.#layers = layers
    this.#warn = warn
  }

  /** The flight for a key: the one under way, unless what it brings may be old; else a new one. */
  board(key: string, plan: Plan, fallback: Entry | undefined): Flight {
    const known = this.#flights.get(key)
    if (known && !known.outdated) return known
    const flight = new Flight(key, plan.tags, fallback)
    this.#flights.set(key, flight)
    this.#layers.begin(flight)
    void this.#fly(flight, plan)
    return flight
  }

  wake(key: string): void {
    this.#flights.get(key)?.wake()
  }

  /** From the question to its answer, and on until the loader has ended. Never rejects. */
  async #fly(flight: Flight, plan: Plan): Promise<void> {
    const keepMs = staleWindow(plan)
    const soft = plan.softTimeoutMs > 0 && setTimeout(() => flight.fallBack(keepMs), plan.softTimeoutMs)
    const hard = setTimeout(() => flight.abort(new FleetError('FLEET_ERR_CACHE_TIMEOUT')), plan.hardTimeoutMs)
    try {
      const licence = await this.#acquire(flight, plan)
      if (licence) await this.#load(flight, plan, licence)
    } catch (err) {
      const served = flight.fallBack(keepMs)
      if (flight.settled) this.#warn({ err, key: flight.key }, 'cache: a stale value could not be replaced')
      if (served) served.freshUntil = performance.now() + this.#options.errorBackoffMs
      else flight.fail(err)
    } finally {
      if (soft) clearTimeout(soft)
      clearTimeout(hard)
      this.#land(flight)
    }
  }

  /** Nobody boards it any more. */
  #land(flight: Flight): void {
    if (this.#flights.get(flight.key) === flight) this.#flights.delete(flight.key)
    this.#layers.end(flight)
  }

  /** Waits for a value from Redis, or for the right to load one. @returns nothing when nothing is left to do */
  async #acquire(flight: Flight, plan: Plan): Promise<Licence | undefined> {
    const { shared } = this.#layers
    if (!shared) return { stamps: {} }
    const token = newId()
    const lifeMs = plan.ttlMs + staleWindow(plan) + plan.hardTimeoutMs
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, lastPauseMs)) {
      let answer: Found
      try {
        answer = await this.#layers.ask(shared, flight, { token, leaseMs: this.#options.leaseMs }, lifeMs)
        if (answer.found) flight.fallback = this.#layers.adopt(flight, answer.found)
      } catch {
        return { stamps: {} }
      }
      if (answer.found && answer.found.freshMs > 0) return void flight.settle('redis', flight.fallback?.promise)
      if (answer.found) flight.fallBack(plan.staleWhileRevalidateMs)
      if (answer.leased) return { token, stamps: answer.stamps }
      await flight.pause(pauseMs * (0.5 + Math.random()))
      flight.signal.throwIfAborted()
    }
  }

  async #load(flight: Flight, plan: Plan, { token, stamps }: Licence): Promise<void> {
    const release = token && this.#layers.shared ? this.#hold(this.#layers.shared, flight.key, token) : noop
    try {
      const work = (async () => plan.loader({ key: flight.key, signal: flight.signal }))()
      const kept = this.#keep(flight, plan, await flight.orAborted(work), token === undefined)
      this.loads.ok++
      release(kept && { ...kept, stamps, keepMs: staleWindow(plan) })
    } catch (error) {
      this.loads.failed++
      release()
      throw error
    }
  }

  /** Answers the callers and remembers the value. @returns what to tell Redis, if anything is to be kept */
  #keep(flight: Flight, plan: Plan, loaded: unknown, alone: boolean): Pick<Fill, 'json' | 'freshMs'> | undefined {
    const encoded = encode(flight.key, loaded)
    const nothing = loaded === undefined || loaded === null
    const freshMs = jittered(nothing ? Math.min(plan.ttlMs, plan.negativeTtlMs) : plan.ttlMs, this.#options.jitter)
    const { maxValueBytes } = this.#options
    const fits = encoded.bytes <= maxValueBytes
    if (!fits) this.#warn({ err: tooLarge(flight.key, encoded, maxValueBytes) }, 'cache: a value is not kept')
    const kept = fits && freshMs > 0
    if (kept) this.#layers.remember(flight, encoded, plan.tags, freshMs, alone)
    this.#land(flight)
    flight.settle('loader', encoded.value)
    return kept ? { json: encoded.json, freshMs } : undefined
  }

  /** Keeps a lease alive. @returns what gives it back, and lets the others know */
  #hold(shared: SharedStore, key: string, token: string): (value?: Fill) => void {
    const { leaseMs } = this.#options
    const timer = setInterval(() => void shared.renew(key, token, leaseMs).catch(noop), leaseMs / 3).unref()
    return (value) => {
      clearInterval(timer)
      const awaited = shared.fill(key, token, value)
      // A lease that could not be given back runs out.
      awaited.then((others) => others && this.#layers.wakeOthers(key), noop)
    }
  }
}

/** How long a value is of use after it expired, ms. */
function staleWindow({ staleWhileRevalidateMs, staleIfErrorMs }: ResolvedLoadOptions): number {
  return Math.max(staleWhileRevalidateMs, staleIfErrorMs)
}

export function jittered(ttlMs: number, jitter: number): number {
  return Math.ceil(ttlMs * (1 - jitter * Math.random()))
}
