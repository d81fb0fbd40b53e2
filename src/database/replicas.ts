import { readEnv } from '../base/env.ts'
import { FleetError } from '../base/errors.ts'
import { withExecutor } from '../base/internals/prisma.ts'
import { any, fn, int, list, oneOf, resolveLegacy, type Shapes, text } from '../base/options.ts'
import { policyNames } from './policies.ts'
import { watchDefaults } from './replica-set.ts'
import { Router, type RouterOptions, routerDefaults } from './router.ts'
import type { ServerClient } from './watch.ts'

export interface ReplicasOptions<C extends ServerClient = ServerClient> extends RouterOptions {
  /** Prisma clients of the replicas, closed by the caller. Not together with `connect`. */
  clients?: readonly C[]
  /** Creates a client for a replica, which `$disconnect()` closes. `name` is `replica_1`, `replica_2`, … */
  connect?: (url: string, name: string) => C
  /** URLs passed to `connect`. @default DATABASE_REPLICA_URLS, else none */
  urls?: readonly string[]
}

const shapes: Shapes = {
  clients: list(any()),
  connect: fn(),
  urls: list(text),
  probeIntervalMs: int(100, 600_000, 'milliseconds'),
  probeTimeoutMs: int(10, 60_000, 'milliseconds'),
  rise: int(1, 100),
  fall: int(1, 100),
  maxLagMs: int(10, 86_400_000, 'milliseconds'),
  policy: oneOf(...policyNames),
  onChange: fn(),
  waitMs: int(0, 60_000, 'milliseconds'),
  maxPrimaryReads: int(0, 100_000),
}

/** Symbol that marks Prisma's transaction clients. In versions without nested transactions, `$transaction` is missing. */
const scope: unique symbol = Symbol.for('prisma.client.transaction.scope_context')
const isTransaction = (client: object): boolean => scope in client || !('$transaction' in client)

/** The part of a Prisma client that is extended. */
export interface ExtensibleClient extends ServerClient {
  // biome-ignore lint/suspicious/noExplicitAny: every generated client has its own type here
  $extends: any
}

/** The members that the extension adds, in the form that Prisma's types expect. */
export interface ReplicasExtension {
  $extends: {
    extArgs: {
      result: Record<never, never>
      model: Record<never, never>
      query: Record<never, never>
      client: {
        $primary: () => <T extends object>(this: T) => Omit<T, '$primary' | '$replica' | '$routing'>
        $replica: () => <T extends object>(this: T) => Omit<T, '$primary' | '$replica' | '$routing'>
        $routing: () => () => Router
      }
    }
  }
}

/**
 * A Prisma extension that sends reads to healthy replicas and all other operations to the extended client, the primary;
 * `docs/database.md` has the table. A read whose replica fails is retried on another server; without a healthy replica,
 * the primary serves all reads. With the plugin `database`, a client reads only from replicas that have replayed its
 * writes. `$primary()` and `$replica()` force one or the other.
 *
 * ```ts
 * const pool = await pools()
 * const connect = (url: string, name?: string) => new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
 * const prisma = connect(process.env.DATABASE_URL).$extends(replicas({ connect }))
 * ```
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN
 */
export function replicas<C extends ServerClient>(
  given: ReplicasOptions<C>,
): (client: ExtensibleClient) => ReplicasExtension {
  const environment = given.clients ? {} : { urls: readEnv().DATABASE_REPLICA_URLS }
  const defaults = { ...watchDefaults, ...routerDefaults }
  const options = resolveLegacy<ReplicasOptions<C>>('replicas', shapes, defaults, environment, given)
  const { clients, connect, urls = [], ...routing } = options
  if (clients && connect)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`replicas` takes `clients` or `connect`, not both')
  if (!clients && !connect)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`replicas` needs `clients`, or `connect` to create them')

  return (client) => {
    const opened = connect ? urls.map((url, index) => connect(url, `replica_${index + 1}`)) : []
    const router = new Router(client, clients ?? opened, routing)
    const primary = withExecutor(client, router.write)
    const replica = withExecutor(client, router.readLate)
    // Inside a transaction, all operations go to the primary already.
    const outside = (self: object, other: object): object => (isTransaction(self) ? self : other)
    return withExecutor(client, router.route, {
      $primary(this: object) {
        return outside(this, primary)
      },
      $replica(this: object) {
        return outside(this, replica)
      },
      $routing: () => router,
      async $disconnect() {
        router.set.close()
        await Promise.all([client, ...opened].map((each) => each.$disconnect()))
      },
    }) as ReplicasExtension
  }
}
