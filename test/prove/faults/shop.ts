import { randomUUID } from 'node:crypto'
import { after } from 'node:test'
import type { FrontKind } from '../../../src/cli/up/front.ts'
import { haproxyFront } from '../../../src/cli/up/haproxy.ts'
import { nginxFront } from '../../../src/cli/up/nginx.ts'
import { nodeFront } from '../../../src/cli/up/node.ts'
import type { Server } from '../../../src/cli/up/server.ts'
import { query } from '../../database/databases.ts'
import { freePort } from '../../helpers/free-port.ts'
import { type PostgresServer, startPostgres } from '../../helpers/postgres.ts'
import { until } from '../../helpers/until.ts'
import { Instance, Runs } from './instance.ts'
import { NameServer } from './name-server.ts'
import { RedisPair } from './redis-pair.ts'

export const fronts = { nginx: nginxFront, HAProxy: haproxyFront, 'fleet balance': nodeFront } as const
export type FrontName = keyof typeof fronts

export interface ShopOptions {
  front: FrontName
  /** Environment of the instances, with the address of Redis. */
  env: Record<string, string | undefined>
  /** A database: its primary can be any of these servers. */
  database?: Database | undefined
  clock?: string | undefined
  dns?: NameServer | undefined
}

/** A primary with one replica. */
export interface Database {
  readonly primary: PostgresServer
  readonly replica: PostgresServer
}

export async function startDatabase(): Promise<Database> {
  const primary = await startPostgres()
  await query(primary.url, 'CREATE TABLE shop_orders (id text PRIMARY KEY, customer text NOT NULL, n int NOT NULL)')
  const replica = await startPostgres({ replicaOf: primary })
  return { primary, replica }
}

const adminToken = 'a token of the operators of the shop'

/** Three instances behind a front. */
export class Shop {
  readonly runs = new Runs()
  readonly instances: readonly Instance[]
  readonly front: Server
  readonly frontName: FrontName
  /** Its primary is the server that has the orders. */
  database: Database | undefined

  private constructor(instances: readonly Instance[], runs: Runs, front: Server, options: ShopOptions) {
    this.instances = instances
    this.runs = runs
    this.front = front
    this.frontName = options.front
    this.database = options.database
  }

  static async start(options: ShopOptions): Promise<Shop> {
    const { front, env, database, clock, dns } = options
    const first = await freePort(7)
    const runs = new Runs()
    const host = dns ? 'db.fleet.example' : '127.0.0.1'
    const url = ({ url }: PostgresServer): string => url.replace('127.0.0.1', host)
    const shared = {
      FLEET_NAME: randomUUID(),
      SESSION_SECRET: 'a secret of the shop that is long enough',
      FLEET_ADMIN_TOKEN: adminToken,
      LOG_LEVEL: 'error',
      TRUST_PROXY: '127.0.0.1',
      DRAIN_DELAY: '500',
      // A busy machine must not look like a Redis without a response.
      REDIS_COMMAND_TIMEOUT: '2000',
      DATABASE_URL: database && url(database.primary).replace(/:(\d+)\//, `:$1,${host}:${database.replica.port}/`),
      DATABASE_REPLICA_URLS: database && url(database.replica),
      ...env,
    }
    const instances = [0, 1, 2].map(
      (i) =>
        new Instance({
          port: first + i,
          agentPort: first + 3 + i,
          env: { ...shared, INSTANCE_ID: `shop-${i + 1}` },
          runs,
          clock,
          resolver: dns?.file,
        }),
    )
    await Promise.all(instances.map((instance) => instance.start()))
    // All customers have one address.
    Object.assign(process.env, { LB_RATE: '1000000', LB_RATE_AUTH: '10000', LB_RATE_TARPIT: '2000000' })
    const kind: FrontKind = fronts[front]
    const started = await kind.start({
      port: first + 6,
      instances: instances.map(({ port }) => port),
      agents: instances.map(({ port }) => port + 3),
      drainDelayMs: 500,
    })
    const shop = new Shop(instances, runs, started, options)
    await shop.healthy()
    return shop
  }

  get url(): string {
    return `http://127.0.0.1:${this.front.port}`
  }

  /** The last errors that the instances logged, those without a code of their own first. */
  get errors(): readonly string[] {
    const lines = this.instances.flatMap(({ child }) => child?.stdout.split('\n') ?? [])
    const errors = lines.filter((line) => /^\{"level":[56]0/.test(line))
    const isExpected = (line: string): boolean => /"code":"FLEET_ERR_\w+_UNAVAILABLE"/.test(line)
    return [...errors.filter((line) => !isExpected(line)).slice(-5), ...errors.filter(isExpected).slice(-2)]
  }

  /** Waits until every instance is healthy and gets requests from the front. */
  async healthy(): Promise<void> {
    for (const { url, child } of this.instances)
      await until(
        async () => {
          if (child?.ended) throw new Error(`it ended: ${child.stderr.slice(-2000)}`)
          const headers = { authorization: `Bearer ${adminToken}` }
          const response = await fetch(`${url}/health/detailed`, { headers, signal: AbortSignal.timeout(3000) })
          const { status, checks } = (await response.json()) as { status: string; checks: object }
          if (status !== 'healthy') throw new Error(`${status}: ${JSON.stringify(checks)}`)
          return (await fetch(`${url}/ready`, { signal: AbortSignal.timeout(3000) })).ok
        },
        { what: `${url} to be healthy` },
      )
    let seen: (string | null)[] = []
    await until(
      async () => {
        const response = await fetch(`${this.url}/me`, { signal: AbortSignal.timeout(3000) })
        await response.text()
        seen = response.ok ? [...seen, response.headers.get('x-instance-id')] : []
        return seen.length >= 12 && new Set(seen.slice(-12)).size === this.instances.length
      },
      { what: 'every instance behind the front' },
    )
  }
}

/** The parts of a shop that the faults of `random-faults.prove.ts` need. */
export interface FullShop {
  readonly shop: Shop
  readonly redis: RedisPair
  readonly database: Database
  readonly dns: NameServer | undefined
}

export async function startFullShop(front: FrontName, clock: string | undefined): Promise<FullShop> {
  const dns = process.getuid?.() === 0 ? await NameServer.start() : undefined
  const [redis, database] = await Promise.all([
    RedisPair.start(dns ? 'redis.fleet.example' : '127.0.0.1'),
    startDatabase(),
  ])
  after(() => {
    redis.close()
    dns?.close()
  })
  const shop = await Shop.start({ front, env: { REDIS_SENTINELS: redis.sentinels }, database, clock, dns })
  return { shop, redis, database, dns }
}
