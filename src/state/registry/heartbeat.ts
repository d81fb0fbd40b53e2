import type { FastifyBaseLogger } from 'fastify'
import type { Peer } from '../../instance/identity.ts'
import { seldom } from '../seldom.ts'
import { type Entries, type EntryRejection, entryRejections } from './entries.ts'
import { PeerTable } from './peers.ts'
import { type Answer, type Directory, type Entry, reconnectMs } from './redis-directory.ts'

/** How much of what a registrar knows is true: read just now, read before Redis was lost, or without ourselves in it. */
export type RegistryHealth = 'live' | 'last-known' | 'displaced'

export interface RegistrarParts {
  readonly directory: Directory
  /** Signs this instance's entry, and verifies those of the others. */
  readonly entries: Entries
  /** Names this process among all that ever had its id. */
  readonly boot: string
  readonly leaseMs: number
  readonly log: FastifyBaseLogger
  /** This instance, as it is now. */
  readonly self: () => Peer
  /** Tells the other instances that there is something to read; never rejects, because they will find it anyway. */
  readonly announce: () => Promise<void>
  readonly onHealth: (health: RegistryHealth) => void
}

/** Peers whose figures are read with each beat: if it were all, the cost of a beat would grow with the fleet. */
const sampled = 8
/** Whoever asks for the figures of all gets them at most this old, ms. */
const surveyMs = 500
/** When many instances come and go at once, each of the others reads this seldom and no more often, ms. */
const pauseMs = 50

/** What is ignored in the directory; `foreign`: keys that were none of a registry. */
export type Rejections = Record<EntryRejection | 'foreign', number>

/** Keeps this instance in the directory, and the directory in this instance's memory. */
export class Registrar {
  readonly rejections: Rejections
  readonly #parts: RegistrarParts
  readonly #id: string
  readonly #table: PeerTable
  readonly #intervalMs: number
  readonly #warn: (reason: string, id: string) => void
  #present = false
  /** The first beat takes the id over: the process that had it was most likely killed a moment ago. */
  #claim = true
  /** Unix time in ms. */
  #claimedAt = 0
  #closed = false
  #health: RegistryHealth | undefined
  #leaving: Promise<void> | undefined
  #running: Promise<void> | undefined
  /** Asked for while a beat is running, which may have read too early. */
  #again: 'now' | 'soon' | undefined
  #rewind = false
  #surveyedAt = Number.NEGATIVE_INFINITY
  #survey = false
  #timer: NodeJS.Timeout | undefined
  #beatAt = Number.NEGATIVE_INFINITY
  #list: readonly Peer[] | undefined

