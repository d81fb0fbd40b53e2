import type { FastifyBaseLogger } from 'fastify'
import { within } from '../../base/within.ts'
import type { Peer } from '../../instance/identity.ts'
import { throttle } from '../throttle.ts'
import { entryOf, type GoneListener, Peers } from './peers.ts'
import { type HeartbeatReply, type RedisDirectory, type RegistryEntry, reconnectMs } from './redis-directory.ts'
import { type EntryRejection, entryRejections, type SignedEntries } from './signed-entries.ts'

/** State of the list of peers: up to date; read before an outage; or up to date, but another process has this instance's id. */
export type RegistryHealth = 'live' | 'last-known' | 'displaced'

export interface HeartbeatParts {
  readonly directory: RedisDirectory
  /** Signs this instance's entry and verifies those of the others. */
  readonly entries: SignedEntries
  /** Random id of this process, because another one may have the same instance id. */
  readonly boot: string
  readonly leaseMs: number
  readonly log: FastifyBaseLogger
  /** This instance, as it is now. */
  readonly self: () => Peer
  /** Notifies the peers of a change. Never rejects: they find the change with their next heartbeat anyway. */
  readonly announce: () => Promise<void>
  readonly onHealth: (health: RegistryHealth) => void
  readonly onGone?: GoneListener
}

/** Peers whose figures each heartbeat reads. Reading all would make its cost grow with the fleet. */
const sampleSize = 8
/** Maximum age of the figures that `survey()` returns, ms. */
const surveyMs = 500
/** How long the start of an instance waits at most until it knows its peers, ms. Fastify ends a boot that takes 10 s. */
const startMs = 5000
/** Minimum interval of reads caused by messages, so that many changes at once cause few reads, ms. */
const minIntervalMs = 50
/** And 1 ms per peer, so that all instances together cause at most a thousand reads per second. */
const perPeerMs = 1

/** Ignored content by reason; `foreign`: keys with content of another application. */
export type Rejections = Record<EntryRejection | 'foreign', number>

/** Keeps this instance in the directory and a copy of the directory in memory. */
export class Heartbeat {
  readonly rejections: Rejections
  readonly #parts: HeartbeatParts
  readonly #id: string
  readonly #peers: Peers
  readonly #intervalMs: number
  readonly #warn: (reason: string, id: string) => void
  #present = false
  /** The first heartbeat takes the id over: its previous process was most likely just killed. */
  #claim = true
  /** Unix time in ms. */
  #claimedAt = 0
  #closed = false
  #health: RegistryHealth | undefined
  #leaving: Promise<void> | undefined
  #running: Promise<void> | undefined
  /** Another heartbeat was requested while one was running, which may have read too early. */
  #again: 'now' | 'soon' | undefined
  #rewind = false
  /** Whether all entries have been read once. */
  #isComplete = false
  #surveyedAt = Number.NEGATIVE_INFINITY
  #survey = false
  #timer: NodeJS.Timeout | undefined
  #beatAt = Number.NEGATIVE_INFINITY
  #list: readonly Peer[] | undefined

