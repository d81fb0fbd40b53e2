import assert from 'node:assert/strict'
import { channel } from 'node:diagnostics_channel'
import { describe, type TestContext, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { health } from '../../../src/instance/health/index.ts'
import { identity } from '../../../src/instance/identity.ts'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { overload } from '../../../src/instance/overload/index.ts'
import type { NewEvent } from '../../../src/state/history/events.ts'
import { history } from '../../../src/state/history/index.ts'
import type { Outbox } from '../../../src/state/history/outbox.ts'
import { lastEntryOf, OwnEvents } from '../../../src/state/history/own-events.ts'
import type { RecordOptions } from '../../../src/state/history/store.ts'
import { locks } from '../../../src/state/locks/index.ts'
import { until } from '../../helpers/until.ts'
import { peer } from '../registry/fake-peers.ts'

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

describe('an instance', () => {
  const begun = Date.parse('2026-01-01T00:00:00Z')
  /** An instance `a` whose state the test sets. `told` has what it records. */
  function open(t: TestContext) {
    let now = begun + 1_500
    t.mock.method(Date, 'now', () => now)
    t.mock.method(performance, 'now', () => now)
    t.mock.timers.enable({ apis: ['setInterval'] })
    let listener: (state: string) => void = () => {}
    const instance = {
      ...{ id: 'a', version: '2', pool: 'p', pid: 7, host: 'h' },
      startedAt: new Date(begun).toISOString(),
    }
    const fleet = {
      ...{ instance, state: 'starting', ready: true },
      stopping: undefined as object | undefined,
      fatal: undefined as Error | undefined,
      self: () => ({ ...peer('a'), startedAt: 'then' }),
      onState: (added: typeof listener) => {
        listener = added
      },
    }
    const recorded: { event: NewEvent; options: RecordOptions }[] = []
    const outbox = { add: (event: NewEvent, options: RecordOptions = {}) => recorded.push({ event, options }) }
    let started = 0
    const own = new OwnEvents({ fleet } as never, outbox as unknown as Outbox, () => started++)
    t.after(() => own.close())
    return {
      ...{ fleet, own, recorded },
      begins: () => started,
      enter(state: string): void {
        fleet.state = state
        listener(state)
      },
      told: () => recorded.splice(0).map(({ event: { kind, text } }) => `${kind}: ${text}`),
      pass(ms: number): void {
        now += ms
        t.mock.timers.tick(ms)
      },
    }
  }

  test('records its start, and the first time that it is ready, within 250 ms', (t) => {
    const { fleet, recorded, begins, enter, told, pass } = open(t)
    fleet.ready = false
    enter('serving')
    assert.partialDeepStrictEqual(recorded[0]?.event, { instance: 'a', version: '2', pool: 'p' })
    assert.deepEqual([told(), begins()], [['started: version 2, process 7 on h'], 1])
    fleet.ready = true
    pass(249)
    assert.deepEqual(told(), [])
    pass(1)
    assert.deepEqual(told(), ['ready: after 1.8 s'])
    pass(5_000)
    assert.deepEqual(told(), [])
    enter('draining')
    enter('serving')
    assert.deepEqual(
      [told(), begins()],
      [['draining: out of rotation, still serving', 'undrained: back in rotation'], 1],
    )
  })

  test('that is ready when it starts says so at once', (t) => {
    const { enter, told } = open(t)
    enter('serving')
    assert.deepEqual(told(), ['started: version 2, process 7 on h', 'ready: after 1.5 s'])
  })

  test('that drains before it was ready is never reported as ready', (t) => {
    const { fleet, enter, told, pass } = open(t)
    fleet.ready = false
    enter('serving')
    enter('draining')
    told()
    pass(250)
    fleet.ready = true
    enter('serving')
    pass(1_000)
    assert.deepEqual(told(), ['undrained: back in rotation'])
  })

  test('that never served records no end', (t) => {
    const { enter, told, begins } = open(t)
    enter('draining')
    enter('closed')
    assert.deepEqual([told(), begins()], [[], 0])
  })

  test('records why it ends, how long it drained, and its last entry', (t) => {
    const { fleet, recorded, enter, told, pass } = open(t)
    enter('serving')
    fleet.stopping = { reason: 'SIGTERM', since: begun + 1_500 }
    enter('draining')
    assert.equal(told().at(-1), 'draining: SIGTERM: shuts down')
    pass(5_249)
    fleet.fatal = new Error('out of memory')
    enter('closed')
    const [last] = recorded
    assert.deepEqual(last?.options, { process: 'a then' })
    assert.partialDeepStrictEqual(last?.event, {
      ...{ kind: 'stopped', text: 'SIGTERM: out of memory, drained in 5.2 s', instance: 'a' },
      entry: { host: 'host-a', port: 3_000, zone: null, state: 'draining', startedAt: 'then' },
    })
  })

  test('that an app closes was not draining', (t) => {
    const { recorded, enter, told } = open(t)
    enter('serving')
    told()
    enter('closed')
    assert.partialDeepStrictEqual(recorded, [{ event: { text: 'closed', entry: { state: 'closed' } } }])
  })

  test('records failures and recoveries of its own checks, each once, and no degraded ones', (t) => {
    const { recorded, own, told } = open(t)
    const publish = (check: string, status: string, given: object = {}): void =>
      channel('fleet:check').publish({ check, status, instance: 'a', critical: false, error: null, ...given })
    publish('redis', 'up')
    publish('redis', 'degraded')
    publish('redis', 'down', { instance: 'b', error: 'of another instance' })
    publish('redis', 'up')
    assert.deepEqual(told(), [])
    publish('redis', 'down', { error: 'no route' })
    publish('mail', 'down', { critical: true })
    publish('redis', 'degraded')
    publish('redis', 'up', { error: 'an old one' })
    publish('redis', 'up')
    assert.deepEqual(
      recorded.map(({ options }) => options.limit),
      ['check-failed redis', 'check-failed mail', 'check-recovered redis'],
    )
    assert.deepEqual(told(), [
      'check-failed: redis: no route',
      'check-failed: mail (critical)',
      'check-recovered: redis',
    ])
    own.close()
    publish('mail', 'up')
    assert.deepEqual(told(), [])
  })

  test('records which jobs it leads itself', (t) => {
    const { recorded, own } = open(t)
    for (const instance of ['b', 'a']) channel('fleet:leader').publish({ instance, job: `of ${instance}` })
    const event = { kind: 'leader-changed', text: 'leads of a', instance: 'a', version: '2', pool: 'p' }
    assert.deepEqual(recorded, [{ event, options: { limit: 'leader-changed of a' } }])
    own.close()
    channel('fleet:leader').publish({ instance: 'a', job: 'late' })
    assert.equal(recorded.length, 1)
  })

  test('records that it sheds requests, at most once per minute', (t) => {
    const { own, recorded, told, pass } = open(t)
    own.shed(0, 10_000)
    own.shed(5, 10_000)
    assert.deepEqual(recorded[0]?.options, { limit: 'limit-hit' })
    pass(59_999)
    own.shed(6, 10_000)
    pass(1)
    own.shed(7, 10_000)
    assert.deepEqual(
      told(),
      [5, 7].map((count) => `limit-hit: sheds load: ${count} requests in 10 s`),
    )
  })

  test('is back under its own name', (t) => {
    const text = 'back: its entry had expired'
    assert.deepEqual(open(t).own.back(), { kind: 'ready', text, instance: 'a', version: '2', pool: 'p' })
  })

  test('without port and zone has a last entry', () => {
    const lastSeen = new Date(begun).toISOString()
    const { port, zone, ...entry } = lastEntryOf({ ...peer('a'), port: undefined, zone: undefined, lastSeen })
    assert.deepEqual([port, zone], [null, null])
    assert.deepEqual(entry, { host: 'host-a', state: 'serving', startedAt: 'now', lastSeen: begun })
    const { zone: named } = lastEntryOf({ ...peer('a'), zone: 'z', lastSeen })
    assert.equal(named, 'z')
  })
})
