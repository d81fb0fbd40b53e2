import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Turn } from '../../../src/instance/overload/turn.ts'

/** A turn whose clock stands still until it is told to go on, busy or idle. */
function build(t: TestContext): { turn: Turn; busy(ms: number): void; rest(ms: number): void } {
  let now = 0
  let idle = 0
  t.mock.method(performance, 'now', () => now)
  t.mock.method(performance, 'eventLoopUtilization', () => ({ idle, active: now - idle, utilization: 0 }))
  return {
    turn: new Turn(),
    busy(ms) {
      now += ms
    },
    rest(ms) {
      now += ms
      idle += ms
    },
  }
}

describe('turn of the event loop', () => {
  it('is as old as its first request', async (t) => {
    const { turn, busy } = build(t)
    assert.equal(turn.enter(), 0)
    busy(7)
    assert.equal(turn.enter(), 7)
    assert.equal(turn.requests, 2)
    await nextTurn()
    assert.equal(turn.enter(), 0)
  })

  it('knows the one before it, and since when there was nothing idle', async (t) => {
    const { turn, busy } = build(t)
    for (let i = 0; i < 5; i++) turn.enter()
    busy(30)
    await nextTurn()
    turn.enter()
    assert.equal(turn.lastedBefore, 30)
    assert.equal(turn.requests, 5)
    assert.equal(turn.busyBefore, 30)
    busy(12)
    await nextTurn()
    turn.enter()
    assert.equal(turn.lastedBefore, 12)
    assert.equal(turn.requests, 1)
    assert.equal(turn.busyBefore, 42)
  })

  it('works off those that are held when all are read, the last one first, and lasts until then', async (t) => {
    const { turn, busy } = build(t)
    const order: number[] = []
    for (const number of [1, 2, 3]) {
      turn.enter()
      turn.hold(() => {
        order.push(number)
        busy(10)
      })
    }
    assert.deepEqual(order, [])
    await nextTurn()
    assert.deepEqual(order, [3, 2, 1])
    turn.enter()
    assert.equal(turn.lastedBefore, 30)
    assert.equal(turn.requests, 3)
  })

  it('does what a held request does without waiting before the next begins', async (t) => {
    const { turn } = build(t)
    const order: string[] = []
    for (const name of ['first', 'last']) {
      turn.enter()
      turn.hold(() => {
        order.push(name)
        void Promise.resolve().then(() => order.push(`${name}, then`))
      })
    }
    await nextTurn()
    assert.deepEqual(order, ['last', 'last, then', 'first', 'first, then'])
  })

  it('forgets what was before an idle moment', async (t) => {
    const { turn, busy, rest } = build(t)
    for (let i = 0; i < 5; i++) turn.enter()
    busy(900)
    await nextTurn()
    rest(1)
    turn.enter()
    assert.deepEqual([turn.busyBefore, turn.lastedBefore, turn.requests], [0, 0, 1])
  })
})
