import { readEnv } from '../base/env.ts'
import { FleetError } from '../base/errors.ts'
import { any, fn, int, list, resolveOptions, type Shapes, text } from '../base/options.ts'
import { isSaturated, isUnreachable, sqlState } from './errors.ts'
import { gone, type ProbeOptions, probeDefaults, type ReplicaClient, ReplicaSet } from './replica-set.ts'
import { mayReadReplica } from './statement.ts'

export interface ReplicasOptions<C extends ReplicaClient = ReplicaClient> extends ProbeOptions {
  /** Prisma clients of replicas, which stay yours to close. Not together with `connect`. */
  clients?: readonly C[]
  /** Makes a client for a replica; it is closed by `$disconnect()`. */
  connect?: (url: string) => C
  /** Addresses given to `connect`. @default DATABASE_REPLICA_URLS, else none */
  urls?: readonly string[]
}

const shapes: Shapes = {
  clients: list(any),
  connect: fn,
  urls: list(text),
  probeIntervalMs: int(100, 600_000, 'milliseconds'),
  probeTimeoutMs: int(10, 60_000, 'milliseconds'),
  rise: int(1, 100),
  onChange: fn,
}

/** What Prisma hands to a query extension; `__internalParams` is how its own extension for replicas knows, too. */
interface Operation {
  model?: string
  operation: string
  args: unknown
  query(args: unknown): Promise<unknown>
  __internalParams?: { transaction?: unknown; dataPath?: readonly string[] }
}

type Methods = Record<string, (...args: unknown[]) => PromiseLike<unknown>>

/** The part of a Prisma client that is extended. */
export interface ExtensibleClient {
  // biome-ignore lint/suspicious/noExplicitAny: every generated client has a type of its own here
  $extends: any
  $disconnect(): Promise<void>
}

/** What the extension adds, in the form in which Prisma's types carry it on. */
export interface ReplicasExtension {
  $extends: {
    extArgs: {
      result: Record<never, never>
      model: Record<never, never>
      query: Record<never, never>
      client: { $primary: () => <T extends object>(this: T) => Omit<T, '$primary'> }
    }
  }
}

const reads: ReadonlySet<string> = new Set([
  'findFirst',
  'findFirstOrThrow',
  'findMany',
  'findUnique',
  'findUniqueOrThrow',
  'groupBy',
  'aggregate',
  'count',
])

/**
 * Refused by this replica, though it lives: a function that writes, a query cancelled because of what was replayed
 * meanwhile, a function for primaries only. The primary can do it.
 */
const notHere: ReadonlySet<string | undefined> = new Set(['25006', '40001', '55000'])

/** Whether an operation only reads; transactions and everything that is not known for sure belong to the primary. */
export function isRead({ model, operation, args, __internalParams }: Operation): boolean {
  if (__internalParams?.transaction) return false
  if (model !== undefined) return reads.has(operation)
  if (operation === '$queryRaw') return mayReadReplica((args as { strings: readonly string[] }).strings.join(' ? '))
  if (operation === '$queryRawUnsafe') return mayReadReplica(String((args as unknown[])[0]))
  return false
}

/** The same operation on another client. */
function on(client: ReplicaClient, { model, operation, args, __internalParams }: Operation): PromiseLike<unknown> {
  const methods = (model === undefined ? client : client[modelKey(model) as never]) as unknown as Methods
  const result = operation === '$queryRawUnsafe' ? methods[operation]?.(...(args as [])) : methods[operation]?.(args)
  // `user.findUnique(…).posts()` arrives as a read of the user with the way to the posts in it.
  const path = __internalParams?.dataPath?.filter((step) => step !== 'select' && step !== 'include') ?? []
  if (path.length === 0) return result as PromiseLike<unknown>
  return (result as PromiseLike<Record<string, unknown> | null>).then((value) =>
    path.reduce<unknown>((at, step) => (at as Record<string, unknown> | null)?.[step] ?? null, value),
  )
}

const modelKey = (model: string): string => model.charAt(0).toLowerCase() + model.slice(1)

async function route(set: ReplicaSet, operation: Operation): Promise<unknown> {
  if (!isRead(operation)) return operation.query(operation.args)
  for (let tries = set.replicas.length; tries > 0; tries--) {
    const replica = set.pick()
    if (!replica) break
    try {
      return await replica.read((client) => on(client, operation))
    } catch (error) {
      if (notHere.has(sqlState(error))) break
      if (isUnreachable(error)) replica.failed()
      else if (error !== gone && !isSaturated(error)) throw error
    }
  }
  return operation.query(operation.args)
}

/**
 * A Prisma extension: reads go to the replicas that answer, in turn; writes, transactions and `$executeRaw` go to the
 * client that is extended, the primary. A raw `SELECT` that takes no locks and changes nothing is a read. A read whose
 * replica goes away is asked again elsewhere; without a replica that answers, the primary does it all.
 * `$primary()` gives the primary for a read that must see what was just written.
 *
 * ```ts
 * const connect = (url: string) => new PrismaClient({ adapter: new PrismaPg({ connectionString: url, max: 10 }) })
 * const prisma = connect(process.env.DATABASE_URL).$extends(replicas({ connect }))
 * ```
 *
 * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_OPTION_UNKNOWN
 */
export function replicas<C extends ReplicaClient>(
  given: ReplicasOptions<C>,
): (client: ExtensibleClient) => ReplicasExtension {
  const environment = given.clients ? {} : { urls: readEnv().DATABASE_REPLICA_URLS }
  const options = resolveOptions<ReplicasOptions<C>>('replicas', shapes, probeDefaults, environment, given)
  const { clients, connect, urls = [], ...probing } = options
  if (clients && connect)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`replicas` takes `clients` or `connect`, not both')
  if (!clients && !connect)
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`replicas` needs `clients`, or `connect` to make them')

  return (client) => {
    const opened = connect ? urls.map(connect) : []
    const set = new ReplicaSet<ReplicaClient>(clients ?? opened, probing)
    return client.$extends({
      name: 'fastify-fleet replicas',
      client: {
        $primary(this: object) {
          // Inside a transaction all is on the primary already.
          return '$transaction' in this ? client : this
        },
        async $disconnect() {
          set.close()
          await Promise.all([client, ...opened].map((each) => each.$disconnect()))
        },
      },
      query: { $allOperations: (operation: Operation) => route(set, operation) },
    })
  }
}
