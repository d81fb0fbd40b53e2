import { FleetError } from '../base/errors.ts'
import { adoptSchema, withExecutor } from '../base/internals/prisma.ts'
import { any, fn, list, type OptionsOf, resolveOptions, type Shape, text } from '../base/options.ts'
import { Router, routerOptions } from './router.ts'
import { withSchema } from './server-url.ts'
import type { ServerClient } from './watch.ts'

/** @internal */
export const replicasOptions = {
  /** Prisma clients of the replicas, closed by the caller. Not together with `connect`. */
  clients: list(any()) as Shape<readonly ServerClient[]>,
  /** Creates a client for a replica, which `$disconnect()` closes. `name` is `replica_1`, `replica_2`, … */
  connect: fn<(url: string, name: string) => ServerClient>(),
  /** URLs passed to `connect`, with the primary's `schema` unless they have one. */
  urls: (list(text) as Shape<readonly string[]>).env('DATABASE_REPLICA_URLS'),
  ...routerOptions,
}
export type ReplicasOptions = OptionsOf<typeof replicasOptions>

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
export function replicas(given: ReplicasOptions): (client: ExtensibleClient) => ReplicasExtension {
  const { clients, connect, urls = [], ...routing } = resolveOptions('replicas', replicasOptions, given)
  if (clients && connect)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`replicas` takes `clients` or `connect`, not both')
  if (!clients && !connect)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`replicas` needs `clients`, or `connect` to create them')

  return (client) => {
    const schema = adoptSchema(client)
    const opened = connect ? urls.map((url, index) => connect(withSchema(url, schema), `replica_${index + 1}`)) : []
    const all = clients ?? opened
    for (const [index, replica] of all.entries()) {
      const [own = 'public', wanted = 'public'] = [adoptSchema(replica), schema]
      if (own !== wanted)
        throw new FleetError(
          'FLEET_ERR_OPTION_INVALID',
          `replica ${index + 1} uses the schema ${own}, and the primary ${wanted}; put \`schema=${wanted}\` into its URL`,
        )
    }
    const router = new Router(client, all, routing)
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
