import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { gone } from '../../src/database/replica-set.ts'
import { type FakeServer, failure, fakeRouter, read, write } from './fake-servers.ts'

/** Runs `fn` as a client whose last write is at `position`. */
const as = <T>({ router }: Awaited<ReturnType<typeof fakeRouter>>, position: number, fn: () => T): T =>
  router.readers.run({ position: () => position, writes() {} }, fn)

describe('a read', () => {
  it('goes to the primary and counts as own while no replica has replayed the writes of its client', async () => {
    const fleet = await fakeRouter(2, { waitMs: 0 })
    const { router } = fleet
    assert.equal(await as(fleet, 0x5001, () => router.route(read)), 'primary')
    assert.equal(await as(fleet, Number.POSITIVE_INFINITY, () => router.route(read)), 'primary')
    assert.match(String(await as(fleet, 0x5000, () => router.route(read))), /replica/)
    assert.deepEqual([router.reads.primary, router.reads.own], [2, 2])
    assert.deepEqual(router.reads.replicas.toSorted(), [0, 1])
  })

  it('waits for a replica up to waitMs, and not at all if waitMs is 0', async () => {
    const patient = await fakeRouter(1, { waitMs: 60_000 })
    const [replica] = patient.replicas as [FakeServer]
    const pending = as(patient, 0x6000, () => patient.router.route(read))
    replica.position = '0/6000'
    assert.equal(await pending, 'replica 1')
    assert.deepEqual([patient.router.reads.own, patient.router.reads.replicas], [0, [1]])

    const hasty = await fakeRouter(1, { waitMs: 0 })
    const asked = hasty.replicas[0]?.asked
    assert.equal(await as(hasty, 0x6000, () => hasty.router.route(read)), 'primary')
    assert.equal(hasty.replicas[0]?.asked, asked)
  })

  it('goes to the primary as an own read if no replica replays the writes within waitMs', async () => {
    const fleet = await fakeRouter(1, { waitMs: 30 })
    assert.equal(await as(fleet, 0x6000, () => fleet.router.route(read)), 'primary')
    assert.deepEqual([fleet.router.reads.own, fleet.router.reads.primary], [1, 1])
    assert.ok((fleet.replicas[0]?.asked ?? 0) > 1, 'the replica was asked for its position')
  })

  it('does not wait for replicas that are all down, and is no own read then', async () => {
    const fleet = await fakeRouter(1, { waitMs: 60_000 })
    fleet.router.set.replicas[0]?.failed()
    assert.equal(await as(fleet, 0x6000, () => fleet.router.route(read)), 'primary')
    assert.deepEqual([fleet.router.reads.own, fleet.router.reads.primary], [0, 1])
  })

  it('in a transaction goes to the primary, even through $replica()', async () => {
    const { router } = await fakeRouter(1)
    const inside = { ...read, transaction: {} }
    assert.deepEqual([await router.route(inside), await router.readLate(inside)], ['primary', 'primary'])
    assert.deepEqual([await router.route(read), await router.readLate(read)], ['replica 1', 'replica 1'])
    assert.equal(await router.readLate(write), 'primary')
  })
})

