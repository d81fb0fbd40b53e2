import { createRequire } from 'node:module'
import type { ConnectionOptions } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'
import type { RedisOptions as ClientOptions, Cluster, Redis } from 'ioredis'
import type { FleetEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { canIntercept } from '../../base/internals/ioredis.ts'
import { any, bool, either, int, list, type OptionsOf, record, type Shape, shape, text } from '../../base/options.ts'
import { clusterNodes, sentinels as parseSentinels, type Reject, redisUrl } from '../../base/redis-url.ts'
import { within } from '../../base/within.ts'
import { limitCluster, limitNode } from './deadlines.ts'
import { followFailovers } from './failover.ts'

export type RedisClient = Redis | Cluster

const load = createRequire(import.meta.url)
/** ioredis, loaded only when Redis is configured, because it takes 22 MiB of memory. */
const ioredis = (): typeof import('ioredis') => load('ioredis') as typeof import('ioredis')

/** By its members, because the client may come from another copy of ioredis. */
const isClient = (v: unknown): v is RedisClient =>
  typeof v === 'object' && v !== null && 'hgetall' in v && 'status' in v && 'duplicate' in v

/** @internal */
export const addressOptions = {
  /** Your own client, which is not closed with the app; `null`: memory, even if the environment names a Redis. */
  client: shape<RedisClient | null>('a client of ioredis, or null', (v) => v === null || isClient(v)),
  /** Some nodes of a Cluster, each `host:port`. @default `REDIS_CLUSTER` */
  cluster: list(text),
  /** Sentinels, as `primary@host:port,host:port`. The name of the primary defaults to `mymaster`. @default `REDIS_SENTINELS` */
  sentinels: text,
  /** `redis://user:password@host:port/db`, or `rediss://` for TLS. @default `REDIS_URL` */
  url: text,
  /** Host of a single server. @default `REDIS_HOST`, else 127.0.0.1 when there is a port */
  host: text,
  /** Port of a single server. @default `REDIS_PORT`, else 6379 */
  port: int(1, 65_535, 'a TCP port'),
  /** User of an access control list. */
  username: text,
  /** Password of the user. */
  password: text.env('REDIS_PASSWORD'),
  /** `true`, or options of `tls.connect()`. */
  tls: either(bool, record(any()) as Shape<ConnectionOptions>).env('REDIS_TLS'),
  /** Longest time of a command. */
  commandTimeoutMs: int(1, 60_000, 'milliseconds').default(500).env('REDIS_COMMAND_TIMEOUT'),
}
/**
 * The Redis that holds the shared state. At most one of `client`, `cluster`, `sentinels`, `url` and `host` may be set;
 * without any, the environment variables apply in that order. Without those, state is kept in memory.
 */
export type RedisAddress = OptionsOf<typeof addressOptions>
type ResolvedAddress = RedisAddress & { commandTimeoutMs: number }

/** The Redis that the environment names. */
export const addressFrom = (env: FleetEnv): RedisAddress => ({
  cluster: env.REDIS_CLUSTER && [...env.REDIS_CLUSTER],
  sentinels: env.REDIS_SENTINELS,
  url: env.REDIS_URL,
  host: env.REDIS_HOST,
  port: env.REDIS_PORT,
})

/**
 * Options of every connection. Together with `deadlines.ts` each command gets a reply or an error within
 * `commandTimeoutMs`. If the server is suspended, the first command that times out ends the connection. Later commands fail
 * at once until there is a new one, so that a request with several commands waits only once.
 */
function connectionOptions(options: ResolvedAddress, hasDeadlines: boolean): ClientOptions {
  return {
    ...(!hasDeadlines && { commandTimeout: options.commandTimeoutMs, socketTimeout: options.commandTimeoutMs }),
    username: options.username,
    password: options.password,
    ...(options.tls && { tls: options.tls === true ? {} : options.tls }),
    connectTimeout: Math.max(options.commandTimeoutMs, 1000),
    enableOfflineQueue: false,
    // A command is sent once: a script that rotates a token must not run twice because its reply was lost.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 7), 2000) * (0.5 + Math.random() / 2),
    reconnectOnError: reconnectFromReplica(),
  }
}

/** Shortest time between two reconnects because a server rejects writes, ms. */
const replicaMs = 2000

/**
 * Reconnects when the server is read-only, because after a failover the name may stand for another server. A reconnect fails
 * the commands in flight, so it happens at most every two seconds, and a server that stays read-only serves reads meanwhile.
 */
function reconnectFromReplica(): (error: Error) => boolean {
  let next = 0
  return (error) => {
    const now = performance.now()
    if (!error.message.startsWith('READONLY') || now < next) return false
    next = now + replicaMs
    return true
  }
}

const rejectOption =
  (option: string): Reject =>
  (problem) => {
    throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`${option}\` ${problem}`)
  }

