import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { resolveOptions } from '../../src/base/options.ts'
import { Replica, ReplicaSet, watchOptions } from '../../src/database/replica-set.ts'
import { PrimaryHistory } from '../../src/database/watch.ts'
import { FakeServer } from './fake-servers.ts'

const settle = async (): Promise<void> => {
  for (let i = 0; i < 6; i++) await turn()
}

/** Replicas that are probed each second, by a clock that the test sets. */
async function open(t: TestContext, positions: (string | undefined)[], options: object = {}) {
  let now = 1_000
  t.mock.method(performance, 'now', () => now)
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] })
  const primary = new FakeServer('primary')
  const servers = positions.map((position, i) => Object.assign(new FakeServer(`replica ${i + 1}`), { position }))
  const changes: [number, boolean][] = []
  const onChange = (index: number, healthy: boolean): void => void changes.push([index, healthy])
  const set = new ReplicaSet(servers, primary, resolveOptions('replicas', watchOptions, { onChange, ...options }))
  t.after(() => set.close())
  await settle()
  const pass = async (ms: number): Promise<void> => {
    now += ms
    t.mock.timers.tick(ms)
    await settle()
  }
  const picked = (position: number): number | undefined => set.pick(position)?.index
  return { set, primary, servers, changes, pass, picked }
}
/** Lets a server not respond any more. @returns how often it is queried from now on */
function hang(server: FakeServer): () => number {
  let asked = 0
  server.$queryRawUnsafe = () => {
    asked++
    return new Promise(() => undefined)
  }
  return () => asked
}
const at = (position: string): number => Number.parseInt(position.split('/')[1] ?? '', 16)

describe('the choice of a replica', () => {
  it('is any healthy one for a read without a position, else one that has replayed it', async (t) => {
    const { picked, set } = await open(t, ['0/5000', undefined, '0/6000'])
    assert.deepEqual(new Set([picked(0), picked(0), picked(0)]), new Set([0, 2]))
    for (let i = 0; i < 3; i++) assert.equal(picked(at('0/5001')), 2)
    assert.deepEqual(new Set([picked(at('0/5000')), picked(at('0/5000'))]), new Set([0, 2]))
    assert.deepEqual([picked(at('0/6001')), picked(Number.POSITIVE_INFINITY)], [undefined, undefined])
    assert.equal(set.available, true)
  })

  it('is available with one healthy replica, and not without any', async (t) => {
    const { set, servers, pass, changes } = await open(t, ['0/5000', undefined])
    const first: [number, boolean][] = [
      [0, true],
      [1, false],
    ]
    assert.deepEqual([set.available, changes], [true, first])
    Object.assign(servers[0] as object, { position: undefined })
    await pass(1_000)
    assert.equal(set.available, true, 'the first failure of two')
    await pass(1_000)
    assert.deepEqual([set.available, changes], [false, [...first, [0, false]]])
    assert.equal(set.pick(0), undefined)
    const primary = new FakeServer('primary')
    const none = new ReplicaSet([], primary, resolveOptions('replicas', watchOptions, {}))
    assert.deepEqual([none.available, none.pick(0)], [false, undefined])
    await pass(1_000)
    assert.equal(primary.asked, 0, 'a primary alone is not probed')
    none.close()
  })

  it('leaves out a replica that lags behind the primary by more than maxLagMs', async (t) => {
    const { primary, picked, pass } = await open(t, ['0/5000', '0/6000'], { maxLagMs: 2_000, fall: 1 })
    primary.position = '0/6000'
    await pass(1_000)
    assert.deepEqual(new Set([picked(0), picked(0)]), new Set([0, 1]))
    await pass(2_000)
    assert.deepEqual(new Set([picked(0), picked(0)]), new Set([0, 1]), 'by maxLagMs')
    await pass(1_000)
    assert.deepEqual([picked(0), picked(0)], [1, 1])
  })

  it('does not learn the position of a primary that has become a replica', async (t) => {
    const { primary, picked, pass } = await open(t, ['0/5000'], { maxLagMs: 100, fall: 1 })
    Object.assign(primary, { position: '0/9000', standby: true })
    for (let i = 0; i < 3; i++) await pass(1_000)
    assert.equal(picked(0), 0)
  })

  it('leaves out a replica that does not respond within probeTimeoutMs, and queries it once', async (t) => {
    const { primary, servers, picked, pass } = await open(t, ['0/5000'], { fall: 1, probeTimeoutMs: 300 })
    const asked = [primary, ...servers].map(hang)
    await pass(1_000)
    await pass(299)
    assert.equal(picked(0), 0)
    await pass(1)
    assert.equal(picked(0), undefined)
    for (let i = 0; i < 3; i++) await pass(1_000)
    assert.deepEqual(
      asked.map((count) => count()),
      [1, 1],
    )
  })

  it('keeps no process alive', async (t) => {
    const { mock } = t.mock.method(globalThis, 'setInterval')
    new ReplicaSet([new FakeServer('replica')], new FakeServer('primary'), resolveOptions('replicas', watchOptions, {}))
    const [probing] = mock.calls.map(({ result }) => result)
    assert.equal(probing?.hasRef(), false)
    clearInterval(probing)
  })

  it('is probed at its interval until the end', async (t) => {
    const { set, servers, pass } = await open(t, ['0/5000'], { probeIntervalMs: 3_000 })
    const [server] = servers as [FakeServer]
    const before = server.asked
    await pass(2_999)
    assert.equal(server.asked, before)
    await pass(1)
    assert.equal(server.asked, before + 1)
    set.close()
    await pass(60_000)
    assert.equal(server.asked, before + 1)
  })
})

