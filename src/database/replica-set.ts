/** What is asked of a replica's Prisma client. */
export interface ReplicaClient {
  $queryRawUnsafe(query: string): PromiseLike<unknown>
  $disconnect(): Promise<void>
}

export interface ProbeOptions {
  /** How often a replica is asked that has not answered a read meanwhile, 100 to 600,000 ms. @default 2000 */
  probeIntervalMs?: number
  /** How long it may take, 10 to 60,000 ms. @default 1000 */
  probeTimeoutMs?: number
  /** Consecutive answers that bring a replica back, 1 to 100. @default 2 */
  rise?: number
  /** Called when a replica has gone or come back; `index` is its place in the list. */
  onChange?: (index: number, healthy: boolean) => void
}

export const probeDefaults = { probeIntervalMs: 2_000, probeTimeoutMs: 1_000, rise: 2 } satisfies ProbeOptions

/** Rejects the reads of a replica that has stopped answering: they are safe to be asked elsewhere. */
export const gone: unique symbol = Symbol('the replica has gone')

/** One replica, and whether it answers. */
export class Replica<C extends ReplicaClient = ReplicaClient> {
  readonly client: C
  readonly index: number
  readonly #rise: number
  readonly #changed: (replica: Replica<C>) => void
  readonly #abandon = new Set<() => void>()
  /** `undefined` until the first probe has ended: at boot nobody knows which replicas are there. */
  #healthy: boolean | undefined
  #answers = 0
  #fresh = false
  #probing = false

  constructor(client: C, index: number, rise: number, changed: (replica: Replica<C>) => void) {
    this.client = client
    this.index = index
    this.#rise = rise
    this.#changed = changed
  }

  get healthy(): boolean {
    return this.#healthy === true
  }

  get inFlight(): number {
    return this.#abandon.size
  }

  /** Runs a read, until it ends or the replica is found to have gone: then it rejects with {@link gone}. */
  read<T>(query: (client: C) => PromiseLike<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const abandon = (): void => reject(gone)
      this.#abandon.add(abandon)
      query(this.client).then(
        (value) => {
          this.#fresh = true
          this.#abandon.delete(abandon)
          resolve(value)
        },
        (error) => {
          this.#abandon.delete(abandon)
          reject(error)
        },
      )
    })
  }

  /** It cannot be reached. One failure is enough: others can do its work. */
  failed(): void {
    this.#answers = 0
    this.#turn(false)
  }

  /**
   * Asks whether it lives, unless it has answered a read since the last time: a full pool must not look like a dead
   * server. One question at a time, so that a replica that hangs does not fill its pool with them.
   */
  async probe(timeoutMs: number): Promise<void> {
    const fresh = this.#fresh
    this.#fresh = false
    if (this.#probing || (fresh && this.healthy)) return
    this.#probing = true
    const answer = Promise.resolve(this.client.$queryRawUnsafe('SELECT 1')).then(
      () => true,
      () => false,
    )
    void answer.then(() => {
      this.#probing = false
    })
    if (!(await inTime(answer, timeoutMs))) return this.failed()
    // The very first answer counts at once.
    if (++this.#answers >= this.#rise || this.#healthy === undefined) this.#turn(true)
  }

  #turn(healthy: boolean): void {
    if (this.#healthy === healthy) return
    this.#healthy = healthy
    this.#changed(this)
    if (healthy) return
    for (const abandon of this.#abandon) abandon()
    this.#abandon.clear()
  }
}

async function inTime(answer: Promise<boolean>, timeoutMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>()
  // setImmediate: when it was this process that stood still, the answer lies in the socket and is read first.
  const timer = setTimeout(() => setImmediate(resolve, false), timeoutMs)
  const inTime = await Promise.race([answer, late])
  clearTimeout(timer)
  return inTime
}

/** The replicas of one primary. Whoever picks never sees one that does not answer. */
export class ReplicaSet<C extends ReplicaClient = ReplicaClient> {
  readonly replicas: readonly Replica<C>[]
  readonly #timer: NodeJS.Timeout
  #healthy: readonly Replica<C>[] = []
  #next = 0

  constructor(clients: readonly C[], options: ProbeOptions = {}) {
    const { probeIntervalMs, probeTimeoutMs, rise, onChange } = { ...probeDefaults, ...options }
    const changed = (replica: Replica<C>): void => {
      this.#healthy = this.replicas.filter(({ healthy }) => healthy)
      onChange?.(replica.index, replica.healthy)
    }
    this.replicas = clients.map((client, index) => new Replica(client, index, rise, changed))
    const probe = (): void => {
      for (const replica of this.replicas) void replica.probe(probeTimeoutMs)
    }
    // unref: watching must not keep a process alive that has nothing else to do.
    this.#timer = setInterval(probe, probeIntervalMs).unref()
    probe()
  }

  /** The next one that answers, in turn; `undefined` when none does. */
  pick(): Replica<C> | undefined {
    const healthy = this.#healthy
    return healthy[this.#next++ % Math.max(1, healthy.length)]
  }

  close(): void {
    clearInterval(this.#timer)
  }
}
