import { FleetError } from '../../base/errors.ts'
import { resolveOptions, show } from '../../base/options.ts'
import type { Cache, Loader, SetOptions, WrapOptions } from './api.ts'
import { type Outcome, outcomes } from './flight.ts'
import { Flights, jittered } from './flights.ts'
import type { Kind, Message } from './invalidation.ts'
import { type Entry, usable } from './local.ts'
import {
  type LoadOptions,
  loadDefaults,
  loadShapes,
  type ResolvedCacheOptions,
  type ResolvedLoadOptions,
  ttl,
} from './options.ts'
import type { SharedStore } from './shared.ts'
import { Layers } from './tiered-store.ts'
import { encode, tooLarge } from './value.ts'

export interface CacheParts {
  /** `null`: this process is all there is. */
  readonly shared: SharedStore | null
  publish(message: Message): Promise<void>
  warn(details: object, message: string): void
}

export class LayeredCache implements Cache {
  /** How calls of `get()` and `getOrSet()` ended. */
  readonly outcomes: Record<Outcome, number> = Object.fromEntries(outcomes.map((o) => [o, 0])) as Record<
    Outcome,
    number
  >
  readonly layers: Layers
  readonly flights: Flights
  readonly #options: ResolvedCacheOptions
  readonly #defaults: ResolvedLoadOptions

  constructor(options: ResolvedCacheOptions, { shared, publish, warn }: CacheParts) {
    this.#options = options
    this.#defaults = loadDefaults(options)
    this.layers = new Layers(options, shared, publish)
    this.flights = new Flights(options, this.layers, warn)
  }

  get<T>(key: string): Promise<T | undefined> {
    const entry = this.layers.local.get(key)
    if (entry !== undefined && entry.freshUntil > performance.now()) return this.#hit(entry)
    return this.#read(key) as Promise<T | undefined>
  }

  getOrSet<T>(key: string, ttlMs: number, loader: Loader<T>, options?: LoadOptions): Promise<T> {
    const entry = this.layers.local.get(key)
    if (entry !== undefined && entry.freshUntil > performance.now()) return this.#hit(entry)
    return this.#miss(key, ttlMs, loader, options, entry) as Promise<T>
  }

  async set(key: string, value: unknown, ttlMs: number, { tags = [] }: SetOptions = {}): Promise<void> {
    this.#check('key', key)
    this.#resolve(ttlMs, { tags })
    const encoded = encode(key, value)
    const { maxValueBytes, jitter } = this.#options
    if (encoded.bytes > maxValueBytes) throw tooLarge(key, encoded, maxValueBytes)
    const freshMs = jittered(ttlMs, jitter)
    const { layers } = this
    const { shared } = layers
    layers.invalidate('key', key)
    // Before Redis is told: news of a later change, which may arrive before our answer, then finds it and removes it.
    layers.remember({ key, tags: new Set(tags), outdated: false }, encoded, tags, freshMs, false)
    if (!shared) return
    await layers.change('key', key, async () => {
      const stamps = await shared.stamps(tags, freshMs)
      await shared.put(key, { json: encoded.json, stamps, freshMs, keepMs: 0 })
    })
  }

  delete(key: string): Promise<void> {
    return this.#forget('key', key)
  }

  deleteByTag(tag: string): Promise<void> {
    return this.#forget('tag', tag)
  }

  wrap<A extends unknown[], R>(fn: (...args: A) => R, options: WrapOptions<A>): (...args: A) => Promise<Awaited<R>> {
    const { ttlMs, name = fn.name, key = (...args: A) => JSON.stringify(args), tags, ...rest } = options
    if (name === '')
      throw new FleetError('FLEET_ERR_OPTION_INVALID', '`cache.wrap` needs a `name` for a function without one')
    this.#resolve(ttlMs, rest)
    return (...args) => {
      const load = { ...rest, tags: typeof tags === 'function' ? tags(...args) : tags }
      return this.getOrSet(`${name}:${key(...args)}`, ttlMs, () => fn(...args) as Awaited<R>, load)
    }
  }

  /** A peer says something. */
  receive(message: Message): void {
    // A lease ends with the value it was for, so both kinds of news are worth another look.
    if (message.kind !== 'tag') this.flights.wake(message.name)
    if (message.kind !== 'filled' && !this.layers.isOwn(message)) this.layers.invalidate(message.kind, message.name)
  }

  #hit<T>(entry: Entry): Promise<T> {
    entry.visited = true
    this.outcomes.memory++
    return entry.promise as Promise<T>
  }

  async #read(key: string): Promise<unknown> {
    this.#check('key', key)
    const { layers } = this
    const reading = { key, tags: new Set<string>(), outdated: false }
    layers.begin(reading)
    try {
      const found = layers.shared ? (await layers.ask(layers.shared, reading, {}, 0)).found : undefined
      if (found && found.freshMs > 0) {
        this.outcomes.redis++
        return await layers.adopt(reading, found).promise
      }
    } catch {
      // Redis is away, so nothing is known.
    } finally {
      layers.end(reading)
    }
    this.outcomes.nothing++
    return undefined
  }

  async #miss(
    key: string,
    ttlMs: number,
    loader: Loader<unknown>,
    given: LoadOptions | undefined,
    entry: Entry | undefined,
  ): Promise<unknown> {
    this.#check('key', key)
    const plan = { ...this.#resolve(ttlMs, given), ttlMs, loader }
    const flight = this.flights.board(key, plan, entry)
    if (entry && usable(entry, plan.staleWhileRevalidateMs)) {
      this.outcomes.stale++
      return entry.promise
    }
    try {
      return await flight.promise
    } finally {
      this.outcomes[flight.outcome]++
    }
  }

  async #forget(kind: Kind, name: string): Promise<void> {
    this.#check(kind, name)
    this.layers.invalidate(kind, name)
    await this.layers.change(kind, name)
    // Meanwhile somebody may have read from Redis what was still there.
    this.layers.invalidate(kind, name)
  }

  #resolve(ttlMs: number, given: LoadOptions | undefined): ResolvedLoadOptions {
    if (!ttl.accepts(ttlMs))
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        `\`cache\` ttlMs must be ${ttl.expects}, but it is ${show(ttlMs)}`,
      )
    const options = given
      ? resolveOptions<ResolvedLoadOptions>('cache', loadShapes, this.#defaults, given)
      : this.#defaults
    for (const tag of options.tags) this.#check('tag', tag)
    return options
  }

  /** A name that starts with `}` would have no hash tag in Redis Cluster: the keys that go with it could not be reached. */
  #check(kind: Kind, name: unknown): void {
    const { maxKeyLength } = this.#options
    if (typeof name === 'string' && name !== '' && name.length <= maxKeyLength && !name.startsWith('}')) return
    throw new FleetError(
      'FLEET_ERR_CACHE_KEY_INVALID',
      `a ${kind} must be a string of 1 to ${maxKeyLength} characters that does not start with }, but it is ${show(name)}`,
    )
  }
}
