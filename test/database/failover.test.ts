import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { inspect } from 'node:util'
import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { databaseError, pools, replicas } from '../../src/database/index.ts'
import type { PostgresServer } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'
import { atEnd, type Cluster, caughtUp, promote, startCluster } from './cluster.ts'
import { query } from './databases.ts'
import { Load } from './load.ts'

let cluster: Cluster
before(async () => {
  cluster = await startCluster()
})

/** A client like that of an application: bounded pools, and a primary that is one of two servers. */
async function open(primaries: readonly PostgresServer[], followers: readonly PostgresServer[]) {
  const pool = await pools({ max: 5, connectTimeoutMs: 10_000, statementTimeoutMs: 20_000 })
  const connect = (url: string, name?: string): PrismaClient =>
    new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
  const [first] = primaries
  assert.ok(first)
  const url = first.url.replace(`127.0.0.1:${first.port}`, primaries.map(({ port }) => `127.0.0.1:${port}`).join())
  const changes: string[] = []
  const prisma = connect(url).$extends(
    replicas({
      connect,
      urls: followers.map((each) => each.url),
      probeIntervalMs: 100,
      // An overloaded machine must not look like a dead server.
      probeTimeoutMs: 10_000,
      onChange: (index, healthy) => changes.push(`${index + 1} ${healthy ? 'up' : 'down'}`),
    }),
  )
  atEnd(async () => {
    await prisma.$disconnect()
    await pool.close()
  })
  await until(() => changes.length === followers.length)
  return { prisma, changes }
}

test('a replica killed under read load fails no read, and serves reads again when it is back', async () => {
  const { primary, one, two } = cluster
  const { prisma, changes } = await open([primary], [one, two])
  const reads = new Load(8, () => prisma.user.findMany())
  await until(() => reads.done > 100)
  await one.kill()
  await until(() => changes.at(-1) === '1 down')
  const then = reads.done
  await until(() => reads.done > then + 200)
  await one.restart()
  await until(() => changes.at(-1) === '1 up')
  await reads.end()
  assert.deepEqual(reads.failures, [])
})

test('after the primary dies and a replica is promoted, reads never stop, and writes fail fast and then resume', async (t) => {
  const { primary, one, two } = cluster
  const { prisma } = await open([primary, one], [one, two])
  let written = 0
  const reads = new Load(6, () => prisma.user.findMany())
  const writes = new Load(2, async () => {
    await prisma.$executeRaw`INSERT INTO notes VALUES (${++written})`
  })
  await until(() => reads.done > 100 && writes.done > 20)
  // A write is confirmed before a replica has it.
  await caughtUp(primary, one)

  await primary.kill()
  await until(() => writes.failures.length > 0)
  // The client is asked to retry.
  const response = databaseError(writes.failures[0])
  assert.ok(response, inspect(writes.failures[0], { depth: 6 }))
  assert.deepEqual(
    [response?.code, response?.statusCode, response?.headers],
    ['FLEET_ERR_DATABASE_UNAVAILABLE', 503, { 'retry-after': '1' }],
  )
  const stopped = reads.done
  await until(() => reads.done > stopped + 100)

  const promoting = performance.now()
  await promote(one)
  const promoted = Math.round(performance.now() - promoting)
  const done = writes.done
  await until(() => writes.done > done + 20)
  const after = reads.done
  await until(() => reads.done > after + 100)
  await Promise.all([reads.end(), writes.end()])

  assert.deepEqual(reads.failures, [])
  for (const failure of writes.failures)
    assert.equal(databaseError(failure)?.code, 'FLEET_ERR_DATABASE_UNAVAILABLE', String(failure))
  // No write confirmed after the promotion is missing, and all are on the new primary.
  const [row] = await query(one.url, 'SELECT count(*)::int AS n, pg_is_in_recovery() AS standby FROM notes')
  assert.ok(Number(row?.n) >= 40)
  assert.equal(row?.standby, false)
  // The new primary, also listed as a replica, is recognized; the other replica follows a dead server.
  const { set } = prisma.$routing()
  await until(() => set.replicas[0]?.healthy === true)
  assert.equal(set.replicas[0]?.replayed, Number.POSITIVE_INFINITY)
  t.diagnostic(
    `reads: ${reads.done} done, ${reads.failures.length} failed, longest ${reads.longestMs} ms; ` +
      `writes: ${writes.done} done, ${writes.failures.length} failed, slowest failure ${writes.slowestFailureMs} ms, ` +
      `none for ${writes.longestGapMs} ms, of which the promotion took ${promoted}`,
  )
})

test('reports that no server of the list accepts writes, and resumes when one does', async () => {
  const { primary, two } = cluster
  const { prisma } = await open([primary, two], [])
  const error = await prisma.$executeRaw`INSERT INTO notes VALUES (0)`.catch(
    (reason: unknown) => databaseError(reason) ?? reason,
  )
  assert.equal((error as { code?: string }).code, 'FLEET_ERR_DATABASE_UNAVAILABLE')
  await primary.restart()
  assert.equal(await prisma.$executeRaw`INSERT INTO notes VALUES (0)`, 1)
})
