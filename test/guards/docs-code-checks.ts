import { fileURLToPath } from 'node:url'
import { migrate } from '../../src/database/migrate.ts'
import { caughtUp } from '../database/cluster.ts'
import { startUpstreams } from '../edge/upstream.ts'
import { writeMmdb } from '../geo/mmdb-writer.ts'
import { startPostgres } from '../helpers/postgres.ts'
import { startRedis } from '../helpers/redis.ts'
import { patientEnv } from '../state/redis/patience.ts'

/** What a block of code that needs more than Node.js is given, and what is asserted of it. */
export interface Check {
  /** Adds to the environment, and starts what the variables lead to. */
  readonly env?: () => Promise<Readonly<Record<string, string>>>
  /** Files in the current folder, by name. */
  readonly files?: Readonly<Record<string, Buffer>>
  /** Parts of the block that are replaced before it runs, because they name addresses that exist on the page only. */
  readonly replaced?: () => Promise<Readonly<Record<string, string>>>
  /** Code below the block, type-checked with it, that asserts what the page says about it. */
  readonly assertions?: string
  /** All warnings that it logs, in order. */
  readonly warnings?: readonly RegExp[]
}

/** Starts a server for the first block that needs it. */
function shared<T>(start: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | undefined
  return () => {
    started ??= start()
    return started
  }
}

const redis = shared(async () => ({ REDIS_URL: (await startRedis()).url, ...patientEnv }))

const postgres = shared(async () => {
  const primary = await startPostgres()
  await migrate({ url: primary.url, directory: fileURLToPath(new URL('../../prisma/migrations', import.meta.url)) })
  const replica = await startPostgres({ replicaOf: primary })
  await caughtUp(primary, replica)
  return { DATABASE_URL: primary.url, DATABASE_REPLICA_URLS: replica.url }
})

/** Upstreams `u0` to `u3` in place of the targets of docs/balancer.md. */
async function targets(): Promise<Record<string, string>> {
  const upstreams = await startUpstreams(4)
  const http = upstreams.map(({ port }, i) => [`http://10.0.0.${i + 1}:3000`, `http://127.0.0.1:${port}`])
  const tcp = upstreams.map(({ port }, i) => [`tcp://10.0.0.${i + 1}:5432`, `tcp://127.0.0.1:${port}`])
  return Object.fromEntries([...http, ...tcp, ['port: 8080', 'port: 0']])
}

const visits = (by: string): string => `
const url = app.listeningOrigin.replace('0.0.0.0', '127.0.0.1')
const first = await fetch(url)
assert.deepEqual(await first.json(), { visits: 1, ${by}: app.fleet.instance.id })
const cookie = first.headers.getSetCookie().map((text) => text.split(';')[0]).join('; ')
const second = await fetch(url, { headers: { cookie } })
assert.deepEqual(await second.json(), { visits: 2, ${by}: app.fleet.instance.id })
`

/** By the name in the comment `<!-- check: NAME -->` above the block. */
export const checks: Readonly<Record<string, Check>> = {
  readme: { assertions: visits('servedBy') },

  tutorial: {
    assertions: `${visits('by')}
for (const path of ['/live', '/ready', '/health', '/metrics'])
  assert.equal((await fetch(url + path)).status, 200)
`,
    env: async () => ({ LOG_LEVEL: 'info' }),
    warnings: [/memory/, /SESSION_SECRET/, /JWT_SECRET/],
  },

  geo: {
    files: {
      'GeoLite2-City.mmdb': writeMmdb({
        '20.1.0.0/16': { country: { iso_code: 'BR' }, location: { latitude: -10, longitude: -53 } },
        '20.2.0.0/16': { country: { iso_code: 'FR' }, location: { latitude: 39, longitude: -77 } },
      }),
    },
    assertions: `
const where = async (remoteAddress: string) => {
  const headers = { 'cf-ipcountry': 'DE' }
  const { place, ...found } = (await app.inject({ url: '/where', headers, remoteAddress })).json()
  return found
}
assert.deepEqual(await where('173.245.48.1'), { country: 'DE', source: 'edge', region: 'eu' })
assert.deepEqual(await where('20.1.2.3'), { country: 'BR', source: 'database', region: 'us' })
assert.deepEqual(await where('20.2.2.3'), { country: 'FR', source: 'database', region: 'eu' })
`,
  },

  replicas: {
    env: postgres,
    assertions: `
const isReplica = async (client: Pick<typeof prisma, '$queryRaw'>) =>
  (await client.$queryRaw<[{ is: boolean }]>\`SELECT pg_is_in_recovery() AS is\`)[0].is
assert.equal(await isReplica(prisma.$primary()), false)
await until(() => isReplica(prisma.$replica()), { what: 'a read on the replica' })
`,
  },

  'database type': { env: postgres, assertions: 'assert.equal(await app.database.$primary().user.count(), 0)' },

  'read-only functions': { env: postgres },

  'database error': {
    env: postgres,
    assertions: `
const error = await prisma.product.create({ data }).then(() => undefined, databaseError)
assert.deepEqual([error?.code, error?.statusCode], ['FLEET_ERR_RECORD_EXISTS', 409])
`,
  },

  'scaling reads': {
    env: postgres,
    assertions: `
const onReplica = async () => {
  await app.database.product.findMany()
  const { body } = await app.inject('/metrics')
  return /^fleet_database_reads_total\\{.*server="replica_1".*\\} [1-9]/m.test(body)
}
await until(onReplica, { what: 'a read on the replica' })
`,
  },

  balancer: {
    replaced: targets,
    assertions: `
assert.deepEqual([statusCode, response.status], [200, 200])
for (const echo of [await body.json(), await response.json()])
  assert.equal((echo as { url: string }).url, '/api/v1/me')
assert.equal((await fetch(\`http://127.0.0.1:\${proxy.address?.port}/\`)).status, 200)
assert.equal((await fetch((await tcpProxy.listen()).replace('tcp', 'http'))).status, 200)
`,
  },

  pools: {
    replaced: targets,
    env: async () => ({ ...(await redis()), FLEET_POOL: 'heavy' }),
    assertions: `
import Fastify from 'fastify'
import fleet from 'fastify-fleet'
const heavy = Fastify()
await heavy.register(fleet)
heavy.get('/api/heavy', async () => ({ name: 'heavy' }))
await heavy.listen({ port: 0, host: '127.0.0.1' })

const url = await proxy.listen()
const server = async (path: string, headers = {}) =>
  ((await (await fetch(url + path, { headers })).json()) as { name: string }).name
assert.match(await server('/'), /^u[01]$/)
assert.match(await server('/api/v20'), /^u[01]$/)
assert.match(await server('/api/v2/x'), /^u[23]$/)
assert.match(await server('/', { 'x-version': '2' }), /^u[23]$/)
assert.equal(await server('/api/heavy'), 'heavy')
`,
  },

  websocket: {
    assertions: `
import { once } from 'node:events'
await app.listen({ port: 0, host: '127.0.0.1' })
const clients = [1, 2].map(() => new WebSocket(\`\${app.listeningOrigin.replace('http', 'ws')}/ws\`))
await Promise.all(clients.map((client) => once(client, 'open')))
const received = clients.map((client) => once(client, 'message'))
clients[0]?.send('x'.repeat(1_048_576)) // too large to publish
clients[0]?.send('hello')
for (const [{ data }] of await Promise.all(received)) assert.equal(data, 'hello')
const closed = clients.map((client) => once(client, 'close'))
await app.close()
for (const [{ code }] of await Promise.all(closed)) assert.equal(code, 1012)
`,
  },

  'two instances': { env: redis },
}
