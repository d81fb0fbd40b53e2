import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { type GroupOptions, InstanceGroup } from '../../../src/cli/up/group.ts'
import { LocalInstance } from '../../../src/cli/up/instances.ts'
import { Tally } from '../../../src/cli/up/tally.ts'
import { mockTimers } from '../../helpers/clock.ts'

const shutdownTimeoutMs = 7_000
const noticeMs = 2_500
const realTurn = setImmediate
const turn = (): Promise<void> => new Promise((resolve) => realTurn(() => realTurn(resolve)))

/** A group whose processes and clock the test controls. */
function create(t: TestContext, given: Partial<GroupOptions> = {}) {
  mockTimers(t)
  const steps: string[] = []
  const events: string[] = []
  const starting = new Map<number, PromiseWithResolvers<void>>()
  const unclean = new Set<number>()
  let endsStart = true
  t.mock.method(LocalInstance.prototype, 'start', function start(this: LocalInstance) {
    steps.push(`start ${this.number}, port ${this.port}`)
    const start = Promise.withResolvers<void>()
    starting.set(this.number, start)
    return start.promise
  })
  t.mock.method(LocalInstance.prototype, 'stop', async function stop(this: LocalInstance, withinMs: number) {
    steps.push(`stop ${this.number} within ${withinMs}`)
    if (endsStart) starting.get(this.number)?.reject(new Error('stopped'))
    return !unclean.has(this.number)
  })
  t.mock.getter(LocalInstance.prototype, 'id', function id(this: LocalInstance) {
    return `app-${this.number}`
  })
  const tally = new Tally()
  const group = new InstanceGroup({
    ...{ file: 'app.js', env: {}, spare: true, ports: [4001, 4002, 4003], shutdownTimeoutMs, noticeMs, tally },
    onEvent: (line) => void events.push(line),
    ...given,
  })
  const settle = async (number: number, act: (start: PromiseWithResolvers<void>) => void): Promise<void> => {
    const start = starting.get(number)
    assert.ok(start, `${number} is not starting: ${steps}`)
    starting.delete(number)
    act(start)
    await turn()
  }
  return {
    group,
    tally,
    unclean,
    /** From now on, an instance becomes ready although it was asked to stop. */
    lateStop(): void {
      endsStart = false
    },
    /** What happened since the last call. */
    steps: () => steps.splice(0),
    events: () => events.splice(0),
    ready: (number: number) => settle(number, ({ resolve }) => resolve()),
    fail: (number: number) => settle(number, ({ reject }) => reject(new Error('a syntax error'))),
    async pass(ms: number): Promise<void> {
      t.mock.timers.tick(ms)
      await turn()
    },
  }
}

async function served(t: TestContext, given: Partial<GroupOptions> = {}) {
  const all = create(t, given)
  const started = all.group.start()
  for (const step of all.steps()) await all.ready(Number(step.split(/\D+/)[1]))
  await started
  return all
}

const numbers = (group: InstanceGroup): number[] => group.all.map(({ number }) => number)