describe('a read that fails on a replica', () => {
  /** Reads once while every replica rejects with `error`. */
  async function outcome(error: unknown) {
    const fleet = await fakeRouter(2, { rise: 1 })
    const { router, replicas } = fleet
    for (const replica of replicas) replica.execute = () => Promise.reject(error)
    const result = await router.route(read).catch((reason: unknown) => reason)
    const healthy = router.set.replicas.filter((replica) => replica.healthy).length
    return { result, healthy, primary: router.reads.primary }
  }

  for (const state of ['25006', '0A000', '55000', '40001', '40P01', 'XX000', 'XX002', '58030', '58P01'])
    it(`with SQLSTATE ${state} is repeated on the primary at once, and the replicas stay`, async () => {
      assert.deepEqual(await outcome(failure(state)), { result: 'primary', healthy: 2, primary: 1 })
    })

  for (const state of ['08006', '08P01', '53300', '57P01', '57P02', '57P03', '57P05'])
    it(`with SQLSTATE ${state} takes out one replica after the other, then goes to the primary`, async () => {
      assert.deepEqual(await outcome(failure(state)), { result: 'primary', healthy: 0, primary: 1 })
    })

  for (const state of ['22012', '23505', '25001', '40002', '42883', '55P03', '57014', '0A001', 'P0001'])
    it(`with SQLSTATE ${state} is rejected, and not repeated`, async () => {
      const error = failure(state)
      assert.deepEqual(await outcome(error), { result: error, healthy: 2, primary: 0 })
    })

  it('because its pool is full goes to another server, and the replicas stay', async () => {
    for (const error of [
      { code: 'P2024' },
      { code: 'FLEET_ERR_DATABASE_BUSY' },
      new Error('timeout exceeded when trying to connect'),
    ])
      assert.deepEqual(await outcome(error), { result: 'primary', healthy: 2, primary: 1 })
  })

  it('because the replica left meanwhile goes to the next one', async () => {
    const { router, replicas } = await fakeRouter(2)
    const [first, second] = replicas as [FakeServer, FakeServer]
    first.execute = () => Promise.reject(gone)
    second.execute = () => Promise.reject(gone)
    assert.equal(await router.route(read), 'primary')
    second.execute = async () => second.name
    assert.equal(await router.route(read), second.name)
    assert.deepEqual(router.reads.replicas, [0, 1])
  })

  it('tries each replica once', async () => {
    const { router, replicas } = await fakeRouter(3)
    const tried: string[] = []
    for (const replica of replicas)
      replica.execute = async () => {
        tried.push(replica.name)
        throw { code: 'P2024' }
      }
    assert.equal(await router.route(read), 'primary')
    assert.equal(tried.length, 3)
  })

  it('is not sent to a replica that lacks the writes of its client', async () => {
    const fleet = await fakeRouter(2)
    const [first, second] = fleet.replicas as [FakeServer, FakeServer]
    first.position = '0/6000'
    await fleet.router.set.replicas[0]?.ask()
    first.execute = () => Promise.reject(failure('57P01'))
    second.execute = async () => assert.fail('a stale read')
    assert.equal(await as(fleet, 0x6000, () => fleet.router.route(read)), 'primary')
  })

  it('is not sent to such a replica after it waited for another one either', async () => {
    const fleet = await fakeRouter(2, { waitMs: 60_000 })
    const [first, second] = fleet.replicas as [FakeServer, FakeServer]
    first.execute = () => Promise.reject(failure('57P01'))
    second.execute = async () => assert.fail('a stale read')
    const pending = as(fleet, 0x6000, () => fleet.router.route(read))
    first.position = '0/6000'
    assert.equal(await pending, 'primary')
  })
})

describe('reads on the primary without a healthy replica', () => {
  async function busy(maxPrimaryReads: number | undefined, replicas = 1) {
    const fleet = await fakeRouter(replicas, { maxPrimaryReads, waitMs: 0 })
    for (const replica of fleet.router.set.replicas) replica.failed()
    const reply = Promise.withResolvers<string>()
    fleet.primary.execute = () => reply.promise
    return { fleet, ...fleet, reply }
  }

  it('are limited to maxPrimaryReads at a time; further ones get 503 with Retry-After', async () => {
    const { router, reply } = await busy(2)
    const first = [router.route(read), router.route(read)]
    await assert.rejects(router.route(read), {
      code: 'FLEET_ERR_DATABASE_BUSY',
      statusCode: 503,
      headers: { 'retry-after': '1' },
    })
    assert.deepEqual([router.reads.primary, router.reads.refused], [2, 1])
    reply.resolve('primary')
    await Promise.all(first)
    assert.equal(await router.route(read), 'primary', 'a slot is free again')
  })

  it('free their slot when they fail', async () => {
    const { primary, router } = await busy(1)
    for (let i = 0; i < 3; i++) {
      primary.execute = () => Promise.reject(failure('22012'))
      await assert.rejects(router.route(read), /22012/)
    }
    assert.equal(router.reads.refused, 0)
  })

  it('of a client that just wrote are never rejected, nor are writes', async () => {
    const { fleet, router, reply } = await busy(1)
    const all = [
      router.route(read),
      as(fleet, Number.POSITIVE_INFINITY, () => router.route(read)),
      router.route(write),
      router.write(read),
    ]
    reply.resolve('primary')
    assert.deepEqual(await Promise.all(all), ['primary', 'primary', 'primary', 'primary'])
    assert.equal(router.reads.refused, 0)
  })

  it('have no limit by default, without replicas, or while a replica is healthy', async () => {
    for (const { router, reply } of [await busy(undefined), await busy(0, 0)]) {
      const all = Array.from({ length: 50 }, () => router.route(read))
      reply.resolve('primary')
      await Promise.all(all)
      assert.equal(router.reads.refused, 0)
    }
    const { router, replicas } = await fakeRouter(1, { maxPrimaryReads: 0 })
    for (const replica of replicas) replica.execute = () => Promise.reject(failure('25006'))
    assert.equal(await router.route(read), 'primary')
  })
})
