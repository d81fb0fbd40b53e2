import { AsyncLocalStorage } from 'node:async_hooks'
import { FleetError } from '../base/errors.ts'
import { type Execute, executorOf, type Operation } from '../base/internals/prisma.ts'
import { int, list, type Resolved, type Shape, shape } from '../base/options.ts'
import { isSaturated, isUnreachable, needsPrimary } from './errors.ts'
import { gone, type Replica, ReplicaSet, watchOptions } from './replica-set.ts'
import { kindOf } from './routing.ts'
import { mayReadReplica } from './statement.ts'
import { afterwards, type ServerClient, sample } from './watch.ts'

/** The client of the current request, for read-your-writes. */
export interface Reader {
  /** Position that a replica must have replayed; 0: any replica will do; infinite: only the primary will. */
  position(): number
  /** Called when the client writes: from then on it reads from the primary. */
  writes(): void
}

export const routerOptions = {
  ...watchOptions,
  /** How long a read waits for a replica to replay the client's writes before it goes to the primary. */
  waitMs: int(0, 60_000, 'milliseconds').default(20),
  /**
   * Concurrent reads on the primary while no replica is healthy; further ones are rejected with 503
   * `FLEET_ERR_DATABASE_BUSY`, so that the primary can still serve writes. @default no limit
   */
  maxPrimaryReads: int(0, 100_000),
  /**
   * Functions that raw statements on a replica may call, besides those of PostgreSQL without effects: your own and those of
   * extensions. By name as in `pg_proc`; with the schema if the statements name it.
   */
  readOnlyFunctions: (
    list(
      shape<string>('the name of a function, such as similarity or shop.price', (v) =>
        /^[^\s"'();,]+$/.test(String(v)),
      ),
    ) as Shape<readonly string[]>
  ).default([]),
}

const nameOf = ({ modelName, action, clientMethod }: Operation): string =>
  modelName === undefined ? clientMethod : action

/** Whether an operation only reads, by the table of {@link kindOf}. */
export function isRead(operation: Operation, readOnlyFunctions?: ReadonlySet<string>): boolean {
  const kind = kindOf(nameOf(operation))
  return kind === 'statement'
    ? mayReadReplica((operation.args as { query: string }).query, readOnlyFunctions)
    : kind === 'read'
}

/** Number of reads by server, since the start. */
export interface ReadCounts {
  primary: number
  /** Of those on the primary, the ones for which no replica had replayed the client's writes. */
  own: number
  refused: number
  readonly replicas: number[]
}

/** Chooses the server for each operation. */
export class Router {
  readonly set: ReplicaSet
  /** The reader of the current request. Outside of a request, such as in a background job, any replica will do. */
  readonly readers: AsyncLocalStorage<Reader> = new AsyncLocalStorage()
  readonly reads: ReadCounts
  /** The primary's current write position. */
  readonly position: () => Promise<number>
  readonly #primary: Execute
  readonly #replicas: readonly Execute[]
  readonly #waitMs: number
  readonly #maxPrimaryReads: number
  readonly #readOnlyFunctions: ReadonlySet<string>
  #primaryReads = 0

  constructor(primary: ServerClient, clients: readonly ServerClient[], options: Resolved<typeof routerOptions>) {
    const { waitMs, maxPrimaryReads, readOnlyFunctions, ...watching } = options
    this.#primary = executorOf(primary)
    this.#replicas = clients.map(executorOf)
    this.#waitMs = waitMs
    this.#maxPrimaryReads = maxPrimaryReads ?? Number.POSITIVE_INFINITY
    this.#readOnlyFunctions = new Set(readOnlyFunctions)
    this.set = new ReplicaSet(clients, primary, watching)
    this.reads = { primary: 0, own: 0, refused: 0, replicas: clients.map(() => 0) }
    this.position = afterwards(async () => (await sample(primary)).position)
  }

  /** The executor of the client with replicas. */
  readonly route: Execute = (operation) => {
    if (operation.transaction || !this.#isRead(operation)) return this.write(operation)
    return this.#read(operation, this.readers.getStore()?.position() ?? 0)
  }

  /** The executor of `$primary()`. */
  readonly write: Execute = (operation) => {
    if (!this.#isRead(operation)) this.readers.getStore()?.writes()
    return this.#primary(operation)
  }

  /** The executor of `$replica()`: reads may be stale, even after the client's own writes. */
  readonly readLate: Execute = (operation) => {
    if (operation.transaction || kindOf(nameOf(operation)) === 'write') return this.write(operation)
    return this.#read(operation, 0)
  }

  #isRead(operation: Operation): boolean {
    return isRead(operation, this.#readOnlyFunctions)
  }

  #read(operation: Operation, position: number): Promise<unknown> {
    if (position === Number.POSITIVE_INFINITY) return this.#onPrimary(operation, true)
    const replica = this.set.pick(position)
    if (replica) return this.#onReplica(operation, replica, position, this.set.replicas.length)
    if (this.#waitMs === 0 || !this.set.available) return this.#onPrimary(operation, this.set.available)
    return this.set
      .await(position, this.#waitMs)
      .then((caughtUp) =>
        caughtUp
          ? this.#onReplica(operation, caughtUp, position, this.set.replicas.length)
          : this.#onPrimary(operation, this.set.available),
      )
  }

  #onReplica(operation: Operation, replica: Replica, position: number, tries: number): Promise<unknown> {
    const { index } = replica
    const execute = this.#replicas[index] as Execute
    return replica
      .read(() => execute(operation))
      .then(
        (value) => {
          this.reads.replicas[index] = (this.reads.replicas[index] ?? 0) + 1
          return value
        },
        (error) => {
          if (needsPrimary(error)) return this.#onPrimary(operation, false)
          if (isUnreachable(error)) replica.failed()
          else if (error !== gone && !isSaturated(error)) throw error
          const next = tries > 1 ? this.set.pick(position) : undefined
          return next ? this.#onReplica(operation, next, position, tries - 1) : this.#onPrimary(operation, false)
        },
      )
  }

  async #onPrimary(operation: Operation, own: boolean): Promise<unknown> {
    // Reads of own writes are few and need the primary, so only the others are limited.
    if (!own && !this.set.available && this.set.replicas.length > 0 && this.#primaryReads >= this.#maxPrimaryReads) {
      this.reads.refused++
      throw new FleetError(
        'FLEET_ERR_DATABASE_BUSY',
        `no replica is healthy, and the primary has ${this.#primaryReads} reads in flight`,
        { retryAfter: 1 },
      )
    }
    this.#primaryReads++
    this.reads.primary++
    if (own) this.reads.own++
    try {
      return await this.#primary(operation)
    } finally {
      this.#primaryReads--
    }
  }
}
