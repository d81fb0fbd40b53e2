import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { Prisma, type PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { type ReplicasOptions, replicas } from '../../src/database/replicas.ts'
import type { PostgresServer } from '../helpers/postgres.ts'
import { Relay } from '../helpers/relay.ts'
import { until } from '../helpers/until.ts'
import { atEnd, client, pause, resume, serversOf, startCluster } from './cluster.ts'
import { query } from './databases.ts'

let primary: PostgresServer
let one: PostgresServer
let two: PostgresServer
before(async () => {
  ;({ primary, one, two } = await startCluster())
})

function fleet(urls: string[] = [one.url, two.url], options: ReplicasOptions = {}) {
  const changes: string[] = []
  const prisma = client('primary', primary.url).$extends(
    replicas({
      clients: urls.map((url, index) => client(`replica ${index + 1}`, url)),
      probeIntervalMs: 100,
      probeTimeoutMs: 10_000,
      onChange: (index, healthy) => changes.push(`${index + 1} ${healthy ? 'up' : 'down'}`),
      ...options,
    }),
  )
  atEnd(() => prisma.$disconnect())
  return { prisma, changes, ready: () => until(() => changes.length >= urls.length) }
}
const anyReplica = ['replica 1', 'replica 2']
const onlyPrimary = ['primary']

test('returns the same results as the plain client', async () => {
  const { prisma, ready } = fleet()
  await ready()
  const plain = client('plain', primary.url)
  const where = { email: 'a@example.com' }
  for (const one of [prisma as unknown as PrismaClient, plain]) {
    assert.deepEqual(await one.user.findUnique({ where }).products({ select: { sku: true } }), [{ sku: 'a' }])
    assert.equal(await one.user.findUnique({ where: { email: 'nobody' } }).products(), null)
    assert.deepEqual(await one.product.findFirst({ select: { createdBy: { select: { name: true } } } }), {
      createdBy: { name: 'A' },
    })
    assert.deepEqual(await one.$queryRaw`SELECT ${1}::int AS n, ${'x'}::text AS text`, [{ n: 1, text: 'x' }])
    assert.deepEqual(await one.$queryRawUnsafe('SELECT $1::int AS n', 7), [{ n: 7 }])
    await assert.rejects(one.user.findUniqueOrThrow({ where: { email: 'nobody' } }), { code: 'P2025' })
    await assert.rejects(one.$queryRaw`SELECT nonsense`, { code: 'P2010' })
  }
  const inTransaction = await prisma.$transaction((tx) => tx.$primary().user.count())
  assert.equal(inTransaction, 1)
})

test('extensions before and after see every operation once, also in transactions', async () => {
  const seen: string[] = []
  const watching = (name: string) =>
    Prisma.defineExtension({
      query: {
        $allOperations({ operation, args, query }) {
          // The probes of the primary.
          if (operation !== '$queryRawUnsafe') seen.push(`${name} ${operation}`)
          return query(args)
        },
      },
    })
  const initials = { needs: { name: true }, compute: ({ name }: { name: string }) => `${name.charAt(0)}.` } as const
  const base = client('primary', primary.url).$extends(watching('before'))
  const routed = base.$extends(replicas({ clients: [client('replica 1', one.url)], probeIntervalMs: 100 }))
  atEnd(() => routed.$disconnect())
  await until(() => routed.$routing().set.available)
  const prisma = routed.$extends(watching('after')).$extends({ result: { user: { initials } } })

  const requested = await serversOf(async () => {
    const [user] = await prisma.user.findMany({ select: { initials: true } })
    assert.equal(user?.initials, 'A.')
    assert.deepEqual(await prisma.$queryRaw`SELECT 1 AS n`, [{ n: 1 }])
  })
  assert.deepEqual(requested, ['replica 1'])
  assert.deepEqual(seen.splice(0), ['before findMany', 'after findMany', 'before $queryRaw', 'after $queryRaw'])
  const written = await serversOf(() => prisma.$transaction(async (tx) => tx.$replica().user.count()))
  assert.deepEqual([written, seen.splice(0)], [onlyPrimary, ['before count', 'after count']])
  assert.deepEqual(await serversOf(() => prisma.$primary().user.count()), onlyPrimary)
  // The extended client is unchanged.
  assert.deepEqual(await serversOf(() => base.user.count()), onlyPrimary)
  assert.deepEqual(Object.keys(routed).sort(), Object.keys(base).sort())
  assert.deepEqual(['$routing' in prisma, '$routing' in base], [true, false])
})

test('a killed replica fails no read, leaves rotation, and returns by itself', async () => {
  const { prisma, changes, ready } = fleet()
  await ready()
  const read = (): Promise<number> => prisma.user.count()
  await Promise.all(Array.from({ length: 10 }, read))
  await one.kill()
  const counts = await Promise.all(Array.from({ length: 40 }, read))
  assert.deepEqual(new Set(counts), new Set([1]))
  await until(() => changes.at(-1) === '1 down')
  assert.deepEqual(await serversOf(() => Promise.all([read(), read(), read()])), ['replica 2'])

  await two.kill()
  assert.deepEqual(new Set(await Promise.all(Array.from({ length: 20 }, read))), new Set([1]))
  await until(() => changes.at(-1) === '2 down')
  assert.deepEqual(await serversOf(() => Promise.all([read(), read()])), onlyPrimary)

  await Promise.all([one.restart(), two.restart()])
  await until(() => changes.slice(-2).sort().join() === '1 up,2 up')
  assert.deepEqual(await serversOf(() => Promise.all([read(), read(), read(), read()])), anyReplica)
})

test('retries the reads of a hanging replica elsewhere, and sends it no further ones', async () => {
  const relay = await Relay.open(one.port)
  const { prisma, changes, ready } = fleet([one.url.replace(`:${one.port}/`, `:${relay.port}/`), two.url], {
    probeTimeoutMs: 1000,
  })
  await ready()
  await Promise.all(Array.from({ length: 10 }, () => prisma.user.count()))
  relay.silence()
  // More than its pool holds: some wait for a response, some for a connection.
  const reads = Promise.all(Array.from({ length: 20 }, () => prisma.user.count()))
  assert.deepEqual(new Set(await reads), new Set([1]))
  assert.equal(changes.at(-1), '1 down')
  await relay.restore()
  await until(() => changes.at(-1) === '1 up')
})

test('does not treat a full pool as a dead replica', async () => {
  const prisma = client('primary', primary.url)
  const changes: boolean[] = []
  const busy = client('replica 1', one.url, 1)
  const routed = prisma.$extends(
    replicas({ clients: [busy], probeIntervalMs: 100, probeTimeoutMs: 20_000, onChange: (_, up) => changes.push(up) }),
  )
  await until(() => changes.length === 1)
  await Promise.all(Array.from({ length: 30 }, () => routed.$queryRaw`SELECT 1 AS n, pg_sleep(0.05)::text`))
  assert.deepEqual(changes, [true])
  await routed.$disconnect()
})

test('repeats a read on the primary that a healthy replica cannot run, once, and keeps the replica', async () => {
  const { prisma, changes, ready } = fleet([one.url], { readOnlyFunctions: ['on_primary', 'fails'] })
  await ready()
  const { reads } = prisma.$routing()
  /** The result, and how many reads the primary had. */
  const asked = async (sql: string): Promise<unknown[]> => {
    const earlier = reads.primary
    const result = await prisma.$queryRawUnsafe<unknown[]>(sql).catch((error) => [/nowhere/.test(error.message)])
    return [...result, reads.primary - earlier]
  }
  // The replica's own errors: 25006 and XX000.
  assert.deepEqual(await asked('SELECT count(*)::int FROM writing'), [{ count: 1 }, 1])
  assert.deepEqual(await asked('SELECT count(at)::int FROM emitting'), [{ count: 1 }, 1])
  for (const state of ['25006', '0A000', '55000', '40001', '40P01', 'XX000', 'XX001', 'XX002', '58P01']) {
    assert.deepEqual(await asked(`SELECT on_primary('${state}') AS state`), [{ state }, 1], state)
    // It is repeated once.
    assert.deepEqual(await asked(`SELECT fails('${state}')`), [true, 1], state)
  }
  // An error of the statement is the same everywhere.
  for (const state of ['22012', '42883', 'P0001', '57014'])
    assert.deepEqual(await asked(`SELECT fails('${state}')`), [true, 0], state)
  assert.deepEqual(changes, ['1 up'])
  // A server that shuts down or starts is left out.
  for (const state of ['57P01', '57P03']) {
    await until(() => changes.at(-1) === '1 up')
    const before = changes.length
    assert.deepEqual(await asked(`SELECT on_primary('${state}') AS state`), [{ state }, 1], state)
    // The next probe may have brought it back already.
    assert.equal(changes[before], '1 down')
  }
})

test('sends calls of unknown functions to the primary, and declared ones to a replica', async () => {
  const { prisma, ready } = fleet([one.url], { readOnlyFunctions: ['on_primary'] })
  await ready()
  assert.deepEqual(await serversOf(() => prisma.$queryRaw`SELECT fails('P0001') WHERE false`), onlyPrimary)
  assert.deepEqual(await serversOf(() => prisma.$queryRaw`SELECT on_primary('P0001') WHERE false`), ['replica 1'])
  assert.deepEqual(await serversOf(() => prisma.$queryRaw`SELECT public.on_primary('P0001') WHERE false`), onlyPrimary)
  for (const name of ['f()', '', 'a b', 'f;g'])
    assert.throws(
      () => replicas({ clients: [], readOnlyFunctions: [name] }),
      { code: 'FLEET_ERR_OPTION_INVALID' },
      name,
    )
})

test('leaves out replicas that are down at boot until they respond', async () => {
  const { prisma, changes } = fleet([one.url.replace(/:\d+\//, ':1/'), two.url])
  assert.equal(await prisma.user.count(), 1)
  await until(() => changes.length === 2)
  assert.deepEqual(changes.sort(), ['1 down', '2 up'])
  assert.deepEqual(await serversOf(() => prisma.user.findMany()), ['replica 2'])
})

test('$disconnect() closes clients of `connect`, but not given ones', async () => {
  const opened: PrismaClient[] = []
  const connect = (url: string): PrismaClient => {
    const made = client('opened', url)
    opened.push(made)
    return made
  }
  const connections = async (): Promise<unknown> =>
    (await query(one.url, "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'opened'"))[0]?.n
  const url = `${one.url}?application_name=opened`
  const prisma = client('primary', primary.url).$extends(replicas({ connect, urls: [url] }))
  await until(async () => (await connections()) === 1)
  await prisma.$disconnect()
  await until(async () => (await connections()) === 0)

  const given = client('given', url)
  const other = client('primary', primary.url).$extends(replicas({ clients: [given] }))
  await given.user.count()
  await other.$disconnect()
  assert.notEqual(await connections(), 0)
})

test('leaves out a replica that lags more than maxLagMs until it catches up; an idle primary causes no lag', async () => {
  const { prisma, changes, ready } = fleet(undefined, { maxLagMs: 1000 })
  await ready()
  const { set } = prisma.$routing()
  const ofFirst = (): string | undefined => changes.filter((change) => change.startsWith('1 ')).at(-1)
  await pause(one)
  try {
    const probes = set.replicas[0]?.askedAt ?? 0
    // After several times maxLagMs without writes, there is no lag.
    await until(() => (set.replicas[0]?.askedAt ?? 0) > probes + 3000)
    await until(() => set.replicas.every(({ healthy, lagMs }) => healthy && lagMs === 0))
    await query(primary.url, 'INSERT INTO notes VALUES (1)')
    await until(() => ofFirst() === '1 down')
    assert.ok((set.replicas[0]?.lagMs ?? 0) > 1000)
    await until(() => set.replicas[1]?.healthy)
    assert.deepEqual(await serversOf(() => Promise.all([prisma.user.count(), prisma.user.count()])), ['replica 2'])
  } finally {
    await resume(one)
  }
  await until(() => ofFirst() === '1 up')
  assert.equal(set.replicas[0]?.lagMs, 0)
})

test('leaves out a server that is neither a standby nor the primary', async () => {
  const { prisma, changes } = fleet([`${primary.url}?application_name=same`])
  // The primary itself under another address is healthy.
  await until(() => changes.at(-1) === '1 up')
  assert.deepEqual(await serversOf(() => prisma.user.count()), ['replica 1'])

  const outsider = client('primary', one.url).$extends(
    replicas({ clients: [client('replica 1', primary.url)], probeIntervalMs: 100 }),
  )
  atEnd(() => outsider.$disconnect())
  await until(() => (outsider.$routing().set.replicas[0]?.askedAt ?? 0) > 0)
  assert.deepEqual(await serversOf(() => outsider.user.count()), onlyPrimary)
})

test('limits reads on the primary without a healthy replica', async () => {
  const nobody = one.url.replace(/:\d+\//, ':1/')
  const { prisma, changes } = fleet([nobody], { maxPrimaryReads: 2 })
  await until(() => changes.length === 1)
  const slow = (): Promise<unknown> => prisma.$queryRaw`SELECT pg_sleep(0.1)::text`
  const ended = await Promise.allSettled(Array.from({ length: 5 }, slow))
  const refused = ended.filter((each) => each.status === 'rejected').map(({ reason }) => reason)
  assert.equal(refused.length, 3)
  for (const error of refused) {
    assert.equal(error.code, 'FLEET_ERR_DATABASE_BUSY')
    assert.deepEqual([error.statusCode, error.headers], [503, { 'retry-after': '1' }])
  }
  assert.equal(prisma.$routing().reads.refused, 3)
  // Writes are not limited.
  await Promise.all([slow(), slow(), prisma.$executeRaw`INSERT INTO notes VALUES (2)`])
})

test('sends all operations to the primary without replicas; rejects wrong options', async () => {
  const prisma = client('primary', primary.url).$extends(replicas({ connect: (url) => client('x', url), urls: [] }))
  assert.deepEqual(await serversOf(() => prisma.user.count()), onlyPrimary)
  await prisma.$disconnect()
  assert.throws(() => replicas({}), { code: 'FLEET_ERR_OPTION_INVALID' })
  assert.throws(() => replicas({ clients: [], connect: () => prisma.$primary() }), { code: 'FLEET_ERR_OPTION_INVALID' })
  assert.throws(() => replicas({ clients: [], rise: 0 }), { code: 'FLEET_ERR_OPTION_INVALID' })
  const outsider = { $queryRawUnsafe: async () => [], $disconnect: async () => {}, $extends: () => ({}) }
  assert.throws(() => replicas({ clients: [] })(outsider), { code: 'FLEET_ERR_OPTION_INVALID' })
})
