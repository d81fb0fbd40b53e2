import type { Client, Pool, PoolClient, PoolConfig } from 'pg'
import { FleetError } from '../base/errors.ts'
import { any, bool, int, resolveOptions, type Shapes } from '../base/options.ts'
import { hostUrls } from '../base/postgres-url.ts'

export interface PoolsOptions {
  /** Connections to each server, 1 to 100. Few serve many: a query holds one for a millisecond. @default 10 */
  max?: number
  /** Queries that may wait for a connection of one pool, 0 to 100,000; the next one is refused with 503. @default 100 */
  maxWaiting?: number
  /** How long to wait for a connection, free or new, 10 to 60,000 ms; for each server of a list anew. @default 2000 */
  connectTimeoutMs?: number
  /** How long a statement may run, 10 to 3,600,000 ms; the server ends it. @default 10000 */
  statementTimeoutMs?: number
  /** An unused connection is closed after this, 0 (never) to 3,600,000 ms. @default 30000 */
  idleTimeoutMs?: number
  /**
   * A pooler in transaction mode stands between: nothing is asked of a connection that lasts longer than a transaction,
   * and the statement's time is kept by this process alone. @default whether the URL says `pgbouncer=true`
   */
  pgbouncer?: boolean
  /** `pg`, where several copies are installed: the one that Prisma's adapter loads. @default what `import('pg')` finds */
  driver?: Driver
}

const shapes: Shapes = {
  max: int(1, 100),
  maxWaiting: int(0, 100_000),
  connectTimeoutMs: int(10, 60_000, 'milliseconds'),
  statementTimeoutMs: int(10, 3_600_000, 'milliseconds'),
  idleTimeoutMs: int(0, 3_600_000, 'milliseconds'),
  pgbouncer: bool,
  driver: any,
}
const defaults = {
  max: 10,
  maxWaiting: 100,
  connectTimeoutMs: 2_000,
  statementTimeoutMs: 10_000,
  idleTimeoutMs: 30_000,
} satisfies PoolsOptions
type Resolved = PoolsOptions & typeof defaults

/** How much longer than the server this process waits for the end of a statement, ms: then the server hangs. */
const patienceMs = 1_000

/** `pg`. It and its pools are not named by their types: an app without a database has none of them, and must compile. */
export interface Driver {
  readonly Client: unknown
  readonly Pool: unknown
}
/** A `pg.Pool`. */
// biome-ignore lint/suspicious/noExplicitAny: whatever takes a pool has the type of its own copy of pg
export type AnyPool = any

type Pg = Pick<typeof import('pg'), 'Client' | 'Pool'>
type Taken = (error: Error | undefined, client?: PoolClient, release?: (error?: Error | boolean) => void) => void

/** A pool as operators see it. */
export interface PoolState {
  readonly name: string
  readonly max: number
  readonly busy: number
  readonly idle: number
  readonly waiting: number
  /** Queries refused because too many waited, or none got a connection in time. */
  readonly refused: number
}

/** The servers of one URL: a connection is tried to the one that last took writes, then to the next. */
class Hosts {
  readonly urls: readonly string[]
  /** Whether a server that only reads is not the one that is sought; libpq's `target_session_attrs`. */
  readonly writable: boolean
  #at = 0

  constructor(url: string) {
    this.urls = hostUrls(url)
    const { searchParams } = new URL(this.urls[0] as string)
    const wanted = searchParams.get('target_session_attrs') ?? (this.urls.length > 1 ? 'read-write' : 'any')
    this.writable = wanted === 'read-write' || wanted === 'primary'
  }

  get at(): number {
    return this.#at
  }