  constructor(parts: HeartbeatParts) {
    this.#parts = parts
    this.#id = parts.self().id
    this.rejections = Object.fromEntries([...entryRejections, 'foreign'].map((reason) => [reason, 0])) as Rejections
    const onRejected = (reason: EntryRejection, id: string): void => this.#reject(reason, id)
    this.#peers = new Peers(this.#id, parts.leaseMs + reconnectMs, parts.entries, onRejected, parts.onGone)
    this.#warn = throttle((reason: string, id: string) =>
      parts.log.warn(
        { reason, id: id.slice(0, 128) },
        'registry: ignoring an entry that no instance of this fleet signed',
      ),
    )
    this.#intervalMs = parts.leaseMs / 3
  }

  /** Every live instance, including this one, sorted by id. */
  get peers(): readonly Peer[] {
    this.#list ??= this.#peers.list(this.#parts.self())
    return this.#list
  }

  /** Every live instance, with figures at most half a second old if Redis is available. */
  async survey(): Promise<readonly Peer[]> {
    if (performance.now() - this.#surveyedAt > surveyMs) {
      await this.#running
      this.#survey = true
      await this.beat()
    }
    return this.peers
  }

  /** The process behind an instance's id. */
  bootOf(id: string): string | undefined {
    return this.#peers.bootOf(id)
  }

  /** Reads the directory for the first time, so that an instance that serves knows its peers. Resolves in time in any case. */
  async start(limitMs: number = startMs): Promise<void> {
    const outcome = await within(limitMs, this.beat())
    if (outcome === 'late')
      this.#parts.log.warn({ limitMs }, 'registry: Redis is slow; serving before all peers are known')
  }

  /** Adds this instance to the directory. */
  join(): void {
    this.#present = true
    this.changed()
  }

  /** Publishes a change of this instance at once. */
  changed(): void {
    this.#list = undefined
    this.beat()
  }

  /** Reads the change of a peer. */
  peerChanged(): void {
    const waitMs = this.#beatAt + this.#pauseMs - performance.now()
    if (this.#running) this.#again ??= 'soon'
    else if (waitMs <= 0) this.beat()
    else this.#schedule(waitMs)
  }

  /** Reads all entries again, after a loss of the connection. */
  restart(): void {
    this.#rewind = true
    this.beat()
  }

  /** Removes this instance from the directory if Redis is available. Never rejects. */
  leave(): Promise<void> {
    this.#leaving ??= this.#leave()
    return this.#leaving
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  /** Reads changes and renews the lease of this instance. Never rejects; a failure is retried soon. */
  beat(): Promise<void> {
    if (this.#running) {
      this.#again = 'now'
      return this.#running
    }
    this.#beatAt = performance.now()
    this.#running = this.#beat().then((waitMs) => {
      this.#running = undefined
      this.#list = undefined
      this.#schedule(this.#again === 'now' ? 0 : this.#again === 'soon' ? this.#pauseMs : waitMs)
      this.#again = undefined
    })
    return this.#running
  }

  /** @returns the pause before the next heartbeat, ms */
  async #beat(): Promise<number> {
    const claim = this.#claim && this.#present
    if (this.#rewind) this.#peers.rewind()
    const survey = this.#survey
    this.#rewind = this.#survey = false
    const now = Date.now()
    try {
      const reply = await this.#parts.directory.beat(this.#entry(claim), {
        // So that peers see the expiry within `leaseMs` after the last heartbeat, however late in their interval they read.
        leaseMs: Math.round(this.#parts.leaseMs * 0.55),
        claim,
        from: this.#peers.position,
        sample: this.#peers.sample(survey ? Number.POSITIVE_INFINITY : sampleSize),
      })
      if (claim) {
        this.#claim = false
        this.#claimedAt = now
      }
      if (reply.reset) this.#reject('foreign', '')
      const more = this.#peers.apply(reply)
      if (survey) this.#surveyedAt = this.#beatAt
      this.#checkRival(reply, claim)
      if (reply.changed) void this.#parts.announce()
      if (!more) this.#isComplete = true
      // The first time all at once, so that an instance that serves knows its peers. Later others may read at the same time.
      else if (!this.#isComplete) return this.#beat()
      else this.#again ??= 'soon'
      return this.#intervalMs * (0.95 + Math.random() / 10)
    } catch (err) {
      if (this.#health !== 'last-known')
        this.#parts.log.warn({ err }, 'registry: Redis unavailable; using the last known peers')
      this.#setHealth('last-known')
      return this.#intervalMs / 4
    }
  }

  #checkRival({ rival }: HeartbeatReply, claimed: boolean): void {
    const before = this.#health
    const other = rival === undefined ? undefined : this.#parts.entries.open(this.#id, rival)
    // Not signed by this fleet, or older than this process's claim: another application wrote the entry.
    const isForged = typeof other === 'string' || (other && !claimed && other.signedAt < this.#claimedAt)
    if (isForged) {
      this.#reject(typeof other === 'string' ? other : 'stale', this.#id)
      if (!claimed && this.#present) {
        this.#claim = true
        this.#again ??= 'soon'
      }
    }
    this.#setHealth(!other || isForged || claimed ? 'live' : 'displaced')
    if (!other || typeof other === 'string' || isForged) return
    if (claimed) this.#parts.onGone?.(entryOf(other), false)
    const { pid, host } = other.facts
    const [details, fix] = [{ id: this.#id, pid, host }, 'set a different INSTANCE_ID for each']
    if (claimed) this.#parts.log.warn(details, `registry: another process had this id; if it still runs, ${fix}`)
    else if (before !== 'displaced')
      this.#parts.log.error(details, `registry: another process took this id, so peers cannot see this one; ${fix}`)
  }

  #reject(reason: keyof Rejections, id: string): void {
    this.rejections[reason]++
    this.#warn(reason, id)
  }

  async #leave(): Promise<void> {
    const wasPresent = this.#present
    this.#present = false
    this.#list = undefined
    await this.#running
    if (!wasPresent) return
    try {
      if (await this.#parts.directory.leave({ id: this.#id, boot: this.#parts.boot })) await this.#parts.announce()
    } catch (err) {
      this.#parts.log.warn({ err }, 'registry: could not remove this instance; its lease will expire')
    }
  }

  #entry(claim: boolean): RegistryEntry | undefined {
    if (!this.#present) return undefined
    const { boot, entries, self } = this.#parts
    return { id: this.#id, boot, ...entries.seal(boot, self(), claim) }
  }

  #setHealth(health: RegistryHealth): void {
    if (this.#health === health) return
    this.#health = health
    this.#parts.onHealth(health)
  }

  get #pauseMs(): number {
    return Math.min(this.#intervalMs, Math.max(minIntervalMs, this.#peers.size * perPeerMs))
  }

  #schedule(waitMs: number): void {
    clearTimeout(this.#timer)
    if (!this.#closed) this.#timer = setTimeout(() => this.beat(), waitMs).unref()
  }
}
