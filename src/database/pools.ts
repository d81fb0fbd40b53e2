import type { Client, Pool, PoolClient, PoolConfig } from 'pg'
import { FleetError } from '../base/errors.ts'
import { poolSchema } from '../base/internals/prisma.ts'
import { any, bool, int, type OptionsOf, type Resolved, resolveOptions } from '../base/options.ts'
import { serverUrls } from './server-url.ts'

/** @internal */
export const poolsOptions = {
  /** Connections per server. Five to twenty are enough: a query occupies one for about a millisecond. */
  max: int(1, 100).default(10),
  /** Queries that may wait for a connection of one pool; further ones get 503 `FLEET_ERR_DATABASE_BUSY` at once. */
  maxWaiting: int(0, 100_000).default(100),
  /** Longest wait for a free or new connection, per server of a list; then the same 503. */
  connectTimeoutMs: int(10, 60_000, 'milliseconds').default(2000),
  /** How long a statement may run; then the server cancels it. One second later this process drops a server that hangs. */
  statementTimeoutMs: int(10, 3_600_000, 'milliseconds').default(10_000),
  /** Idle time after which a connection is closed; 0: never. */
  idleTimeoutMs: int(0, 3_600_000, 'milliseconds').default(30_000),
  /**
   * A pooler in transaction mode is in between: connection state never outlasts a transaction, and the statement timeout is
   * enforced by this process alone. @default `true` when the URL has `pgbouncer=true`
   */
  pgbouncer: bool,
  /** The `pg` module. With several copies installed, pass the one that Prisma's adapter loads. @default `import('pg')` */
  driver: any<Driver>(),
}
export type PoolsOptions = OptionsOf<typeof poolsOptions>

/** How much longer than the server this process waits for the end of a statement, ms; after that the server hangs. */
const graceMs = 1_000

/** The `pg` module. Its types are not used in the public API: an app without `pg` installed must compile. */
export interface Driver {
  readonly Client: unknown
  readonly Pool: unknown
}
/** A `pg.Pool`. */
// biome-ignore lint/suspicious/noExplicitAny: consumers of a pool use the type of their own copy of pg
export type AnyPool = any

type Pg = Pick<typeof import('pg'), 'Client' | 'Pool'>
type ConnectCallback = (
  error: Error | undefined,
  client?: PoolClient,
  release?: (error?: Error | boolean) => void,
) => void

/** State of a pool, for metrics. */
export interface PoolState {
  readonly name: string
  readonly max: number
  readonly busy: number
  readonly idle: number
  readonly waiting: number
  /** Queries rejected because too many waited or no connection was free in time. */
  readonly refused: number
}

/** The servers of one URL. Connections go to the last server that accepted writes; if that fails, to the next one. */
class Hosts {
  readonly urls: readonly string[]
  /** Whether only a server that accepts writes will do; libpq's `target_session_attrs`. */
  readonly writable: boolean
  /** Index of the server for new connections. */
  at = 0

  constructor(urls: readonly string[], writable: boolean) {
    this.urls = urls
    this.writable = writable
  }

  /** Moves on to the next server, once even if many connections fail at the same time. */
  failed(at: number): void {
    if (at === this.at) this.at = (at + 1) % this.urls.length
  }
}

const readOnly = (): FleetError =>
  new FleetError('FLEET_ERR_DATABASE_UNAVAILABLE', 'no server of the list accepts writes now', { retryAfter: 1 })