describe('a reload of fleet up', () => {
  it('starts a new instance on the free port before it drains an old one, and ends with the same ports', async (t) => {
    const { group, tally, steps, events, ready } = await served(t)
    group.reload('app.js')
    assert.deepEqual(steps(), ['start 3, port 4003'])
    assert.deepEqual(numbers(group), [1, 2])
    await ready(3)
    assert.deepEqual(steps(), [`stop 1 within ${shutdownTimeoutMs}`, 'start 1, port 4001'])
    assert.deepEqual(numbers(group), [2, 3])
    await ready(1)
    assert.deepEqual(steps(), [`stop 2 within ${shutdownTimeoutMs}`, 'start 2, port 4002'])
    assert.deepEqual(numbers(group), [1, 3], 'in the order of their ports')
    await ready(2)
    assert.deepEqual(steps(), [`stop 3 within ${shutdownTimeoutMs}`])
    assert.deepEqual([numbers(group), tally.reloads], [[1, 2], 1])
    assert.deepEqual(events(), [
      'app.js changed; reloading 2 instances',
      ...[
        'app-3 is ready, process undefined; it replaces app-1',
        'app-1 is ready, process undefined; it replaces app-2',
      ],
      ...['app-2 is ready, process undefined; it replaces app-3', 'reloaded 2 instances'],
    ])
  })

  it('keeps a single instance until the front has noticed the new one', async (t) => {
    const { group, steps, ready, pass } = await served(t, { ports: [4001, 4002] })
    group.reload('app.js')
    await ready(2)
    await pass(noticeMs - 1)
    assert.deepEqual([steps(), numbers(group)], [['start 2, port 4002'], [1, 2]])
    await pass(1)
    assert.deepEqual(steps(), [`stop 1 within ${shutdownTimeoutMs}`, 'start 1, port 4001'])
  })

  it('is complete only if nothing changed before its last step', async (t) => {
    const { group, tally, events, ready, pass } = await served(t, { ports: [4001, 4002] })
    group.reload('app.js')
    await ready(2)
    group.reload('b.js')
    await pass(noticeMs)
    assert.deepEqual([numbers(group), tally.reloads], [[2], 0])
    assert.equal(events().at(-1), 'b.js changed; reloading 1 instance')
    await ready(1)
    await pass(noticeMs)
    assert.deepEqual([numbers(group), tally.reloads, events().at(-1)], [[1], 1, 'reloaded 1 instance'])
  })

  it('keeps the old instances if a new one does not become ready, and says so if no change follows', async (t) => {
    const { group, tally, steps, events, fail, ready, pass } = await served(t)
    group.reload('app.js')
    await ready(3)
    steps()
    await fail(1)
    assert.deepEqual([steps(), numbers(group)], [['stop 1 within 0'], [2, 3]])
    events()
    await pass(199)
    assert.deepEqual(events(), [])
    await pass(1)
    assert.deepEqual(events(), ['not reloaded, the old instances keep serving: a syntax error'])
    assert.equal(tally.reloads, 0)
    group.reload('b.js')
    assert.deepEqual(steps(), ['start 1, port 4001'])
  })

  it('says nothing of a failure that a change follows', async (t) => {
    const { group, events, fail, pass } = await served(t)
    group.reload('app.js')
    await fail(3)
    group.reload('b.js')
    await pass(200)
    assert.deepEqual(events(), ['app.js changed; reloading 2 instances', 'b.js changed; reloading 2 instances'])
  })

  it('ends at a further change: what starts is stopped at once, and another reload follows', async (t) => {
    const { group, tally, steps, events, ready } = await served(t)
    group.reload('app.js')
    steps()
    group.reload('b.js')
    await turn()
    assert.deepEqual(steps(), ['stop 3 within 0', 'stop 3 within 0', 'start 3, port 4003'])
    await ready(3)
    group.reload('c.js')
    await turn()
    assert.deepEqual(numbers(group), [2, 3])
    for (const number of [1, 2]) await ready(number)
    assert.deepEqual([numbers(group), tally.reloads], [[1, 2], 1])
    assert.deepEqual(
      events().filter((line) => line.includes('reload')),
      ['app.js', 'b.js', 'c.js'].map((file) => `${file} changed; reloading 2 instances`).concat('reloaded 2 instances'),
    )
  })

  it('mentions an old instance that did not exit cleanly', async (t) => {
    const { group, unclean, events, ready } = await served(t)
    unclean.add(1)
    group.reload('app.js')
    await ready(3)
    assert.equal(events().at(-1), 'app-1 did not exit cleanly')
  })
})