  /** Many connections fail at once; the first one decides. */
  failed(at: number): void {
    if (at === this.#at) this.#at = (at + 1) % this.urls.length
  }
}

const readOnly = (): FleetError =>
  new FleetError('FLEET_ERR_DATABASE_UNAVAILABLE', 'no server of the list takes writes now', { retryAfter: 1 })

/** A client of the server that is tried now; one that takes no writes is as good as one that is down. */
function clientOf(driver: Pg, hosts: Hosts): typeof Client {
  return class extends driver.Client {
    readonly #at = hosts.at

    constructor(config?: object) {
      super({ ...config, connectionString: hosts.urls[hosts.at] })
    }

    override connect(callback?: unknown): Promise<Client> & Promise<void> {
      const done = callback as (error?: Error) => void
      const tell = (error?: Error): void => {
        if (error) hosts.failed(this.#at)
        done(error)
      }
      const check = (): void => {
        // Simple protocol, and nothing that a pooler would mind.
        this.query('SELECT pg_is_in_recovery() AS standby').then(
          ({ rows }) => {
            if (rows[0]?.standby !== true) return done()
            hosts.failed(this.#at)
            void this.end().catch(() => {})
            done(readOnly())
          },
          (error) => tell(error),
        )
      }
      super.connect(((error?: Error) => (error || !hosts.writable ? tell(error) : check())) as never)
      return undefined as never
    }
  } as unknown as typeof Client
}

/** Bounded pools of one application, by name; each is a `pg.Pool` for Prisma's adapter, and shown in `/metrics`. */
export class Pools {
  readonly #driver: Pg
  readonly #options: Resolved
  readonly #open = new Map<string, { pool: Pool; refused: number }>()
  /** Told how long each query waited for a connection, in ms. */
  onWait: ((name: string, ms: number) => void) | undefined

  constructor(driver: Driver, options: Resolved) {
    this.#driver = driver as Pg
    this.#options = options
  }

  /**
   * @param url of several hosts, the one that takes writes is sought anew whenever the connection is lost
   * @param name in `/metrics`: `primary`, `replica_1`, …
   */
  open(url: string, name: string = 'primary'): AnyPool {
    const hosts = new Hosts(url)
    const { max, maxWaiting, connectTimeoutMs, statementTimeoutMs, idleTimeoutMs } = this.#options
    const pooled = this.#options.pgbouncer ?? new URL(hosts.urls[0] as string).searchParams.get('pgbouncer') === 'true'
    const config: PoolConfig = {
      max,
      connectionTimeoutMillis: connectTimeoutMs,
      idleTimeoutMillis: idleTimeoutMs,
      query_timeout: statementTimeoutMs + (pooled ? 0 : patienceMs),
      keepAlive: true,
      // A pooler refuses settings in the first packet that it does not track.
      ...(!pooled && { statement_timeout: statementTimeoutMs }),
      Client: clientOf(this.#driver, hosts),
    } as PoolConfig
    const pool = new this.#driver.Pool(config)
    // An idle connection that breaks is replaced; without a listener it would end the process.
    pool.on('error', () => {})
    const entry = { pool, refused: 0 }
    this.#open.set(name, entry)
    const connect = pool.connect.bind(pool) as (taken: Taken) => void
    const busy = (detail: string, cause?: Error): FleetError => {
      entry.refused++
      return new FleetError('FLEET_ERR_DATABASE_BUSY', `${name}: ${detail}`, { cause, retryAfter: 1 })
    }

    const take = (taken: Taken): void => {
      // Those who wait for a connection that is free have it in a moment.
      const free = pool.idleCount + max - pool.totalCount
      if (pool.waitingCount >= maxWaiting + free) {
        taken(busy(`${maxWaiting} queries wait for a connection`))
        return
      }
      const since = performance.now()
      let tries = hosts.urls.length
      const attempt = (): void =>
        connect((error, client, release) => {
          if (!error) {
            this.onWait?.(name, performance.now() - since)
            taken(undefined, client, release)
          } else if (/^timeout exceeded when/.test(error.message)) {
            taken(busy(`no connection was free within ${connectTimeoutMs} ms`, error))
          } else if (--tries > 0 && !pool.ending) {
            attempt()
          } else {
            taken(error)
          }
        })
      attempt()
    }
    const promised = (): Promise<PoolClient> =>
      new Promise((resolve, reject) => take((error, client) => (client ? resolve(client) : reject(error))))
    pool.connect = ((taken?: Taken) => (taken ? take(taken) : promised())) as Pool['connect']
    return pool
  }

  get states(): readonly PoolState[] {
    return [...this.#open].map(([name, { pool, refused }]) => ({
      name,
      max: this.#options.max,
      busy: pool.totalCount - pool.idleCount,
      idle: pool.idleCount,
      waiting: pool.waitingCount,
      refused,
    }))
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ pool }) => (pool.ending ? undefined : pool.end())))
  }
}

/**
 * Pools for Prisma's adapter that have a bound in every direction: connections, waiting queries, time.
 *
 * ```ts
 * const pool = await pools({ max: 10 })
 * const connect = (url: string, name?: string) => new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
 * ```
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_PACKAGE_MISSING
 */
export async function pools(given: PoolsOptions = {}): Promise<Pools> {
  const options = resolveOptions<Resolved>('pools', shapes, defaults, given)
  return new Pools(options.driver ?? (await installed()), options)
}

async function installed(): Promise<Driver> {
  return import('pg').then(
    (pg) => pg.default,
    (cause) => {
      throw new FleetError('FLEET_ERR_PACKAGE_MISSING', '`pools` needs pg: npm install pg', { cause })
    },
  )
}
