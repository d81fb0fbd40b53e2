import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { Recorder } from '../../../src/state/history/recorder.ts'
import type { HistoryWrite } from '../../../src/state/history/store.ts'
import { back } from './contract.ts'

const minute = 1_800_000_000_000
const hourMs = 3_600_000
/** One request, as counted in each step. */
const one = (): Map<string, number> =>
  new Map([
    ['n', 1],
    ['u', 7],
    ['k', 9],
    ['r', 1],
  ])

/** A recorder that writes a second after the end of each step. The clock of its store is an hour ahead. */
function open(t: TestContext, { peers = 1, counts = one } = {}) {
  let now = minute - hourMs + 1_234
  t.mock.method(Date, 'now', () => now)
  t.mock.method(Math, 'random', () => 0.4)
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const store = new MemoryHistoryStore()
  const added: HistoryWrite[] = []
  const results: boolean[] = []
  const redis = { isDown: false, onCall: (): Promise<void> | void => {} }
  store.time = async () => {
    await redis.onCall()
    if (redis.isDown) throw new Error('unavailable')
    return now + hourMs
  }
  store.add = async (write) => {
    const time = await store.time()
    added.push(write)
    return time
  }
  const recorder = new Recorder({
    ...{ store, process: 'a 1', back, counts, peers: () => peers },
    routes: () => new Map([['GET /', new Map([['r', 1]])]]),
    done: (isWritten) => results.push(isWritten),
  })
  /** @param early how much a timer fires before its time, ms */
  const pass = async (ms: number, early = 0): Promise<void> => {
    now += ms - early
    t.mock.timers.tick(ms)
    for (let i = 0; i < 20; i++) await Promise.resolve()
    now += early
  }
  const steps = (): number[] => added.map(({ start }) => (start - minute) / 1_000)
  const elapse = (ms: number): void => {
    now += ms
  }
  return { recorder, redis, added, results, pass, steps, elapse }
}

