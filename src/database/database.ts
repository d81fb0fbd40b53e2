import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../base/errors.ts'
import { any, bool, int, object, resolveOptions, type Shapes } from '../base/options.ts'
import { type CheckOptions, health } from '../instance/health/index.ts'
import { databaseError } from './errors.ts'

/**
 * What is asked of a Prisma client. Merge your own client's type into it, and `app.database` has that type:
 *
 * ```ts
 * declare module 'fastify-fleet' {
 *   interface DatabaseClient extends PrismaClient {}
 * }
 * ```
 */
export interface DatabaseClient {
  // biome-ignore lint/suspicious/noExplicitAny: as generated clients declare it
  $queryRawUnsafe<T = unknown>(query: string, ...values: any[]): PromiseLike<T>
  $disconnect(): Promise<void>
}

export interface DatabaseOptions {
  /** A Prisma client, which stays yours to close; or a function that makes one, which is closed with the app. */
  client: DatabaseClient | (() => DatabaseClient | Promise<DatabaseClient>)
  /** How the check `database` is judged. @default critical, every 5 s, at most 2 s, fall 3, rise 2 */
  check?: CheckOptions
}

const shapes: Shapes = {
  client: any,
  check: object({
    critical: bool,
    intervalMs: int(100, 3_600_000, 'milliseconds'),
    timeoutMs: int(1, 600_000, 'milliseconds'),
    rise: int(1, 100),
    fall: int(1, 100),
  }),
}
const defaults = { check: { critical: true } } satisfies Partial<DatabaseOptions>

/** How long open queries may hold the exit, ms. A server that hangs never ends them. */
const closeTimeoutMs = 5_000

declare module 'fastify' {
  interface FastifyInstance {
    database: DatabaseClient
  }
}

const isClient = (value: unknown): value is DatabaseClient =>
  typeof (value as DatabaseClient | null)?.$queryRawUnsafe === 'function' &&
  typeof (value as DatabaseClient).$disconnect === 'function'

/** Asks the primary, also where a client reads from replicas. One question at a time: a hung one holds a connection. */
function ping(client: DatabaseClient & { $primary?: () => DatabaseClient }): () => Promise<unknown> {
  let asking: Promise<unknown> | undefined
  return () => {
    const primary = typeof client.$primary === 'function' ? client.$primary() : client
    asking ??= Promise.resolve(primary.$queryRawUnsafe('SELECT 1')).finally(() => {
      asking = undefined
    })
    return asking
  }
}

async function disconnect(client: DatabaseClient): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, closeTimeoutMs)
  await Promise.race([client.$disconnect(), late])
  clearTimeout(timer)
}

const plugin: FastifyPluginAsync<DatabaseOptions> = async (app, given) => {
  if (!app.hasDecorator('health')) await app.register(health)
  const { client: from, check } = resolveOptions<DatabaseOptions>('database', shapes, defaults, given)
  const client = isClient(from) ? from : typeof from === 'function' ? await from() : undefined
  if (!isClient(client))
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`database.client` must be a Prisma client, or make one')

  app.decorate('database', client)
  app.fleet.describe('database', 'postgresql')
  app.health.add('database', ping(client), check)
  if (app.hasDecorator('errorTranslators')) app.errorTranslators.push(databaseError)
  if (client !== from) app.addHook('onClose', () => disconnect(client))
}

/**
 * Decorates `app.database` and adds the health check `database`. The database need not be up at boot: the instance is
 * live, not ready, and becomes ready by itself.
 *
 * @throws FLEET_ERR_OPTION_INVALID
 */
export const database: FastifyPluginAsync<DatabaseOptions> = fp(plugin, { name: 'fleet-database', fastify: '5.x' })
export default database