describe('waiting for a replica', () => {
  it('asks for positions at most every 5 ms, until one has replayed it', async (t) => {
    const { set, servers, pass } = await open(t, ['0/5000'])
    const [server] = servers as [FakeServer]
    await pass(5)
    const before = server.asked
    const found = set.await(at('0/6000'), 1_000)
    await settle()
    assert.equal(server.asked, before + 1)
    await pass(4)
    assert.equal(server.asked, before + 1)
    await pass(1)
    assert.equal(server.asked, before + 2)
    server.position = '0/6000'
    await pass(5)
    assert.equal((await found)?.index, 0)
    assert.equal(server.asked, before + 3)
  })

  it('is not held up by replicas that do not respond', async (t) => {
    const { set, servers, pass } = await open(t, ['0/5000', '0/5000'])
    const [first, second] = servers as [FakeServer, FakeServer]
    await pass(5)
    const found: unknown[] = []
    const wait = (position: string): void =>
      void set.await(at(position), 20).then((replica) => found.push(replica?.index))
    hang(first)
    second.position = '0/6000'
    wait('0/6000')
    await settle()
    assert.deepEqual(found, [1])
    hang(second)
    wait('0/7000')
    await pass(20)
    assert.deepEqual(found, [1, undefined])
  })

  it('ends without one after waitMs, and at once if none is healthy or there is no time', async (t) => {
    const { set, pass } = await open(t, ['0/5000'])
    let result: unknown = 'waiting'
    void set.await(at('0/6000'), 20).then((found) => {
      result = found
    })
    for (let ms = 0; ms < 15; ms += 5) await pass(5)
    assert.equal(result, 'waiting')
    await pass(5)
    await pass(5)
    assert.equal(result, undefined)
    assert.equal(await set.await(at('0/5000'), 0), undefined)
    const down = new ReplicaSet([], new FakeServer('primary'), resolveOptions('replicas', watchOptions, {}))
    assert.equal(await down.await(1, 1_000), undefined)
  })
})

describe('a replica', () => {
  const watched = () => {
    const server = new FakeServer('replica')
    const replica = new Replica(server, 0, { rise: 1, fall: 1 }, () => {})
    return { server, replica, probe: () => replica.probe(new PrimaryHistory(), 1_000, 500) }
  }

  it('has the position of its server, and none when it is another server or unreachable', async () => {
    const { server, replica, probe } = watched()
    await probe()
    assert.deepEqual([replica.replayed, replica.healthy], [0x5000, true])
    server.position = undefined
    await probe()
    assert.deepEqual([replica.replayed, replica.healthy], [0, false])
    server.position = '0/6000'
    await probe()
    assert.deepEqual([replica.replayed, replica.healthy], [0x6000, true])
    server.server = 'another'
    server.standby = false
    await probe()
    assert.deepEqual([replica.replayed, replica.healthy], [0, false], 'a primary that is not ours')
  })

  it('rejects the reads in flight when it is unreachable, and not when it only lags', async () => {
    const { server, replica, probe } = watched()
    await probe()
    const pending = Promise.withResolvers<string>()
    const reading = replica.read(() => pending.promise)
    const history = new PrimaryHistory()
    history.add({ position: 0x5000, server: 'p', standby: false }, 0)
    history.add({ position: 0x9000, server: 'p', standby: false }, 0)
    await replica.probe(history, 1_000, -1)
    assert.deepEqual([replica.healthy, replica.inFlight], [false, 1])
    await probe()
    server.position = undefined
    await probe()
    assert.equal(replica.inFlight, 0)
    await assert.rejects(reading)
    pending.resolve('late')
  })
})
