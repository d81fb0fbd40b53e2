import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { health } from '../../../src/instance/health/index.ts'
import { identity } from '../../../src/instance/identity.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { overload } from '../../../src/instance/overload/index.ts'
import { history } from '../../../src/state/history/index.ts'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { Recorder } from '../../../src/state/history/recorder.ts'
import type { HistoryWrite } from '../../../src/state/history/store.ts'
import { locks } from '../../../src/state/locks/index.ts'
import { until } from '../../helpers/until.ts'

async function start(t: TestContext): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'shop', id: 'a' })
  await app.register(overload)
  await app.register(lifecycle, { signals: false })
  await app.register(metrics)
  await app.register(health, { eventLoop: undefined, checks: { fall: 1, rise: 1 } })
  await app.register(locks)
  await app.register(history)
  app.get('/', async () => 'hello')
  return app
}
const told = async (app: FastifyInstance): Promise<string[]> => {
  const events = (await app.fleet.history?.events({ limit: 100 })) ?? []
  return events.reverse().map(({ kind, text }) => `${kind}: ${text}`)
}

test('an instance records that it leads, that a check fails and recovers, and its end', async (t) => {
  const app = await start(t)
  let error: string | undefined = 'no route'
  app.health.add(
    'mail',
    () => {
      if (error !== undefined) throw new Error(error)
    },
    { critical: true },
  )
  const { events } = app.fleet.history ?? assert.fail()
  app.fleet.leader('reports', () => {})
  await app.listen({ port: 0, host: '127.0.0.1' })
  await until(async () => (await told(app)).includes('check-failed: mail (critical): no route'))
  await until(async () => (await told(app)).includes('leader-changed: leads reports'))
  assert.ok(!(await told(app)).some((text) => text.startsWith('ready')), 'a critical check fails')
  error = undefined
  await app.health.check()
  await until(async () => (await told(app)).some((text) => text.startsWith('ready: after')))
  assert.ok((await told(app)).includes('check-recovered: mail (critical)'))
  await app.fleet.shutdown('maintenance')
  const [last, , ...others] = await events({ limit: 100 })
  assert.match(last?.text ?? '', /^maintenance, drained in [\d.]+ s$/)
  assert.deepEqual([last?.kind, last?.entry?.state], ['stopped', 'draining'])
  assert.equal(others.filter(({ kind }) => kind === 'stopped').length, 0)
})

test('a recorder writes each step once, by the clock of the store, and drops what it cannot write', async (t) => {
  const minute = 1_800_000_000_000
  let now = minute - 3_600_000 + 1_234
  t.mock.method(Date, 'now', () => now)
  t.mock.method(Math, 'random', () => 0.4)
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const store = new MemoryHistoryStore()
  const added: HistoryWrite[] = []
  let isDown = false
  // Its clock is an hour ahead.
  store.time = async () => {
    if (isDown) throw new Error('unavailable')
    return now + 3_600_000
  }
  store.add = async (write) => {
    const time = await store.time()
    added.push(write)
    return time
  }
  const results: boolean[] = []
  let taken = 0
  const recorder = new Recorder({
    ...{ store, process: 'a 1', back: { kind: 'ready', text: 'back' } },
    counts: () => new Map(Object.entries({ n: 1, r: ++taken })),
    routes: () => new Map([['GET /', new Map([['r', 1]])]]),
    peers: () => 30,
    done: (isWritten) => results.push(isWritten),
  })
  const pass = async (ms: number): Promise<void> => {
    now += ms
    t.mock.timers.tick(ms)
    for (let i = 0; i < 20; i++) await Promise.resolve()
  }
  recorder.start()
  await pass(0)
  assert.equal(recorder.now(), minute + 1_234)
  const steps = (): number[] => added.map(({ start }) => (start - minute) / 1_000)
  await pass(9_765)
  assert.deepEqual(steps(), [], 'the step ends at 10 s, and this instance writes a second later')
  await pass(1)
  assert.deepEqual([steps(), results], [[0], [true]])
  isDown = true
  await pass(10_000)
  isDown = false
  await pass(10_000)
  assert.deepEqual(
    [steps(), results],
    [
      [0, 20],
      [true, false, true],
    ],
  )
  assert.deepEqual(
    added.map(({ counts }) => counts.get('r')),
    [1, 3],
    'the second was dropped',
  )
  // Of 30 instances each writes its routes with every other step.
  assert.deepEqual(
    added.map(({ routes }) => routes.size),
    [0, 0],
  )
  await pass(10_000)
  assert.deepEqual(added.at(-1)?.routes.size, 1)
  await recorder.stop()
  const last = added.at(-1)
  assert.deepEqual([steps().at(-1), last?.process, last?.counts.has('n'), last?.counts.get('r')], [40, '', false, 5])
  await pass(60_000)
  assert.equal(added.length, 4)
})