describe('a recorder', () => {
  test('writes each step once, by the clock of the store, and drops what it cannot write', async (t) => {
    let taken = 0
    const counts = () => new Map(Object.entries({ n: 1, r: ++taken }))
    const { recorder, redis, added, results, pass, steps } = open(t, { peers: 30, counts })
    recorder.start()
    await pass(0)
    assert.equal(recorder.now(), minute + 1_234)
    await pass(9_765)
    assert.deepEqual(steps(), [], 'the step ends at 10 s, and this instance writes a second later')
    await pass(1)
    assert.deepEqual([steps(), results], [[0], [true]])
    redis.isDown = true
    await pass(10_000)
    redis.isDown = false
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
    await pass(10_000)
    assert.deepEqual([added.at(-1)?.process, added.at(-1)?.back], ['a 1', back])
    await recorder.stop()
    const last = added.at(-1)
    assert.deepEqual([steps().at(-1), last?.process, last?.counts.has('n'), last?.counts.get('r')], [40, '', false, 5])
    await pass(60_000)
    assert.equal(added.length, 4)
  })

  for (const [peers, every] of [
    [1, 1],
    [20, 1],
    [21, 2],
    [100, 5],
    [120, 6],
    [121, 6],
    [1_000, 6],
  ] as const)
    test(`writes the counts of routes with every ${every}. step in a fleet of ${peers}`, async (t) => {
      const { recorder, added, pass } = open(t, { peers })
      recorder.start()
      await pass(0)
      for (let i = 0; i < 13; i++) await pass(10_000)
      const withRoutes = added.flatMap(({ routes }, i) => (routes.size > 0 ? [i + 1] : []))
      assert.deepEqual([added.length, withRoutes[0], withRoutes.length], [13, every, Math.floor(13 / every)])
    })

  test('takes half of the round trip into account when it reads the clock of the store', async (t) => {
    const { recorder, redis, pass, elapse } = open(t)
    redis.onCall = () => elapse(300)
    recorder.start()
    await pass(0)
    // The store read its clock when the reply was sent, which took no time here.
    assert.equal(recorder.now(), minute + 1_234 + 300 + 150)
  })

  test('writes no step of which it does not know the time, and goes on once it can read the clock', async (t) => {
    const { recorder, redis, results, pass, steps } = open(t)
    assert.equal(recorder.now(), minute - hourMs + 1_234, 'that of the process')
    redis.isDown = true
    recorder.start()
    await pass(9_766)
    assert.deepEqual([steps(), results], [[], [false]])
    redis.isDown = false
    await pass(10_000)
    assert.deepEqual([steps(), results], [[], [false, false]], 'now it knows the time')
    await pass(10_000)
    assert.deepEqual([steps(), results], [[20], [false, false, true]])
  })

  test('is started once', async (t) => {
    const { recorder, redis, pass, steps } = open(t)
    let calls = 0
    redis.onCall = () => void calls++
    recorder.start()
    recorder.start()
    await pass(0)
    assert.equal(calls, 1)
    await recorder.stop()
    recorder.start()
    await pass(30_000)
    assert.deepEqual(steps(), [0], 'the last step, when it stopped')
  })

  test('does not write a step twice when its timer fires early', async (t) => {
    const { recorder, pass, steps } = open(t)
    recorder.start()
    await pass(0)
    await pass(9_766, 2)
    await pass(10_001)
    assert.deepEqual(steps(), [0])
    await pass(1)
    assert.deepEqual(steps(), [0, 10])
  })

  for (const [pauseMs, last, nextMs] of [
    [30_000, 30, 10_000],
    [29_999, 20, 1],
  ] as const)
    test(`writes the counts of a pause of ${pauseMs} ms under the last step that is over`, async (t) => {
      const { recorder, pass, steps, elapse } = open(t)
      recorder.start()
      await pass(0)
      elapse(pauseMs)
      await pass(9_766)
      assert.deepEqual(steps(), [last])
      await pass(nextMs)
      assert.deepEqual(steps(), [last, last + 10])
    })

  test('writes what was counted since the last step when it stops, without the figures of the process', async (t) => {
    const { recorder, added, results, pass, steps } = open(t)
    recorder.start()
    await pass(0)
    const stopped = recorder.stop()
    assert.equal(recorder.stop(), stopped)
    await stopped
    assert.deepEqual([steps(), results], [[0], [true]])
    assert.deepEqual(added[0]?.counts, new Map([['r', 1]]))
    assert.deepEqual([added[0]?.process, [...(added[0]?.routes.keys() ?? [])]], ['', ['GET /']])
  })

  test('stops although its last write fails', async (t) => {
    const { recorder, redis, results, pass } = open(t)
    recorder.start()
    await pass(0)
    redis.isDown = true
    await recorder.stop()
    assert.deepEqual(results, [false])
  })

  for (const [when, counts, isDown, isStarted] of [
    ['it has not started', one, false, false],
    ['it does not know the time', one, true, true],
    ['nothing was counted', () => new Map([['n', 1]]), false, true],
  ] as const)
    test(`writes nothing when it stops if ${when}`, async (t) => {
      const { recorder, redis, results, added, pass } = open(t, { counts })
      redis.isDown = isDown
      if (isStarted) recorder.start()
      await pass(0)
      redis.isDown = false
      await recorder.stop()
      await pass(60_000)
      assert.deepEqual([added, results], [[], []])
    })

  test('stops when its last write is over', async (t) => {
    const { recorder, redis, pass, steps } = open(t)
    recorder.start()
    await pass(0)
    const reply = Promise.withResolvers<void>()
    redis.onCall = () => reply.promise
    await pass(9_766)
    redis.onCall = () => {}
    let isStopped = false
    const stopping = recorder.stop().then(() => {
      isStopped = true
    })
    for (let i = 0; i < 20; i++) await Promise.resolve()
    assert.deepEqual([isStopped, steps()], [false, [10]])
    reply.resolve()
    await stopping
    await pass(60_000)
    assert.deepEqual(steps(), [10, 0])
  })
})
