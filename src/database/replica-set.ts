import { type Pick, type PolicyName, policies } from './policies.ts'
import { inTime, PrimaryHistory, type Sample, type ServerClient, sample, shared } from './watch.ts'

export interface WatchOptions {
  /** How often primary and replicas are asked where they are, 100 to 600,000 ms. @default 1000 */
  probeIntervalMs?: number
  /** How long an answer may take, 10 to 60,000 ms. @default 1000 */
  probeTimeoutMs?: number
  /** Consecutive good samples that bring a replica back, 1 to 100. @default 2 */
  rise?: number
  /** Consecutive bad samples that take it out, 1 to 100; one that refuses a read's connection is out at once. @default 2 */
  fall?: number
  /** A replica that lacks something older than this is left out, 10 to 86,400,000 ms; one interval coarse. @default 10000 */
  maxLagMs?: number
  /** Which of the replicas that are fit gets a read. @default 'least-in-flight', in turn among equals */
  policy?: PolicyName
  /** Called when a replica has gone or come back; `index` is its place in the list. */
  onChange?: (index: number, healthy: boolean) => void
}

export const watchDefaults = {
  probeIntervalMs: 1_000,
  probeTimeoutMs: 1_000,
  rise: 2,
  fall: 2,
  maxLagMs: 10_000,
  policy: 'least-in-flight',
} satisfies WatchOptions

/** Rejects the reads of a replica that has stopped answering: they are safe to be asked elsewhere. */
export const gone: unique symbol = Symbol('the replica has gone')

/** Of response times, the weight of the newest. */
const newest = 0.2

/** A read under way, and its place among them: a `Set` that reads come to and leave makes garbage all the time. */
interface Pending {
  at: number
  readonly reject: (reason: unknown) => void
}

/** One replica: whether it is fit for reads, and how far it has come. */
export class Replica {
  readonly client: ServerClient
  readonly index: number
  /** Position that it has replayed for sure: it may be further, never less far. */
  replayed = 0
  lagMs = 0
  /** Moving average of the response time, ms. */
  latencyMs = 0
  /** Reads that it has answered. */
  answered = 0
  /** Where it is now. Callers at the same time share one question. */
  readonly ask: () => Promise<void>
  /** When it last answered {@link Replica.ask}. */
  askedAt = 0
  readonly #limits: { rise: number; fall: number }
  readonly #changed: () => void
  readonly #pending: Pending[] = []
  #server: string | undefined
  #standby = true
  /** `undefined` until the first sample: at boot nobody knows which replicas are there. */
  #healthy: boolean | undefined
  #good = 0
  #bad = 0

  constructor(client: ServerClient, index: number, limits: { rise: number; fall: number }, changed: () => void) {
    this.client = client
    this.index = index
    this.#limits = limits
    this.#changed = changed
    this.ask = shared(async () => this.#learn(await sample(client)))
  }

  get healthy(): boolean {
    return this.#healthy === true
  }

  get inFlight(): number {
    return this.#pending.length
  }

  /** Runs a read, until it ends or the replica is found to have gone: then it rejects with {@link gone}. */
  read<T>(query: () => PromiseLike<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const read: Pending = { at: this.#pending.length, reject }
      this.#pending.push(read)
      const since = performance.now()
      query().then(
        (value) => {
          this.answered++
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
    // Those that were given up are in the list no more.
    if (this.#pending[read.at] !== read) return
    const last = this.#pending.pop() as Pending
    if (last === read) return
    last.at = read.at
    this.#pending[read.at] = last
  }

  /** It cannot be reached. One failure is enough: others can do its work. */
  failed(): void {
    // It may come back with less than it had: what it had replayed in memory only is replayed again.
    this.replayed = 0
    this.#good = 0
    this.#turn(false)
    for (const { reject } of this.#pending.splice(0)) reject(gone)
  }

  /** Asks it, and judges: it must answer, follow the primary or be it, and lack nothing that is too old. */
  async probe(history: PrimaryHistory, timeoutMs: number, maxLagMs: number): Promise<void> {
    const before = this.answered
    if (!(await inTime(this.ask(), timeoutMs))) {
      // A full pool must not look like a dead server.
      if (this.answered > before && this.healthy) return
      return this.#judge(false, true)
    }
    // One that was promoted is good when the primary's client has come to it, too; else nobody knows whose it is.
    if (!this.#standby) this.replayed = this.#server === history.server ? Number.POSITIVE_INFINITY : 0
    this.lagMs = history.lag(this.replayed)
    this.#judge(this.lagMs <= maxLagMs && (this.#standby || this.replayed > 0), false)
  }

  #learn({ standby, position, server }: Sample): void {
    if (server !== this.#server) this.replayed = 0
    this.#server = server
    this.#standby = standby
    if (standby) this.replayed = position
    this.askedAt = performance.now()
  }

  #judge(good: boolean, silent: boolean): void {
    this.#good = good ? this.#good + 1 : 0
    this.#bad = good ? 0 : this.#bad + 1
    // The very first answer counts at once.
    if (good && (this.#good >= this.#limits.rise || this.#healthy === undefined)) this.#turn(true)
    if (!good && (this.#bad >= this.#limits.fall || this.#healthy === undefined)) {
      if (silent) this.failed()
      else this.#turn(false)
    }
  }

  #turn(healthy: boolean): void {
    if (this.#healthy === healthy) return
    this.#healthy = healthy
    this.#changed()
  }
}

/** A replica that was just asked is not asked again before this, ms: many may wait for the same. */
const askAgainMs = 5

/** The replicas of one primary. Whoever picks never sees one that is not fit. */
export class ReplicaSet {
  readonly replicas: readonly Replica[]
  readonly #pick: Pick
  readonly #history = new PrimaryHistory()
  readonly #timer: NodeJS.Timeout | undefined
  #healthy: readonly Replica[] = []

  constructor(clients: readonly ServerClient[], primary: ServerClient, options: WatchOptions = {}) {
    const { probeIntervalMs, probeTimeoutMs, rise, fall, maxLagMs, policy, onChange } = { ...watchDefaults, ...options }
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
    // unref: watching must not keep a process alive that has nothing else to do.
    this.#timer = setInterval(probe, probeIntervalMs).unref()
    probe()
  }

  get available(): boolean {
    return this.#healthy.length > 0
  }

  /** One that is fit and has replayed `position` for sure; `undefined` when there is none. */
  pick(position: number): Replica | undefined {
    const healthy = this.#healthy
    return this.#pick(position === 0 ? healthy : healthy.filter(({ replayed }) => replayed >= position))
  }

  /** As {@link ReplicaSet.pick}, after asking the replicas how far they are, again and again for at most `waitMs`. */
  async await(position: number, waitMs: number): Promise<Replica | undefined> {
    const deadline = performance.now() + waitMs
    for (;;) {
      const now = performance.now()
      if (now >= deadline || !this.available) return undefined
      const rested = this.#healthy.filter(({ askedAt }) => now - askedAt >= askAgainMs)
      const first = rested.length > 0 ? Promise.any(rested.map(({ ask }) => ask())) : pause(askAgainMs)
      await inTime(first, deadline - now)
      const replica = this.pick(position)
      if (replica) return replica
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
