import assert from 'node:assert/strict'
import { channel } from 'node:diagnostics_channel'
import { performance } from 'node:perf_hooks'
import { type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import { residentMemory } from '../../../src/base/resident-memory.ts'
import { identity } from '../../../src/instance/identity.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { overload } from '../../../src/instance/overload/index.ts'
import type { NewEvent } from '../../../src/state/history/events.ts'
import { type History, history } from '../../../src/state/history/index.ts'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { type HistoryWrite, stepMs } from '../../../src/state/history/store.ts'
import type { GoneListener } from '../../../src/state/registry/peers.ts'
import { until } from '../../helpers/until.ts'
import { peer } from '../registry/fake-peers.ts'
import { counts } from './contract.ts'

async function start(
  t: TestContext,
  sheds = true,
  before: (app: FastifyInstance) => void = () => {},
): Promise<{ app: FastifyInstance; past: History }> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'shop', id: 'a' })
  before(app)
  if (sheds) await app.register(overload)
  await app.register(lifecycle, { signals: false })
  await app.register(metrics)
  await app.register(history)
  app.get('/items/:id', async (_, reply) => reply.code(404).send('none'))
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, past: app.fleet.history ?? assert.fail() }
}

test('an instance writes what it is and what it did with each step, and the rest when it stops', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_800_000_000_000 })
  t.mock.method(Math, 'random', () => 0)
  let active = 0
  const utilizationOf = (now?: { active: number }, before?: { active: number }) =>
    now && before ? { utilization: now.active - before.active } : { active }
  t.mock.method(performance, 'eventLoopUtilization', utilizationOf as never)
  const add = t.mock.method(MemoryHistoryStore.prototype, 'add')
  const writes = (): HistoryWrite[] => add.mock.calls.map((call) => call.arguments[0])
  const { app, past } = await start(t)
  const refused = app.overload.refused as { turn: number; concurrency: number }
  for (let i = 0; i < 2; i++) await app.inject(`/items/${i}`)
  Object.assign(refused, { turn: 3, concurrency: 4 })
  active = 0.25
  t.mock.timers.tick(stepMs)
  await turn()
  const [first] = writes()
  const { n, u, k, x, r, c, s } = Object.fromEntries(first?.counts ?? [])
  assert.deepEqual({ n, u, x, r, c, s }, { n: 1, u: 250, x: 7, r: 2, c: 2, s: undefined })
  const kib = residentMemory() / 1_024
  assert.ok((k as number) > kib / 2 && (k as number) < kib * 2, `${k} KiB of memory, of ${kib}`)
  assert.deepEqual([...(first?.routes.keys() ?? [])], ['GET /items/:id'])
  assert.equal(first?.process, `a ${app.fleet.instance.startedAt}`)
  assert.partialDeepStrictEqual(first?.back, { kind: 'ready', instance: 'a' })
  assert.partialDeepStrictEqual(
    (await past.events({ limit: 10 })).find(({ kind }) => kind === 'limit-hit'),
    { text: 'sheds load: 7 requests in 10 s' },
  )
  Object.assign(refused, { turn: 3, concurrency: 9 })
  await app.inject('/items/1')
  t.mock.timers.reset()
  await app.close()
  const last = writes().at(-1)
  const { r: requests, x: shed, ...figures } = Object.fromEntries(last?.counts ?? [])
  assert.deepEqual([requests, shed, figures.n, figures.k, last?.process], [1, 5, undefined, undefined, ''])
})

test('events that Redis rejected are sent after the next step, and writes are counted by result', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_800_000_000_000 })
  t.mock.method(Math, 'random', () => 0)
  let isDown = true
  for (const name of ['add', 'record'] as const) {
    const write = MemoryHistoryStore.prototype[name] as (...given: unknown[]) => Promise<unknown>
    t.mock.method(MemoryHistoryStore.prototype, name, async function (this: MemoryHistoryStore, ...given: unknown[]) {
      if (isDown) throw new Error('unavailable')
      return write.apply(this, given)
    } as never)
  }
  const { app, past } = await start(t)
  const step = async (): Promise<string[]> => {
    t.mock.timers.tick(stepMs)
    for (let i = 0; i < 3; i++) await turn()
    return (await past.events({ limit: 10 })).map(({ kind, at }) => `${kind} ${at - 1_800_000_000_000}`)
  }
  assert.deepEqual(await step(), [])
  isDown = false
  assert.deepEqual(await step(), ['ready 0', 'started 0'])
  const text = await app.metrics.metrics()
  for (const result of ['written', 'failed'])
    assert.match(text, new RegExp(`^fleet_history_writes_total\\{result="${result}"\\} 1$`, 'm'))
  t.mock.timers.reset()
})

