import { createRequire } from 'node:module'
import type { ConnectionOptions } from 'node:tls'
import type { FastifyBaseLogger } from 'fastify'
import type { RedisOptions as ClientOptions, Cluster, Redis } from 'ioredis'
import { FleetError } from '../../base/errors.ts'
import { any, bool, either, int, list, record, type Shape, type Shapes, text } from '../../base/options.ts'
import { percentDecoded } from '../../base/percent.ts'
import { sendTo, sendToCluster } from './deadlines.ts'

export type RedisClient = Redis | Cluster

const load = createRequire(import.meta.url)
/** ioredis, loaded when there is a Redis: in memory its 22 MiB would be for nothing. */
const ioredis = (): typeof import('ioredis') => load('ioredis') as typeof import('ioredis')

/**
 * Where the shared state lives. Of `client`, `cluster`, `sentinels`, `url` and `host`, code gives at most one; when it
 * gives none, the environment is asked in that order. When that is silent too, state lives in memory.
 */
export interface RedisAddress {
  /** A client of your own, left open on close and configured as you like; `null`: memory, whatever the environment says. */
  client?: RedisClient | null
  /** Cluster: some of its nodes, each `host:port`. @default REDIS_CLUSTER */
  cluster?: string[]
  /** Sentinel: `primary@host:port,host:port`; the primary's name is `mymaster` when left out. @default REDIS_SENTINELS */
  sentinels?: string
  /** `redis://user:password@host:port/db`, or `rediss://` for TLS. @default REDIS_URL */
  url?: string
  /** @default REDIS_HOST, else 127.0.0.1 when there is a port */
  host?: string
  /** @default REDIS_PORT, else 6379 */
  port?: number
  username?: string
  /** @default REDIS_PASSWORD */
  password?: string
  /** `true`, or options of `tls.connect()`. @default REDIS_TLS */
  tls?: boolean | ConnectionOptions
  /** The most a command may cost a request, 1 to 60 000 ms. @default 500 */
  commandTimeoutMs?: number
}

/** By what it can do: a client of another copy of ioredis is as good as one of ours. */
const isClient = (v: unknown): v is RedisClient =>
  typeof v === 'object' && v !== null && 'hgetall' in v && 'status' in v && 'duplicate' in v

export const addressShapes: Shapes = {
  client: { expects: 'a client of ioredis, or null', accepts: (v) => v === null || isClient(v) } as Shape,
  cluster: list(text),
  sentinels: text,
  url: text,
  host: text,
  port: int(1, 65_535, 'a TCP port'),
  username: text,
  password: text,
  tls: either(bool, record(any)),
  commandTimeoutMs: int(1, 60_000, 'milliseconds'),
}

type Resolved = RedisAddress & { commandTimeoutMs: number }

/**
 * Options for every connection this project opens. With what `sendTo()` sees to: an answer, or an error, within
 * `commandTimeoutMs`. A server that is stopped, not gone, costs a request that once, though it has several commands: the
 * first that waits so long ends the connection, and the others fail at once until there is a new one.
 */
function bounded(options: Resolved): ClientOptions {
  return {
    username: options.username,
    password: options.password,
    ...(options.tls && { tls: options.tls === true ? {} : options.tls }),
    connectTimeout: Math.max(options.commandTimeoutMs, 1000),
    enableOfflineQueue: false,
    // A command is sent once: a script that rotates a token must not run a second time because the answer was lost.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 7), 2000) * (0.5 + Math.random() / 2),
    reconnectOnError: leavesReplica(),
  }
}

/** How long a server that refuses writes is left alone before it is looked up anew, ms. */
const replicaMs = 2000

/**
 * After a failover the name may stand for another server. Looking it up costs what is under way on the connection, so a
 * server that stays read-only is asked for its reads in between.
 */
function leavesReplica(): (error: Error) => boolean {
  let next = 0
  return (error) => {
    const now = performance.now()
    if (!error.message.startsWith('READONLY') || now < next) return false
    next = now + replicaMs
    return true
  }
}

interface HostPort {
  host: string
  port: number
}

/** @throws FLEET_ERR_OPTION_INVALID */
export function hostPort(given: string, option: string, port: number): HostPort {
  const parsed = URL.parse(`redis://${given}`)
  if (!parsed?.hostname || parsed.username || (parsed.pathname !== '' && parsed.pathname !== '/'))
    throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`${option}\` has an entry that is not \`host:port\``)
  return { host: parsed.hostname.replace(/^\[|\]$/g, ''), port: Number(parsed.port || port) }
}