/** A `pg.Client` of the current server. A server that accepts no writes counts as down. */
function clientOf(driver: Pg, hosts: Hosts, connectTimeoutMs: number): typeof Client {
  return class extends driver.Client {
    readonly #at = hosts.at

    constructor(config?: object) {
      super({ ...config, connectionTimeoutMillis: connectTimeoutMs, connectionString: hosts.urls[hosts.at] })
    }

    override connect(callback?: unknown): Promise<Client> & Promise<void> {
      const done = callback as (error?: Error) => void
      const finish = (error?: Error): void => {
        if (error) hosts.failed(this.#at)
        done(error)
      }
      const check = (): void => {
        // The pool listens only after this check; without a listener, a lost connection would end the process.
        this.on('error', () => {})
        // Uses the simple protocol and no session state, as required by poolers.
        this.query('SELECT pg_is_in_recovery() AS standby').then(
          ({ rows }) => {
            if (rows[0]?.standby !== true) return done()
            hosts.failed(this.#at)
            void this.end().catch(() => {})
            done(readOnly())
          },
          (error) => finish(error),
        )
      }
      super.connect(((error?: Error) => (error || !hosts.writable ? finish(error) : check())) as never)
      return undefined as never
    }
  } as unknown as typeof Client
}

/** Bounded pools of one application, by name. Each is a `pg.Pool` for Prisma's adapter, and reported in `/metrics`. */
export class Pools {
  readonly #driver: Pg
  readonly #options: Resolved<typeof poolsOptions>
  readonly #open = new Map<string, { pool: Pool; max: number; refused: number }>()
  /** Called with the time that a query waited for a connection, in ms. */
  onWait: ((name: string, ms: number) => void) | undefined

  constructor(driver: Driver, options: Resolved<typeof poolsOptions>) {
    this.#driver = driver as Pg
    this.#options = options
  }

  /**
   * @param url with several hosts, the pool uses the one that accepts writes and searches again after a connection is lost
   * @param name label in `/metrics`: `primary`, `replica_1`, …
   * @throws FLEET_ERR_OPTION_INVALID naming the part of the URL that is not supported or invalid
   */
  open(url: string, name: string = 'primary'): AnyPool {
    const { maxWaiting, idleTimeoutMs, ...defaults } = this.#options
    const isPooled = (parameters: { pgbouncer?: boolean }): boolean =>
      defaults.pgbouncer ?? parameters.pgbouncer === true
    const { urls, settings } = serverUrls(url, `the URL of the pool \`${name}\``, (parameters) => !isPooled(parameters))
    const hosts = new Hosts(urls, settings.isWritable)
    const pooled = isPooled(settings)
    const { connectionLimit: max = defaults.max, statementTimeoutMs = defaults.statementTimeoutMs } = settings
    const { connectTimeoutMs: connectMs = defaults.connectTimeoutMs } = settings
    const connectTimeoutMs = settings.poolTimeoutMs ?? connectMs
    const config: PoolConfig = {
      max,
      connectionTimeoutMillis: connectTimeoutMs,
      idleTimeoutMillis: idleTimeoutMs,
      query_timeout: statementTimeoutMs + (pooled ? 0 : graceMs),
      keepAlive: true,
      // Idle connections keep no process alive whose clients are disconnected.
      allowExitOnIdle: true,
      // A pooler rejects startup parameters that it does not track.
      ...(!pooled && { statement_timeout: statementTimeoutMs }),
      Client: clientOf(this.#driver, hosts, connectMs),
    } as PoolConfig
    const pool = new this.#driver.Pool(config)
    // The pool replaces a broken idle connection; without a listener the event would end the process.
    pool.on('error', () => {})
    Object.assign(pool, { [poolSchema]: settings.schema })
    const entry = { pool, max, refused: 0 }
    this.#open.set(name, entry)
    const connect = pool.connect.bind(pool) as (callback: ConnectCallback) => void
    const busy = (detail: string, cause?: Error): FleetError => {
      entry.refused++
      return new FleetError('FLEET_ERR_DATABASE_BUSY', `${name}: ${detail}`, { cause, retryAfter: 1 })
    }

    const take = (callback: ConnectCallback): void => {
      // Waiting queries for which a connection is free do not count.
      const free = pool.idleCount + max - pool.totalCount
      if (pool.waitingCount >= maxWaiting + free) {
        callback(busy(`${maxWaiting} queries are waiting for a connection`))
        return
      }
      const since = performance.now()
      let tries = hosts.urls.length
      const attempt = (): void =>
        connect((error, client, release) => {
          if (!error) {
            this.onWait?.(name, performance.now() - since)
            callback(undefined, client, release)
          } else if (/^timeout exceeded when/.test(error.message)) {
            callback(busy(`no connection was free within ${connectTimeoutMs} ms`, error))
          } else if (--tries > 0 && !pool.ending) {
            attempt()
          } else {
            callback(error)
          }
        })
      attempt()
    }
    const promised = (): Promise<PoolClient> =>
      new Promise((resolve, reject) => take((error, client) => (client ? resolve(client) : reject(error))))
    pool.connect = ((callback?: ConnectCallback) => (callback ? take(callback) : promised())) as Pool['connect']
    return pool
  }

  get states(): readonly PoolState[] {
    return [...this.#open].map(([name, { pool, max, refused }]) => ({
      name,
      max,
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
 * Pools for Prisma's adapter with limits on connections, waiting queries and time.
 *
 * ```ts
 * const pool = await pools({ max: 10 })
 * const connect = (url: string, name?: string) => new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
 * ```
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_PACKAGE_MISSING
 */
export async function pools(given: PoolsOptions = {}): Promise<Pools> {
  const options = resolveOptions('pools', poolsOptions, given)
  return new Pools(options.driver ?? (await installedPg('pools')), options)
}

/** @throws FLEET_ERR_PACKAGE_MISSING naming the `user` */
export const installedPg = (user: string): Promise<Driver> =>
  import('pg').then(
    (pg) => pg.default,
    (cause) => {
      throw new FleetError('FLEET_ERR_PACKAGE_MISSING', `\`${user}\` needs pg: npm install pg`, { cause })
    },
  )
