import { randomBytes } from 'node:crypto'
import type { FastifyFleet, FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { type FleetEnv, readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { bool, int, resolveOptions } from '../../base/options.ts'
import identity from '../../instance/identity.ts'
import { addressShapes, close, connect, type RedisAddress, type RedisClient, ready, watch } from './client.ts'
import { checkRedis } from './health.ts'

export type { RedisClient } from './client.ts'

export interface RedisOptions extends RedisAddress {
  /** How long a boot waits for Redis before it goes on without, 0 to 60 000 ms. @default 2000 */
  connectTimeoutMs?: number
  /** Whether losing Redis takes the instance out of rotation (`true`) or only degrades it. @default false */
  critical?: boolean
  /** Lets production run on memory: one instance, all state lost with it. @default FLEET_ALLOW_MEMORY, else false */
  allowMemory?: boolean
}

type Resolved = RedisOptions & Required<Pick<RedisOptions, keyof typeof defaults>>

const defaults = {
  commandTimeoutMs: 500,
  connectTimeoutMs: 2000,
  critical: false,
  allowMemory: false,
} as const satisfies RedisOptions

const shapes = {
  ...addressShapes,
  connectTimeoutMs: int(0, 60_000, 'milliseconds'),
  critical: bool,
  allowMemory: bool,
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The fleet's Redis, or `null` when state lives in memory. */
    redis: RedisClient | null
    /** The key of one thing in this fleet: keys of one `id` share a Cluster slot, whatever their `kind`. */
    redisKey(kind: string, id: string): string
  }
}

/** How a fleet of this name names its keys. */
export const keysOf =
  (name: string): ((kind: string, id: string) => string) =>
  (kind, id) =>
    `${name}:${kind}:{${id}}`

/** A write that Redis rejects because `maxmemory` is reached; within a script, the reply names the script first. */
const outOfMemory = /(?:^|-)OOM /

/** What a request gets when the shared state fails it: 503 with `Retry-After`. The cause is for the log. */
export function unavailable(cause: unknown): FleetError {
  if (cause instanceof FleetError) return cause
  const isFull = cause instanceof Error && outOfMemory.test(cause.message)
  const code = isFull ? 'FLEET_ERR_STATE_FULL' : 'FLEET_ERR_STATE_UNAVAILABLE'
  return new FleetError(code, undefined, { cause, retryAfter: 1 })
}

/** Whether an error says that the shared state could not be read or written, for whatever reason. */
export function isOutage(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return code === 'FLEET_ERR_STATE_UNAVAILABLE' || code === 'FLEET_ERR_STATE_FULL'
}

/**
 * Passes on what a command answers.
 *
 * @throws FLEET_ERR_STATE_FULL, FLEET_ERR_STATE_UNAVAILABLE for anything else that ioredis throws
 */
export async function guarded<T>(command: Promise<T>): Promise<T> {
  try {
    return await command
  } catch (error) {
    throw unavailable(error)
  }
}

/**
 * Lua for scripts: `text(key)` is the string at a key. One of another type was written by somebody else: it counts as missing
 * and is removed, or it would make every call of the script fail.
 */
export const textLua: string = `
  local function text(key)
    local value = redis.pcall('GET', key)
    if type(value) ~= 'table' then return value end
    redis.call('DEL', key)
    return false
  end`

/**
 * A Lua script as a function: sent whole once per connection, by its hash from then on.
 *
 * @param numberOfKeys how many of the arguments are keys; they come first and must share one `id` of `redisKey()`
 */
export function script<T>(
  client: RedisClient,
  name: string,
  numberOfKeys: number,
  lua: string,
): (...args: (string | number)[]) => Promise<T> {
  client.defineCommand(name, { numberOfKeys, lua })
  const call = (client as unknown as Record<string, (...args: (string | number)[]) => Promise<T>>)[name]
  return (...args) => guarded((call as NonNullable<typeof call>).apply(client, args))
}

/** Per app, by name: whoever else wants a secret of that name gets the same list. */
const madeUp = new WeakMap<FastifyFleet, Map<string, string[]>>()

/**
 * The secrets of a room, the signing one first. Outside production none need be given: memory makes one up, and with
 * Redis the first instance makes one up for all.
 *
 * @param name the environment variable that holds it, e.g. `SESSION_SECRET`
 * @param given from code or, failing that, from the environment
 * @returns a list that is live: when Redis was down at boot, the fleet's secret replaces its entry later
 * @throws FLEET_ERR_SECRET_WEAK below 32 bytes, FLEET_ERR_SECRET_MISSING in production
 */
export async function sharedSecret(
  app: FastifyInstance,
  name: string,
  given: string | readonly string[] | undefined,
): Promise<string[]> {
  const secrets = typeof given === 'string' ? [given] : [...(given ?? [])]
  const weak = secrets.find((secret) => Buffer.byteLength(secret) < 32)
  if (weak !== undefined)
    throw new FleetError(
      'FLEET_ERR_SECRET_WEAK',
      `${name} has ${Buffer.byteLength(weak)} bytes, but needs 32; make one with: openssl rand -hex 32`,
    )
  if (secrets.length > 0) return secrets
  if (readEnv().production)
    throw new FleetError('FLEET_ERR_SECRET_MISSING', `set ${name}, the same on every instance: openssl rand -hex 32`)

  const shared = madeUp.get(app.fleet) ?? new Map<string, string[]>()
  madeUp.set(app.fleet, shared)
  const before = shared.get(name)
  if (before) return before
  shared.set(name, secrets)
  secrets.push(randomBytes(32).toString('hex'))
  const { redis } = app
  if (!redis) {
    app.log.warn(`${name} is not set: this process made one up, and what it signs ends with it`)
    return secrets
  }
  app.log.warn(`${name} is not set: the fleet shares one that is kept in Redis; in production it must be set`)
  const key = app.redisKey('secret', name)
  const share = async (): Promise<void> => {
    await redis.set(key, secrets[0] as string, 'NX')
    const found = await redis.get(key)
    if (found && Buffer.byteLength(found) >= 32) secrets.splice(0, secrets.length, found)
  }
  // While Redis is away nothing is stored under the made-up secret either, so replacing it later loses nothing. A Redis that
  // comes back empty gets it again.
  const again = (): void => void share().catch(() => {})
  redis.on('ready', again)
  app.addHook('onClose', async () => void redis.off('ready', again))
  await share().catch(() => {})
  return secrets
}

const environment = (env: FleetEnv): RedisOptions => ({
  cluster: env.REDIS_CLUSTER && [...env.REDIS_CLUSTER],
  sentinels: env.REDIS_SENTINELS,
  url: env.REDIS_URL,
  host: env.REDIS_HOST,
  port: env.REDIS_PORT,
})

const plugin: FastifyPluginAsync<RedisOptions> = async (app, given) => {
  if (!app.hasDecorator('fleet')) await app.register(identity)
  const env = readEnv()
  const places = (['client', 'cluster', 'sentinels', 'url', 'host'] as const).filter((key) => given[key] !== undefined)
  if (places.length > 1)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`redis\` takes only one of \`${places.join('`, `')}\``)
  const options = resolveOptions<Resolved>(
    'redis',
    shapes,
    defaults,
    places.length > 0 || given.port !== undefined ? {} : environment(env),
    {
      password: env.REDIS_PASSWORD,
      tls: env.REDIS_TLS,
      commandTimeoutMs: env.REDIS_COMMAND_TIMEOUT,
      allowMemory: env.FLEET_ALLOW_MEMORY,
    },
    given,
  )

  const opened = connect(options)
  if (!opened) {
    if (env.production && !options.allowMemory)
      throw new FleetError(
        'FLEET_ERR_MEMORY_IN_PRODUCTION',
        'set REDIS_URL, or FLEET_ALLOW_MEMORY=1 when one instance is all there is and its state may be lost with it',
      )
    app.log.warn('redis: not configured; state lives in the memory of this process and is lost with it')
  }
  const client = opened?.client ?? null
  app.decorate<RedisClient | null>('redis', client)
  app.decorate('redisKey', keysOf(app.fleet.name))
  app.fleet.describe('redis', opened?.kind ?? 'memory')
  app.fleet.configure('redis', options)
  if (!client) return

  const own = client !== options.client
  if (own) {
    watch(client, app.log)
    app.addHook('onClose', () => close(client, options.commandTimeoutMs))
  }
  if (!(await ready(client, options.connectTimeoutMs)))
    app.log.warn('redis: no answer yet; going on without it until it comes')
  const check = { critical: options.critical, timeoutMs: options.commandTimeoutMs + 100 }
  if (app.hasDecorator('health')) app.health.add('redis', () => checkRedis(client), check)
}

/**
 * Decorates `app.redis` and `app.redisKey()`. Never a hang: while Redis is away, commands fail at once or within
 * `commandTimeoutMs`, and the connection comes back by itself.
 *
 * @throws FLEET_ERR_MEMORY_IN_PRODUCTION, FLEET_ERR_OPTION_INVALID
 */
export const redis: FastifyPluginAsync<RedisOptions> = fp(plugin, { name: 'fleet-redis', fastify: '5.x' })
export default redis
