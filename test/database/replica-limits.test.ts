import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { policies } from '../../src/database/policies.ts'
import { Replica } from '../../src/database/replica-set.ts'
import { PrimaryHistory, sample } from '../../src/database/watch.ts'
import { FakeServer, fakeRouter } from './fake-servers.ts'

const primaryAt = (history: PrimaryHistory, position: number, at: number, server = 'primary'): void =>
  history.add({ position, server, standby: false }, at)

function watched({ rise = 1, fall = 1, maxLagMs = 500 } = {}) {
  const server = new FakeServer('replica 1')
  let changes = 0
  const replica = new Replica(server, 0, { rise, fall }, () => changes++)
  const history = new PrimaryHistory()
  return { server, replica, history, probe: () => replica.probe(history, 5_000, maxLagMs), changes: () => changes }
}

/** A clock that the test sets. */
function clock(t: TestContext): (ms: number) => void {
  let now = 1_000
  t.mock.method(performance, 'now', () => now)
  return (ms) => {
    now = ms
  }
}

describe('the lag of a replica', () => {
  it('may be maxLagMs, and not a millisecond more', async () => {
    const { history, replica, probe } = watched({ maxLagMs: 500 })
    primaryAt(history, 0x5001, 0)
    const seen: unknown[] = []
    for (const at of [500, 501, 500]) {
      primaryAt(history, 0x5001, at)
      await probe()
      seen.push([replica.lagMs, replica.healthy])
    }
    assert.deepEqual(seen, [
      [500, true],
      [501, false],
      [500, true],
    ])
  })

  it('takes it out after `fall` probes, without rejecting its reads or forgetting its position', async () => {
    const { history, replica, probe } = watched({ fall: 2 })
    await probe()
    const reply = Promise.withResolvers<string>()
    const read = replica.read(() => reply.promise)
    primaryAt(history, 0x6000, 0)
    primaryAt(history, 0x6000, 501)
    const seen: boolean[] = []
    for (let i = 0; i < 2; i++) {
      await probe()
      seen.push(replica.healthy)
    }
    assert.deepEqual([seen, replica.replayed, replica.inFlight], [[true, false], 0x5000, 1])
    reply.resolve('late')
    assert.equal(await read, 'late')
  })

  it('is measured from the first sample that shows the missing write, for an hour of samples', () => {
    const history = new PrimaryHistory()
    for (let i = 1; i <= 3_601; i++) primaryAt(history, i, i * 1_000)
    assert.equal(history.lag(0), 3_599_000, 'the oldest of 3,600 samples is the second one')
    assert.deepEqual([history.lag(3_600), history.lag(3_601)], [0, 0])
  })

  it('is known however long the primary has been idle', () => {
    const history = new PrimaryHistory()
    primaryAt(history, 1, 0)
    for (let i = 1; i <= 4_000; i++) primaryAt(history, 2, i * 1_000)
    assert.equal(history.lag(1), 3_999_000)
  })

  it('starts anew on a primary that is behind the old one', () => {
    const history = new PrimaryHistory()
    primaryAt(history, 200, 0, 'old')
    primaryAt(history, 199, 5_000, 'new')
    assert.deepEqual([history.lag(100), history.lag(199), history.server], [0, 0, 'new'])
    primaryAt(history, 200, 6_000, 'new')
    assert.equal(history.lag(100), 1_000)
  })
})

describe('a replica', () => {
  it('that does not respond forgets its position, because it may come back at an earlier one', async () => {
    const { server, replica, probe } = watched()
    await probe()
    assert.equal(replica.replayed, 0x5000)
    server.position = undefined
    await probe()
    assert.deepEqual([replica.healthy, replica.replayed], [false, 0])
  })

  it('needs `rise` successful probes after a failed read', async () => {
    const { replica, probe, changes } = watched({ rise: 2 })
    await probe()
    replica.failed()
    replica.failed()
    const seen: boolean[] = []
    for (let i = 0; i < 2; i++) {
      await probe()
      seen.push(replica.healthy)
    }
    assert.deepEqual([seen, changes()], [[false, true], 3])
  })

  it('stays when its probe fails while its reads succeed, because its pool may be full', async () => {
    const { server, replica, probe } = watched()
    await probe()
    server.position = undefined
    const probing = probe()
    await replica.read(async () => 'row')
    await probing
    assert.equal(replica.healthy, true)
    await probe()
    assert.equal(replica.healthy, false, 'no read succeeded meanwhile')
    const again = probe()
    await replica.read(async () => 'row')
    await again
    assert.equal(replica.healthy, false, 'it is out already')
  })

  it('that is out gets no credit for reads during a failed probe', async () => {
    const { server, replica, probe } = watched({ rise: 2 })
    await probe()
    replica.failed()
    await probe()
    server.position = undefined
    const probing = probe()
    await replica.read(async () => 'row')
    await probing
    server.position = '0/5000'
    await probe()
    assert.equal(replica.healthy, false, 'one successful probe in a row')
    await probe()
    assert.equal(replica.healthy, true)
  })

  it('leaves when its reads fail while its probe does', async () => {
    const { server, replica, probe } = watched()
    await probe()
    server.position = undefined
    const probing = probe()
    await assert.rejects(replica.read(() => Promise.reject(new Error('lost'))))
    await probing
    assert.deepEqual([replica.healthy, replica.completed], [false, 0])
  })

  it('that was promoted has all writes only if it is the primary of the app', async () => {
    const { server, replica, history, probe } = watched()
    await probe()
    server.standby = false
    primaryAt(history, 0x9000, 0, 'another')
    await probe()
    assert.deepEqual([replica.healthy, replica.replayed], [false, 0])
    primaryAt(history, 0x9000, 0, server.server)
    await probe()
    assert.deepEqual([replica.healthy, replica.replayed, replica.lagMs], [true, Number.POSITIVE_INFINITY, 0])
    server.server = 'restarted'
    server.standby = true
    server.position = undefined
    await probe()
    assert.equal(replica.replayed, 0)
  })

  it('that is another server now, such as a new primary at its address, has none of the old positions', async () => {
    const { server, replica } = watched()
    await replica.ask()
    assert.equal(replica.replayed, 0x5000)
    Object.assign(server, { server: 'another', standby: false })
    await replica.ask()
    assert.equal(replica.replayed, 0)
  })

  it('averages its response times, of which the newest counts a fifth', async (t) => {
    const at = clock(t)
    const { replica } = watched()
    for (const [ms, expected] of [
      [100, 20],
      [20, 20],
      [0, 16],
    ] as const) {
      at(1_000)
      await replica.read(async () => at(1_000 + ms))
      assert.equal(replica.latencyMs, expected)
    }
    await assert.rejects(replica.read(() => Promise.reject(new Error('lost'))))
    assert.deepEqual([replica.latencyMs, replica.completed, replica.inFlight], [16, 3, 0])
  })
})

