/**
 * The connection to the shared Redis (`client.ts`), with a time limit for every command (`deadlines.ts`), a health check
 * (`health.ts`) and announcements of changed keys (`tracking.ts`).
 *
 * Other plugins use `redisOf(app)`, which is `null` if state is kept in memory, `app.redisKey()` for keys, and from this
 * file `guarded()` for single commands, `script()` for Lua scripts and `unavailable()` for errors.
 */

import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import type { FastifyFleet, FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { bool, int, type OptionsOf, resolveOptions } from '../../base/options.ts'
import { refuseGroup } from '../../base/refuse-group.ts'
import { fleetPlugin, hasOwnDecorator } from '../../instance/compat/index.ts'
import identity from '../../instance/identity.ts'
import { addressFrom, addressOptions, close, connect, type RedisClient, ready, watch } from './client.ts'
import { checkRedis, watchFailures } from './health.ts'

export type { RedisClient } from './client.ts'

/** @internal */
export const redisOptions = {
  ...addressOptions,
  /** How long a boot waits for Redis before it continues without. */
  connectTimeoutMs: int(0, 60_000, 'milliseconds').default(2000),
  /** Whether an outage of Redis makes the instance unready (`true`) or only degraded. */
  critical: bool.default(false),
  /** Allow memory in production and in several processes, which lose state with a process or between them. */
  allowMemory: bool.default(false).env('FLEET_ALLOW_MEMORY'),
}
export type RedisOptions = OptionsOf<typeof redisOptions>

declare module 'fastify' {
  interface FastifyInstance {
    /** The fleet's Redis, or `null` if state is kept in memory. */
    redis: RedisClient | null
    /** A key of this fleet. Keys with the same `id` share a Cluster slot, whatever their `kind`. */
    redisKey(kind: string, id: string): string
  }
}

/** The function `app.redisKey` of a fleet with this name. */
export const keysOf =
  (name: string): ((kind: string, id: string) => string) =>
  (kind, id) =>
    `${name}:${kind}:{${id}}`

/** A write that Redis rejects above `maxmemory`. In a script, the reply starts with the name of the script. */
const outOfMemory = /(?:^|-)OOM /

/** The error of a request that needs the shared state while it is unavailable: 503 with `Retry-After`. The cause is logged. */
export function unavailable(cause: unknown): FleetError {
  if (cause instanceof FleetError) return cause
  const isFull = cause instanceof Error && outOfMemory.test(cause.message)
  const code = isFull ? 'FLEET_ERR_STATE_FULL' : 'FLEET_ERR_STATE_UNAVAILABLE'
  return new FleetError(code, undefined, { cause, retryAfter: 1 })
}

/** Whether an error means that the shared state could not be read or written. */
export function isOutage(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return code === 'FLEET_ERR_STATE_UNAVAILABLE' || code === 'FLEET_ERR_STATE_FULL'
}

/**
 * The reply of a command.
 *
 * @throws FLEET_ERR_STATE_FULL, or FLEET_ERR_STATE_UNAVAILABLE for every other error of ioredis
 */
export async function guarded<T>(command: Promise<T>): Promise<T> {
  try {
    return await command
  } catch (error) {
    throw unavailable(error)
  }
}

/**
 * Lua for scripts: `text(key)` returns the string at a key. A value of another type was written by another program. It counts
 * as missing and is deleted, because it would make every call of the script fail.
 */
export const textLua: string = `
  local function text(key)
    local value = redis.pcall('GET', key)
    if type(value) ~= 'table' then return value end
    redis.call('DEL', key)
    return false
  end`

/**
 * A Lua script as a function. Its text is sent once per connection, and its hash from then on.
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

/** Generated secrets by app and name. Plugins that ask for the same name get the same list. */
const generated = new WeakMap<FastifyFleet, Map<string, string[]>>()

/**
 * The secrets of a plugin, the signing one first. Outside production a missing secret is generated, and shared by all
 * instances through Redis.
 *
 * @param name the environment variable of the secret, e.g. `SESSION_SECRET`
 * @param given the option, else the environment variable
 * @returns a list that may change: if Redis is down at boot, the fleet's secret replaces the generated one later
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
      `${name} has ${Buffer.byteLength(weak)} bytes, but needs 32; generate one with: openssl rand -hex 32`,
    )
  if (secrets.length > 0) return secrets
  if (readEnv().production)
    throw new FleetError('FLEET_ERR_SECRET_MISSING', `set ${name}, the same on every instance: openssl rand -hex 32`)

  const shared = generated.get(app.fleet) ?? new Map<string, string[]>()
  generated.set(app.fleet, shared)
  const before = shared.get(name)
  if (before) return before
  shared.set(name, secrets)
  secrets.push(randomBytes(32).toString('hex'))
  const redis = redisOf(app)
  if (!redis) {
    app.log.warn(`${name} is not set: this process generated one, and its signatures are valid until it exits`)
    return secrets
  }
  app.log.warn(`${name} is not set: the fleet shares a generated one through Redis; production requires it`)
  const key = app.redisKey('secret', name)
  const share = async (): Promise<void> => {
    await redis.set(key, secrets[0] as string, 'NX')
    const found = await redis.get(key)
    if (found && Buffer.byteLength(found) >= 32) secrets.splice(0, secrets.length, found)
  }
  // While Redis is down nothing signed with the generated secret can be stored, so replacing it later loses nothing. A Redis
  // that was emptied gets it again.
  const shareAgain = (): void => void share().catch(() => {})
  redis.on('ready', shareAgain)
  app.addHook('onClose', async () => void redis.off('ready', shareAgain))
  await share().catch(() => {})
  return secrets
}

const clientOf = Symbol('fleet.redis')
/** The client of fleet, also if `app.redis` is the app's own. */
export const redisOf = (app: FastifyInstance): RedisClient | null =>
  (app as { [clientOf]?: RedisClient | null })[clientOf] ?? null

const plugin: FastifyPluginAsync<RedisOptions> = async (app, given) => {
  await ensure(app, identity)
  const env = readEnv()
  const addresses = (['client', 'cluster', 'sentinels', 'url', 'host'] as const).filter(
    (key) => given[key] !== undefined,
  )
  if (addresses.length > 1)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`redis\` takes only one of \`${addresses.join('`, `')}\``)
  const isAddressed = addresses.length > 0 || given.port !== undefined
  const options = resolveOptions('redis', redisOptions, isAddressed ? {} : addressFrom(env), given)

  const opened = connect(options)
  if (!opened) {
    if (env.production && !options.allowMemory)
      throw new FleetError(
        'FLEET_ERR_MEMORY_IN_PRODUCTION',
        'set REDIS_URL; or FLEET_ALLOW_MEMORY=1 for a single instance that may lose its state with the process',
      )
    const { FLEET_WORKERS: processes = 1 } = env
    if (processes > 1 && !options.allowMemory)
      refuseGroup(
        `set REDIS_URL, because each of ${processes} processes would have sessions of its own; or run one process ` +
          '(`fleet start --workers 1`); or set FLEET_ALLOW_MEMORY=1 to lose sessions between them',
      )
    app.log.warn(
      cluster.isWorker || processes > 1
        ? 'redis: not configured; each process keeps state in its own memory, so a session exists in one of them only'
        : 'redis: not configured; state is kept in the memory of this process and lost with it',
    )
  }
  const client = opened?.client ?? null
  app.decorate(clientOf as unknown as string, client as never)
  if (!hasOwnDecorator(app, 'instance', 'redis')) app.decorate<RedisClient | null>('redis', client)
  app.decorate('redisKey', keysOf(app.fleet.name))
  app.fleet.describe('redis', opened?.kind ?? 'memory')
  app.fleet.configure('redis', options)
  if (!client) return

  const isOwnClient = client !== options.client
  if (isOwnClient) {
    watch(client, app.log)
    app.addHook('onClose', () => close(client, options.commandTimeoutMs))
  }
  if (!(await ready(client, options.connectTimeoutMs))) app.log.warn('redis: not connected yet; continuing without it')
  const check = { critical: options.critical, timeoutMs: options.commandTimeoutMs + 100 }
  if (!app.hasDecorator('health')) return
  app.health.add('redis', () => checkRedis(client), check)
  watchFailures(client, isOwnClient, (error) => app.health.failed('redis', error))
}

/**
 * Decorates `app.redis` and `app.redisKey()`. Commands never hang: while Redis is down they fail at once or within
 * `commandTimeoutMs`, and the client reconnects by itself.
 *
 * @throws FLEET_ERR_MEMORY_IN_PRODUCTION, FLEET_ERR_MEMORY_IN_WORKERS, FLEET_ERR_OPTION_INVALID
 */
export const redis: FastifyPluginAsync<RedisOptions> = fleetPlugin('redis', plugin)
export default redis
