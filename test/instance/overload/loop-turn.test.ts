import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { LoopTurn } from '../../../src/instance/overload/loop-turn.ts'

/** A turn whose clock only moves with `busy` and `rest`. */
function build(t: TestContext): { turn: LoopTurn; busy(ms: number): void; rest(ms: number): void } {
  let now = 0
  let idle = 0
  t.mock.method(performance, 'now', () => now)
  t.mock.method(performance, 'eventLoopUtilization', () => ({ idle, active: now - idle, utilization: 0 }))
  return {
    turn: new LoopTurn(),
    busy(ms) {
      now += ms
    },
    rest(ms) {
      now += ms
      idle += ms
    },
  }
}

describe('event-loop turn', () => {
  it('starts with its first request', async (t) => {
    const { turn, busy } = build(t)
    assert.equal(turn.enter(), 0)
    busy(7)
    assert.equal(turn.enter(), 7)
    assert.equal(turn.requests, 2)
    await nextTurn()
    assert.equal(turn.enter(), 0)
  })

  it('reports the previous turn and the time since the last idle moment', async (t) => {
    const { turn, busy } = build(t)
    for (let i = 0; i < 5; i++) turn.enter()
    busy(30)
    await nextTurn()
    turn.enter()
    assert.equal(turn.previousMs, 30)
    assert.equal(turn.requests, 5)
    assert.equal(turn.busyMs, 30)
    busy(12)
    await nextTurn()
    turn.enter()
    assert.equal(turn.previousMs, 12)
    assert.equal(turn.requests, 1)
    assert.equal(turn.busyMs, 42)
  })

  it('handles deferred requests after all were read, newest first, and lasts until then', async (t) => {
    const { turn, busy } = build(t)
    const order: number[] = []
    for (const number of [1, 2, 3]) {
      turn.enter()
      turn.defer(() => {
        order.push(number)
        busy(10)
      })
    }
    assert.deepEqual(order, [])
    await nextTurn()
    assert.deepEqual(order, [3, 2, 1])
    turn.enter()
    assert.equal(turn.previousMs, 30)
    assert.equal(turn.requests, 3)
  })

  it('runs the microtasks of a deferred request before the next one', async (t) => {
    const { turn } = build(t)
    const order: string[] = []
    for (const name of ['first', 'last']) {
      turn.enter()
      turn.defer(() => {
        order.push(name)
        void Promise.resolve().then(() => order.push(`${name}, then`))
      })
    }
    await nextTurn()
    assert.deepEqual(order, ['last', 'last, then', 'first', 'first, then'])
  })

  it('forgets the previous turn after an idle moment', async (t) => {
    const { turn, busy, rest } = build(t)
    for (let i = 0; i < 5; i++) turn.enter()
    busy(900)
    await nextTurn()
    rest(1)
    turn.enter()
    assert.deepEqual([turn.busyMs, turn.previousMs, turn.requests], [0, 0, 1])
  })
})