describe('waiting for a position', () => {
  it('asks a replica again after 5 ms, however many reads wait', async (t) => {
    const { router, replicas } = await fakeRouter(1)
    const [server] = replicas as [FakeServer]
    const [replica] = router.set.replicas as [Replica]
    const at = clock(t)
    at(10_000)
    await replica.ask()
    assert.equal(replica.askedAt, 10_000)
    at(10_004.9)
    const first = server.asked
    const waiting = [router.set.await(0x6000, 10_000), router.set.await(0x6000, 10_000)]
    assert.equal(server.asked, first)
    at(10_005)
    server.position = '0/6000'
    assert.deepEqual(await Promise.all(waiting), [replica, replica])
    assert.equal(server.asked, first + 1)
  })

  it('asks a replica that fails again after 5 ms, and does not block other work meanwhile', async () => {
    const { router, replicas } = await fakeRouter(1)
    const [server] = replicas as [FakeServer]
    server.position = undefined
    const before = server.asked
    assert.equal(await router.set.await(0x6000, 20), undefined)
    assert.ok(server.asked - before <= 4, `${server.asked - before} queries in 20 ms`)
  })

  it('ends when no replica is healthy any more, or at once with nothing to wait for', async () => {
    const { router, replicas } = await fakeRouter(1)
    const [server] = replicas as [FakeServer]
    assert.equal(await router.set.await(0x6000, 0), undefined)
    const asked = server.asked
    router.set.replicas[0]?.failed()
    assert.equal(await router.set.await(0x6000, 60_000), undefined)
    assert.equal(server.asked, asked)
  })

  it('is satisfied by the first of several replicas that has the write', async () => {
    const { router, replicas } = await fakeRouter(3)
    const [, second, third] = replicas as [FakeServer, FakeServer, FakeServer]
    second.position = undefined
    third.position = '0/6001'
    assert.equal(await router.set.await(0x6000, 60_000), router.set.replicas[2])
  })
})

describe('the list of replicas', () => {
  it('reports each change with the index, and chooses among healthy ones only', async () => {
    const changes: [number, boolean][] = []
    const { router } = await fakeRouter(2, {
      onChange: (index: number, healthy: boolean) => changes.push([index, healthy]),
    })
    const { set } = router
    assert.equal(set.available, true)
    set.replicas[0]?.failed()
    for (let i = 0; i < 4; i++) assert.equal(set.pick(0), set.replicas[1])
    set.replicas[1]?.failed()
    assert.deepEqual([set.available, set.pick(0)], [false, undefined])
    assert.deepEqual(changes, [
      [0, true],
      [1, true],
      [0, false],
      [1, false],
    ])
  })

  it('measures lag against the primary, not against a standby in its place', async () => {
    const { router, primary } = await fakeRouter(1)
    assert.equal(router.set.replicas[0]?.lagMs, 0)
    primary.position = '0/6000'
    assert.equal(await router.position(), 0x6000)
    primary.position = '0/4028'
    assert.deepEqual(await sample(primary), { standby: false, position: 0x4000, server: 'primary' })
    primary.position = '0/4029'
    assert.equal((await sample(primary)).position, 0x4029)
  })
})

describe('the policy latency', () => {
  const replica = (latencyMs: number, inFlight: number) => ({ latencyMs, inFlight })

  it('weighs the response time by the reads in flight, including the next one', () => {
    const pick = policies.latency()
    const [fast, slow] = [replica(1, 3), replica(4.4, 0)]
    for (let i = 0; i < 2; i++) assert.equal(pick([fast, slow]), fast, '4 × 1.1 < 4.5')
    const [busy, idle] = [replica(1, 4), replica(4.4, 0)]
    for (let i = 0; i < 2; i++) assert.equal(pick([busy, idle]), idle, '5 × 1.1 > 4.5')
  })

  it('spreads reads over replicas without a response time by the reads in flight', () => {
    const pick = policies.latency()
    const [busy, idle] = [replica(0, 1), replica(0, 0)]
    for (let i = 0; i < 2; i++) assert.equal(pick([busy, idle]), idle)
  })
})