test('an instance writes its last counts before the event of its end, because it would count as back after that', async (t) => {
  // No step ends meanwhile.
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { app } = await start(t)
  await turn()
  await app.inject('/items/1')
  const order: unknown[] = []
  const { add, record } = MemoryHistoryStore.prototype
  t.mock.method(MemoryHistoryStore.prototype, 'add', function (this: MemoryHistoryStore, write: HistoryWrite) {
    order.push(`counts of ${write.counts.get('r')} request`)
    return add.call(this, write)
  })
  t.mock.method(MemoryHistoryStore.prototype, 'record', function (this: MemoryHistoryStore, event: NewEvent) {
    order.push(event.kind)
    return record.call(this, event)
  })
  t.mock.timers.reset()
  await app.close()
  assert.deepEqual(order, ['draining', 'counts of 1 request', 'stopped'])
})

test('an instance closes once the event of its end is recorded, or after half a second, and records nothing later', async (t) => {
  for (const isSilent of [false, true]) {
    const { app } = await start(t)
    await turn()
    const recorded: string[] = []
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const record = t.mock.method(MemoryHistoryStore.prototype, 'record', (event: NewEvent) => {
      recorded.push(event.kind)
      return promise
    })
    let isClosed = false
    const closing = app.close().then(() => {
      isClosed = true
    })
    await until(() => recorded.length > 0)
    for (let i = 0; i < 20; i++) await turn()
    assert.equal(isClosed, false)
    if (!isSilent) resolve(true)
    await closing
    const { length } = recorded
    for (const name of ['fleet:check', 'fleet:leader'])
      channel(name).publish({ instance: 'a', check: 'x', job: 'x', status: 'down', critical: false, error: null })
    await turn()
    assert.equal(recorded.length, length)
    record.mock.restore()
  }
})

test('an instance that sheds no load writes its figures', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_800_000_000_000 })
  t.mock.method(Math, 'random', () => 0)
  const add = t.mock.method(MemoryHistoryStore.prototype, 'add')
  await start(t, false)
  t.mock.timers.tick(stepMs)
  await turn()
  const { counts: written } = add.mock.calls[0]?.arguments[0] ?? assert.fail()
  assert.deepEqual([written.get('n'), written.has('k'), written.has('x')], [1, true, false])
  t.mock.timers.reset()
})

test('the figures of routes are read again after 10 s, and after a failure', async (t) => {
  let now = 0
  const { past } = await start(t)
  t.mock.method(performance, 'now', () => now)
  const read = t.mock.method(MemoryHistoryStore.prototype, 'routes', async () => [
    new Map([['GET /', counts({ r: 7, 1: 7 })]]),
  ])
  const [{ routes }, again] = await Promise.all([past.routes(), past.routes()])
  assert.partialDeepStrictEqual(routes, [{ method: 'GET', route: '/', requests: 7 }])
  assert.deepEqual([again.routes === routes, read.mock.callCount()], [true, 1])
  now = 10_000
  await past.routes()
  assert.equal(read.mock.callCount(), 1)
  now = 10_001
  read.mock.mockImplementation(async () => {
    throw new Error('unavailable')
  })
  await assert.rejects(past.routes(), { message: 'unavailable' })
  await turn()
  await assert.rejects(past.routes(), { message: 'unavailable' })
  assert.equal(read.mock.callCount(), 3)
})

