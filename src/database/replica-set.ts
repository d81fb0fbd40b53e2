import { fn, int, oneOf, type Resolved } from '../base/options.ts'
import { within } from '../base/within.ts'
import { type Pick, policies, replicaPolicyNames } from './policies.ts'
import { PrimaryHistory, type Sample, type ServerClient, sample, shared } from './watch.ts'

export const watchOptions = {
  /** Interval at which primary and replicas are probed for their position, with one query each. */
  probeIntervalMs: int(100, 600_000, 'milliseconds').default(1000),
  /** Longest response time of a probe. */
  probeTimeoutMs: int(10, 60_000, 'milliseconds').default(1000),
  /** Consecutive successful probes that bring a replica back. */
  rise: int(1, 100).default(2),
  /** Consecutive failed probes that take a replica out; a refused connection does so at once. */
  fall: int(1, 100).default(2),
  /**
   * A replica that lacks older data is left out. Measured by this process's clock against the primary's log, with a resolution
   * of one interval, so an idle primary causes no lag.
   */
  maxLagMs: int(10, 86_400_000, 'milliseconds').default(10_000),
  /**
   * Policy that chooses among the healthy replicas. `least-in-flight` alternates between equals; `latency` is the moving
   * average × (reads in flight + 1).
   */
  policy: oneOf(...replicaPolicyNames).default('least-in-flight'),
  /** Called when a replica leaves or returns; `index` is its index in the list. */
  onChange: fn<(index: number, healthy: boolean) => void>(),
}

/** Rejects the reads of a replica that stopped responding: they can safely be sent to another server. */
export const gone: unique symbol = Symbol('the replica is gone')

/** Weight of the newest response time in the moving average. */
const newest = 0.2

/** A read in flight with its index in the list. A `Set` would allocate for every read. */
interface Pending {
  at: number
  readonly reject: (reason: unknown) => void
}

/** One replica: its health and its position. */
export class Replica {
  readonly client: ServerClient
  readonly index: number
  /** Lower bound of the position that it has replayed. */
  replayed = 0
  lagMs = 0
  /** Moving average of the response time, ms. */
  latencyMs = 0
  /** Number of completed reads. */
  completed = 0
  /** Queries its position. Concurrent callers share one query. */
  readonly ask: () => Promise<void>
  /** Time at which the last {@link Replica.ask} ended, with or without a response. */
  askedAt = 0
  readonly #limits: { rise: number; fall: number }
  readonly #changed: () => void
  readonly #pending: Pending[] = []
  #server: string | undefined
  #standby = true
  /** `undefined` until the first sample. */
  #healthy: boolean | undefined
  #good = 0
  #bad = 0

  constructor(client: ServerClient, index: number, limits: { rise: number; fall: number }, changed: () => void) {
    this.client = client
    this.index = index
    this.#limits = limits
    this.#changed = changed
    this.ask = shared(async () => {
      try {
        this.#update(await sample(client))
      } finally {
        this.askedAt = performance.now()
      }
    })
  }

  get healthy(): boolean {
    return this.#healthy === true
  }

  get inFlight(): number {
    return this.#pending.length
  }