/**
 * @param hasDeadlines `false`: use only the timeouts of ioredis, the fallback if it cannot be intercepted
 * @returns a client that has started to connect, and its kind for `app.fleet.facts`; `null` for memory
 */
export function connect(
  options: ResolvedAddress,
  hasDeadlines: () => boolean = () => canIntercept(ioredis()),
): { client: RedisClient; kind: string } | null {
  if (options.client) return { client: options.client, kind: options.client.isCluster ? 'cluster' : 'single' }
  const { cluster, sentinels, commandTimeoutMs } = options
  const address = cluster || sentinels ? undefined : singleAddress(options)
  if (!cluster && !sentinels && !address) return null
  const isLimited = hasDeadlines()
  const common = connectionOptions(options, isLimited)
  if (cluster) {
    const nodes = clusterNodes(cluster, rejectOption('redis.cluster'))
    const retryDelayMs = 100
    const client = new (ioredis().Cluster)(nodes, {
      redisOptions: common,
      enableOfflineQueue: false,
      slotsRefreshTimeout: 1000,
      clusterRetryStrategy: common.retryStrategy as (times: number) => number,
      retryDelayOnFailover: retryDelayMs,
      retryDelayOnClusterDown: retryDelayMs,
      retryDelayOnTryAgain: retryDelayMs,
      maxRedirections: 1 + Math.ceil(commandTimeoutMs / retryDelayMs),
    })
    if (isLimited) limitCluster(client, commandTimeoutMs)
    return { client, kind: 'cluster' }
  }
  if (sentinels) {
    const { name, nodes } = parseSentinels(sentinels, rejectOption('redis.sentinels'))
    const client = new (ioredis().Redis)({
      ...common,
      name,
      sentinels: [...nodes],
      sentinelCommandTimeout: common.connectTimeout,
      sentinelRetryStrategy: common.retryStrategy as (times: number) => number,
    })
    if (isLimited) limitNode(client, commandTimeoutMs)
    const { connectTimeout, retryStrategy } = common
    const watchers = nodes.map((node) => new (ioredis().Redis)({ ...node, connectTimeout, retryStrategy }))
    unfollow.set(client, followFailovers(client, name, watchers))
    return { client, kind: 'sentinel' }
  }
  const client = new (ioredis().Redis)({ ...common, ...address })
  if (isLimited) limitNode(client, commandTimeoutMs)
  return { client, kind: 'single' }
}

function singleAddress({ url, host, port, password, tls }: ResolvedAddress): ClientOptions | undefined {
  if (url === undefined)
    return host === undefined && port === undefined ? undefined : { host: host ?? '127.0.0.1', port: port ?? 6379 }
  const options = urlOptions(url)
  if (options.username !== undefined && (options.password ?? password) === undefined)
    return rejectOption('redis.url')('has a user name, but no password; add it, or set REDIS_PASSWORD')
  // Options of `tls` say more than the scheme.
  return options.tls && tls ? { ...options, tls: tls === true ? {} : tls } : options
}

/** @throws FLEET_ERR_OPTION_INVALID */
export function urlOptions(given: string): ClientOptions {
  const { isTls, ...address } = redisUrl(given, rejectOption('redis.url'))
  return { ...address, ...(isTls && { tls: {} }) }
}

/** Logs one line when Redis becomes unreachable and one when it is back. The client itself reports every attempt. */
export function watch(client: RedisClient, log: FastifyBaseLogger): void {
  let down = false
  client.on('error', (error: Error & { code?: string }) => {
    if (down) return
    down = true
    // Not the error itself: that of a failed AUTH contains the password.
    log.error({ reason: error.message || error.code }, 'redis: unreachable; reconnecting')
  })
  client.on('ready', () => {
    if (down) log.info('redis: connected')
    down = false
  })
}

/** Resolves to whether the client is ready, at the latest after `timeoutMs`. Never rejects. */
export async function ready(client: RedisClient, timeoutMs: number): Promise<boolean> {
  if (client.status !== 'ready') await within(timeoutMs, new Promise((resolve) => client.once('ready', resolve)))
  return client.status === 'ready'
}

/** Closes the connections to sentinels of a client. */
const unfollow = new WeakMap<RedisClient, () => void>()

/** Sends QUIT, so that commands in flight get their replies. Cuts the connection after `timeoutMs`. */
export async function close(client: RedisClient, timeoutMs: number): Promise<void> {
  unfollow.get(client)?.()
  if (client.status === 'end') return
  if (client.status === 'ready') await within(timeoutMs, client.quit())
  client.disconnect()
}