describe('the start of the instances', () => {
  it('fails at once without --watch, and uses every port', async (t) => {
    const { group, steps, fail } = create(t, { spare: false })
    const started = assert.rejects(group.start(), /a syntax error/)
    assert.deepEqual(steps(), ['start 1, port 4001', 'start 2, port 4002', 'start 3, port 4003'])
    await fail(2)
    await started
    assert.deepEqual(steps(), [])
  })

  it('with --watch waits for a change after a failure, and begins again with all', async (t) => {
    const { group, steps, events, fail, ready, pass } = create(t)
    const started = group.start()
    steps()
    await fail(1)
    assert.deepEqual(steps(), ['stop 1 within 0', 'stop 2 within 0'])
    await pass(199)
    assert.deepEqual(events(), [])
    await pass(1)
    assert.deepEqual(events(), ['not started, waiting for a change: a syntax error'])
    assert.deepEqual(steps(), [])
    group.reload('app.js')
    await turn()
    assert.deepEqual(events(), ['app.js changed; starting 2 instances'])
    assert.deepEqual(steps().slice(-2), ['start 1, port 4001', 'start 2, port 4002'])
    await ready(1)
    await ready(2)
    await started
    assert.deepEqual([numbers(group), steps()], [[1, 2], []])
  })

  it('begins again at a change, without waiting for what hangs', async (t) => {
    const { group, steps, events, pass } = create(t)
    void group.start()
    steps()
    group.reload('app.js')
    await pass(0)
    assert.deepEqual(steps().slice(0, 2), ['stop 1 within 0', 'stop 2 within 0'])
    await turn()
    assert.deepEqual(events(), ['app.js changed; starting 2 instances'])
    assert.deepEqual(group.all.length, 2)
  })

  it('is followed by a reload if something changed when all were ready', async (t) => {
    const { group, steps, events, ready, lateStop } = create(t)
    const started = group.start()
    lateStop()
    group.reload('app.js')
    steps()
    await ready(1)
    await ready(2)
    await started
    await turn()
    assert.deepEqual(steps(), ['start 3, port 4003'])
    assert.deepEqual(events(), ['app.js changed; reloading 2 instances'])
  })
})

describe('the end of the instances', () => {
  it('drains all, ends what starts, and starts no other', async (t) => {
    const { group, steps } = await served(t)
    group.reload('app.js')
    steps()
    const stopped = group.stop()
    const within = `within ${shutdownTimeoutMs}`
    assert.deepEqual(steps(), [`stop 1 ${within}`, `stop 2 ${within}`, 'stop 3 within 0'])
    await turn()
    assert.equal(await stopped, true)
    group.reload('b.js')
    await turn()
    // A second stop is of the start that failed.
    assert.deepEqual(steps(), ['stop 3 within 0'])
  })

  it('drains an instance that becomes ready meanwhile', async (t) => {
    const { group, steps, ready, lateStop } = await served(t)
    group.reload('app.js')
    lateStop()
    const stopped = group.stop()
    steps()
    await ready(3)
    assert.equal(await stopped, true)
    assert.deepEqual([steps(), numbers(group)], [[`stop 3 within ${shutdownTimeoutMs}`], [1, 2]])
  })

  it('drains the old and the new instance once while the front has not noticed the new one', async (t) => {
    const { group, steps, ready, pass } = await served(t, { ports: [4001, 4002] })
    group.reload('app.js')
    await ready(2)
    steps()
    const stopped = group.stop()
    await pass(noticeMs)
    assert.equal(await stopped, true)
    assert.deepEqual(
      steps(),
      [1, 2].map((number) => `stop ${number} within ${shutdownTimeoutMs}`),
    )
  })

  it('reports an instance that did not exit with 0', async (t) => {
    const { group, unclean } = await served(t)
    unclean.add(2)
    assert.equal(await group.stop(), false)
  })

  it('ends the wait for a change, with the error of the start', async (t) => {
    const { group, fail, pass } = create(t)
    const started = assert.rejects(group.start(), /a syntax error/)
    await fail(1)
    await pass(200)
    assert.equal(await group.stop(), true)
    await started
  })
})