test('a killed instance is recorded with its last entry, unless it has said why it ends', async (t) => {
  const { app, past } = await start(t)
  const startedAt = new Date(Date.now() - 60_000).toISOString()
  const victim = { ...peer('b'), version: '2', pool: 'v2', startedAt, lastSeen: startedAt }
  app.fleet.peers = () => [app.fleet.self(), victim]
  const killed = (instance: string, given: object = {}) =>
    past.post({ kind: 'killed', text: 'SIGKILL', instance, ...given })
  const gone = async (): Promise<unknown[]> =>
    (await past.departed()).map(({ id, reason, detail, version, pool, host }) => [
      id,
      reason,
      detail,
      version,
      pool,
      host,
    ])
  await past.departed()
  await killed('b')
  assert.deepEqual(await gone(), [['b', 'killed', 'SIGKILL', '2', 'v2', 'host-b']], 'at once')
  const told = (await past.events({ limit: 10 })).map(({ kind }) => kind)
  assert.deepEqual(told, ['killed', 'ready', 'started'], 'once')
  await killed('b', { version: '3' })
  assert.deepEqual(await gone(), [['b', 'killed', 'SIGKILL', '3', 'v2', 'host-b']], 'also when its end was recorded')
  await killed('z')
  assert.deepEqual((await gone())[0], ['z', 'killed', 'SIGKILL', null, null, null], 'nobody knows it')
  await past.post({ kind: 'deploy-started', text: 'b again', instance: 'b' })
  assert.equal((await past.events({ limit: 1 }))[0]?.kind, 'deploy-started')

  const store = t.mock.method(MemoryHistoryStore.prototype, 'record')
  const stopped = {
    id: `${Date.now() + 1_000}-0`,
    at: Date.now(),
    kind: 'stopped',
    text: 'SIGTERM',
    instance: 'c',
  } as const
  t.mock.method(MemoryHistoryStore.prototype, 'events', async () => [stopped])
  await killed('c')
  assert.equal(store.mock.callCount(), 0, 'a supervisor only sees its exit code')
  await past.post({ kind: 'deploy-step', text: 'c is replaced', instance: 'c' })
  assert.equal(store.mock.callCount(), 1)
  await killed('d')
  assert.equal(store.mock.callCount(), 2)
})

test('lost instances are recorded with what is known of them, and not by an instance that has closed', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let gone: GoneListener = () => {}
  const { app, past } = await start(t, false, ({ fleet }) => {
    fleet.onGone = (listener) => {
      gone = listener
    }
  })
  const lastSeen = new Date(Date.now() - 60_000).toISOString()
  gone({ ...peer('seen'), lastSeen }, true)
  gone({ ...peer('unseen'), lastSeen }, false)
  t.mock.timers.tick(3_000)
  for (let i = 0; i < 3; i++) await turn()
  const lost = (await past.events({ limit: 10 })).filter(({ kind }) => kind === 'lost')
  assert.deepEqual(
    lost.map(({ instance, text }) => `${instance} ${text.replace(/\d+/, 'N')}`),
    ['unseen gone before the present instances started', 'seen last seen N s before'],
  )
  gone({ ...peer('late'), lastSeen }, true)
  await app.close()
  t.mock.timers.tick(3_000)
  for (let i = 0; i < 3; i++) await turn()
  t.mock.timers.reset()
  assert.ok(!(await past.events({ limit: 10 })).some(({ instance }) => instance === 'late'))
})

test('everything is read by the clock of the store', async (t) => {
  const hourMs = 3_600_000
  t.mock.method(MemoryHistoryStore.prototype, 'time', async () => Date.now() + 24 * hourMs)
  const { app, past } = await start(t)
  await until(() => past.now() > Date.now() + 23 * hourMs)
  app.fleet.peers = () => [app.fleet.self()]
  const asked = t.mock.method(MemoryHistoryStore.prototype, 'counts', async () => [])
  await past.points('15m', 0)
  const [, starts = []] = (asked.mock.calls[0]?.arguments ?? []) as [kind?: string, starts?: number[]]
  assert.ok((starts[0] ?? 0) > Date.now() + 23 * hourMs, 'the last 15 minutes')
  await past.post({ kind: 'killed', text: 'SIGKILL', instance: 'b' })
  assert.deepEqual(await past.departed(), [], 'it was killed a day ago by that clock')
})

test('the counts of routes are written less often in a large fleet', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_800_000_000_000 })
  t.mock.method(Math, 'random', () => 0)
  const add = t.mock.method(MemoryHistoryStore.prototype, 'add')
  const { app } = await start(t, false)
  app.fleet.peers = () => Array.from({ length: 21 }, () => app.fleet.self())
  const written: boolean[] = []
  for (let i = 0; i < 2; i++) {
    await app.inject('/items/1')
    t.mock.timers.tick(stepMs)
    for (let n = 0; n < 3; n++) await turn()
    written.push((add.mock.calls.at(-1)?.arguments[0].routes.size ?? 0) > 0)
  }
  assert.deepEqual(written, [false, true])
  t.mock.timers.reset()
})