/** @returns a client that begins to connect, with what `describe()` says of it; `null` for memory */
export function connect(options: Resolved): { client: RedisClient; kind: string } | null {
  const common = bounded(options)
  if (options.client) return { client: options.client, kind: options.client.isCluster ? 'cluster' : 'single' }
  if (options.cluster) {
    const nodes = options.cluster.map((node) => hostPort(node, 'redis.cluster', 6379))
    const retryDelayMs = 100
    const client = new (ioredis().Cluster)(nodes, {
      redisOptions: common,
      enableOfflineQueue: false,
      slotsRefreshTimeout: 1000,
      clusterRetryStrategy: common.retryStrategy as (times: number) => number,
      retryDelayOnFailover: retryDelayMs,
      retryDelayOnClusterDown: retryDelayMs,
      retryDelayOnTryAgain: retryDelayMs,
      maxRedirections: 1 + Math.ceil(options.commandTimeoutMs / retryDelayMs),
    })
    sendToCluster(client, options.commandTimeoutMs)
    return { client, kind: 'cluster' }
  }
  if (options.sentinels) {
    const [nodes, name] = options.sentinels.split('@').reverse() as [string, string | undefined]
    const sentinels = nodes.split(',').map((node) => hostPort(node.trim(), 'redis.sentinels', 26_379))
    const client = new (ioredis().Redis)({
      ...common,
      name: name ?? 'mymaster',
      sentinels,
      sentinelCommandTimeout: common.connectTimeout,
      sentinelRetryStrategy: common.retryStrategy as (times: number) => number,
    })
    sendTo(client, options.commandTimeoutMs)
    return { client, kind: 'sentinel' }
  }
  const where = single(options)
  if (!where) return null
  const client = new (ioredis().Redis)({ ...common, ...where })
  sendTo(client, options.commandTimeoutMs)
  return { client, kind: 'single' }
}

function single({ url, host, port }: Resolved): ClientOptions | undefined {
  if (url !== undefined) return urlOptions(url)
  return host === undefined && port === undefined ? undefined : { host: host ?? '127.0.0.1', port: port ?? 6379 }
}

/** @throws FLEET_ERR_OPTION_INVALID */
export function urlOptions(given: string): ClientOptions {
  const url = URL.parse(given)
  const [, db] = /^\/?(\d{0,5})\/?$/.exec(url?.pathname ?? '') ?? []
  const username = percentDecoded(url?.username ?? '')
  const password = percentDecoded(url?.password ?? '')
  const isRedis = url?.protocol === 'redis:' || url?.protocol === 'rediss:'
  if (!url || !isRedis || db === undefined || username === undefined || password === undefined)
    throw new FleetError(
      'FLEET_ERR_OPTION_INVALID',
      '`redis.url` must look like redis://user:password@host:port/db, or start with rediss:// for TLS; write special characters as %XX',
    )
  return {
    host: url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1',
    port: Number(url.port || 6379),
    db: Number(db),
    ...(username && { username }),
    ...(password && { password }),
    ...(url.protocol === 'rediss:' && { tls: {} }),
  }
}

/** One line when Redis goes, one when it is back; the client itself reports every attempt. */
export function watch(client: RedisClient, log: FastifyBaseLogger): void {
  let down = false
  client.on('error', (error: Error & { code?: string }) => {
    if (down) return
    down = true
    // Not the error itself: that of a failed AUTH carries the password.
    log.error({ reason: error.message || error.code }, 'redis: unreachable; trying again until it answers')
  })
  client.on('ready', () => {
    if (down) log.info('redis: connected')
    down = false
  })
}

/** Resolves when the client is ready, or when `timeoutMs` are over; never rejects. */
export function ready(client: RedisClient, timeoutMs: number): Promise<boolean> {
  if (client.status === 'ready') return Promise.resolve(true)
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      client.off('ready', done)
      resolve(client.status === 'ready')
    }
    const timer = setTimeout(done, timeoutMs)
    client.on('ready', done)
  })
}

/** Says goodbye, so that what was sent is answered; cuts the connection when that takes longer than `timeoutMs`. */
export async function close(client: RedisClient, timeoutMs: number): Promise<void> {
  if (client.status === 'end') return
  if (client.status === 'ready') {
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, timeoutMs)
    await Promise.race([client.quit().catch(() => {}), late])
    clearTimeout(timer)
  }
  client.disconnect()
}