  /** Runs a read. Rejects with {@link gone} when the replica turns out to be unreachable meanwhile. */
  read<T>(query: () => PromiseLike<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const read: Pending = { at: this.#pending.length, reject }
      this.#pending.push(read)
      const since = performance.now()
      query().then(
        (value) => {
          this.completed++
          this.latencyMs += newest * (performance.now() - since - this.latencyMs)
          this.#ended(read)
          resolve(value)
        },
        (error) => {
          this.#ended(read)
          reject(error)
        },
      )
    })
  }

  #ended(read: Pending): void {
    // A rejected read is no longer in the list.
    if (this.#pending[read.at] !== read) return
    const last = this.#pending.pop() as Pending
    if (last === read) return
    last.at = read.at
    this.#pending[read.at] = last
  }

  /** Takes the replica out because it is unreachable. One failure is enough, since others can take its reads. */
  failed(): void {
    // It may come back at an earlier position: WAL replayed in memory only is replayed again.
    this.replayed = 0
    this.#good = 0
    this.#setHealthy(false)
    for (const { reject } of this.#pending.splice(0)) reject(gone)
  }

  /** Probes it: it must respond in time, follow the primary or be the primary, and lag at most `maxLagMs`. */
  async probe(history: PrimaryHistory, timeoutMs: number, maxLagMs: number): Promise<void> {
    const before = this.completed
    if ((await within(timeoutMs, this.ask())) !== 'fulfilled') {
      // A full pool must not look like a dead server.
      if (this.completed > before && this.healthy) return
      return this.#judge(false, true)
    }
    // A promoted replica is healthy only if the primary's client is connected to the same server.
    if (!this.#standby) this.replayed = this.#server === history.server ? Number.POSITIVE_INFINITY : 0
    this.lagMs = history.lag(this.replayed)
    this.#judge(this.lagMs <= maxLagMs && (this.#standby || this.replayed > 0), false)
  }

  #update({ standby, position, server }: Sample): void {
    if (server !== this.#server) this.replayed = 0
    this.#server = server
    this.#standby = standby
    if (standby) this.replayed = position
  }

  #judge(good: boolean, silent: boolean): void {
    this.#good = good ? this.#good + 1 : 0
    this.#bad = good ? 0 : this.#bad + 1
    // The very first sample counts at once.
    if (good && (this.#good >= this.#limits.rise || this.#healthy === undefined)) this.#setHealthy(true)
    if (!good && (this.#bad >= this.#limits.fall || this.#healthy === undefined)) {
      if (silent) this.failed()
      else this.#setHealthy(false)
    }
  }

  #setHealthy(healthy: boolean): void {
    if (this.#healthy === healthy) return
    this.#healthy = healthy
    this.#changed()
  }
}

/** Shortest interval between two queries for a replica's position, ms, however many reads wait for it. */
const askAgainMs = 5

/** The replicas of one primary. A policy sees the healthy ones only. */
export class ReplicaSet {
  readonly replicas: readonly Replica[]
  readonly #pick: Pick
  readonly #history = new PrimaryHistory()
  readonly #timer: NodeJS.Timeout | undefined
  #healthy: readonly Replica[] = []

  constructor(clients: readonly ServerClient[], primary: ServerClient, options: Resolved<typeof watchOptions>) {
    const { probeIntervalMs, probeTimeoutMs, rise, fall, maxLagMs, policy, onChange } = options
    this.#pick = policies[policy]()
    this.replicas = clients.map((client, index) => {
      const replica: Replica = new Replica(client, index, { rise, fall }, () => {
        this.#healthy = this.replicas.filter(({ healthy }) => healthy)
        onChange?.(index, replica.healthy)
      })
      return replica
    })
    if (clients.length === 0) return
    const askPrimary = shared(() => sample(primary))
    const learn = async (): Promise<void> => {
      const moment = await askPrimary()
      if (!moment.standby) this.#history.add(moment, performance.now())
    }
    const probe = (): void => {
      void learn().catch(() => {})
      for (const replica of this.replicas) void replica.probe(this.#history, probeTimeoutMs, maxLagMs)
    }
    // unref: probing must not keep an otherwise idle process alive.
    this.#timer = setInterval(probe, probeIntervalMs).unref()
    probe()
  }

  get available(): boolean {
    return this.#healthy.length > 0
  }

  /** A healthy replica that has replayed `position`; `undefined` when there is none. */
  pick(position: number): Replica | undefined {
    const healthy = this.#healthy
    return this.#pick(position === 0 ? healthy : healthy.filter(({ replayed }) => replayed >= position))
  }

  /** Whether a healthy replica has replayed `position`. */
  hasReplayed(position: number): boolean {
    return this.#healthy.some(({ replayed }) => replayed >= position)
  }

  /** Like {@link ReplicaSet.pick}, but polls the replicas' positions for at most `waitMs` until one qualifies. */
  async await(position: number, waitMs: number): Promise<Replica | undefined> {
    const deadline = performance.now() + waitMs
    for (;;) {
      const now = performance.now()
      if (now >= deadline || !this.available) return undefined
      const rested = this.#healthy.filter(({ askedAt }) => now - askedAt >= askAgainMs)
      const first = rested.length > 0 ? Promise.any(rested.map(({ ask }) => ask())) : pause(askAgainMs)
      await within(deadline - now, first)
      const replica = this.pick(position)
      if (replica) return replica
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