  constructor(parts: RegistrarParts) {
    this.#parts = parts
    this.#id = parts.self().id
    this.rejections = Object.fromEntries([...entryRejections, 'foreign'].map((reason) => [reason, 0])) as Rejections
    this.#table = new PeerTable(this.#id, parts.leaseMs + reconnectMs, parts.entries, (reason, id) =>
      this.#reject(reason, id),
    )
    this.#warn = seldom((reason: string, id: string) =>
      parts.log.warn(
        { reason, id: id.slice(0, 128) },
        'registry: ignoring an entry that no instance of this fleet signed',
      ),
    )
    this.#intervalMs = parts.leaseMs / 3
  }

  /** Every live instance, sorted by id; this one among them. */
  get peers(): readonly Peer[] {
    this.#list ??= this.#table.list(this.#parts.self())
    return this.#list
  }

  /** Every live instance, with figures that are at most half a second old if Redis answers. */
  async survey(): Promise<readonly Peer[]> {
    if (performance.now() - this.#surveyedAt > surveyMs) {
      await this.#running
      this.#survey = true
      await this.beat()
    }
    return this.peers
  }

  /** The process that an instance is. */
  bootOf(id: string): string | undefined {
    return this.#table.bootOf(id)
  }

  /** From now on this instance is in the directory. */
  join(): void {
    this.#present = true
    this.changed()
  }

  /** This instance has changed: the peers are to know at once. */
  changed(): void {
    this.#list = undefined
    this.beat()
  }

  /** A peer has changed. */
  heard(): void {
    const wait = this.#beatAt + pauseMs - performance.now()
    if (this.#running) this.#again ??= 'soon'
    else if (wait <= 0) this.beat()
    else this.#schedule(wait)
  }

  /** What was read may not be what is there now: after a loss of the connection. */
  restart(): void {
    this.#rewind = true
    this.beat()
  }

  /** Leaves the directory, when Redis lets it; never rejects. */
  leave(): Promise<void> {
    this.#leaving ??= this.#leave()
    return this.#leaving
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  /** Reads, and renews the lease of an instance that is present. Never rejects: it is tried again soon. */
  beat(): Promise<void> {
    if (this.#running) {
      this.#again = 'now'
      return this.#running
    }
    this.#beatAt = performance.now()
    this.#running = this.#beat().then((wait) => {
      this.#running = undefined
      this.#list = undefined
      this.#schedule(this.#again === 'now' ? 0 : this.#again === 'soon' ? pauseMs : wait)
      this.#again = undefined
    })
    return this.#running
  }

  /** @returns how long to wait before the next beat, ms */
  async #beat(): Promise<number> {
    const claim = this.#claim && this.#present
    if (this.#rewind) this.#table.rewind()
    const survey = this.#survey
    this.#rewind = this.#survey = false
    const now = Date.now()
    try {
      const answer = await this.#parts.directory.beat(this.#entry(claim), {
        // Gone within one lease after the last beat, however late in their own interval the peers look.
        leaseMs: Math.round(this.#parts.leaseMs * 0.55),
        claim,
        from: this.#table.position,
        sample: this.#table.sample(survey ? Number.POSITIVE_INFINITY : sampled),
      })
      if (claim) {
        this.#claim = false
        this.#claimedAt = now
      }
      if (answer.reset) this.#reject('foreign', '')
      this.#table.apply(answer)
      if (survey) this.#surveyedAt = this.#beatAt
      this.#judge(answer, claim)
      if (answer.changed) void this.#parts.announce()
      return this.#intervalMs * (0.95 + Math.random() / 10)
    } catch (err) {
      if (this.#health !== 'last-known') this.#parts.log.warn({ err }, 'registry: the last known peers must do for now')
      this.#become('last-known')
      return this.#intervalMs / 4
    }
  }

  #judge({ rival }: Answer, claimed: boolean): void {
    const before = this.#health
    const other = rival === undefined ? undefined : this.#parts.entries.open(this.#id, rival)
    // Not a process of this fleet, or one that was there before this one: its entry was put there by somebody else.
    const isForged = typeof other === 'string' || (other && !claimed && other.signedAt < this.#claimedAt)
    if (isForged) {
      this.#reject(typeof other === 'string' ? other : 'stale', this.#id)
      if (!claimed && this.#present) {
        this.#claim = true
        this.#again ??= 'soon'
      }
    }
    this.#become(!other || isForged || claimed ? 'live' : 'displaced')
    if (!other || typeof other === 'string' || isForged) return
    const { pid, host } = other.facts
    const [who, mend] = [{ id: this.#id, pid, host }, 'give each its own INSTANCE_ID']
    if (claimed) this.#parts.log.warn(who, `registry: another process had this id; if it still runs, ${mend}`)
    else if (before !== 'displaced')
      this.#parts.log.error(who, `registry: another process took this id, so peers cannot see this one; ${mend}`)
  }

  #reject(reason: keyof Rejections, id: string): void {
    this.rejections[reason]++
    this.#warn(reason, id)
  }

  async #leave(): Promise<void> {
    const was = this.#present
    this.#present = false
    this.#list = undefined
    await this.#running
    if (!was) return
    try {
      if (await this.#parts.directory.leave({ id: this.#id, boot: this.#parts.boot })) await this.#parts.announce()
    } catch (err) {
      this.#parts.log.warn({ err }, 'registry: could not leave; the lease will end by itself')
    }
  }

  #entry(claim: boolean): Entry | undefined {
    if (!this.#present) return undefined
    const { boot, entries, self } = this.#parts
    return { id: this.#id, boot, ...entries.seal(boot, self(), claim) }
  }

  #become(health: RegistryHealth): void {
    if (this.#health === health) return
    this.#health = health
    this.#parts.onHealth(health)
  }

  #schedule(wait: number): void {
    clearTimeout(this.#timer)
    if (!this.#closed) this.#timer = setTimeout(() => this.beat(), wait).unref()
  }
}
