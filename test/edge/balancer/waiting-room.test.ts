import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import { WaitingRoom } from '../../../src/edge/balancer/waiting-room.ts'

describe('a waiting room', () => {
  it('calls waiters in order of arrival, each once', () => {
    const waiting = new WaitingRoom(10)
    const called: number[] = []
    for (let i = 0; i < 4; i++) waiting.enter(1000, () => called.push(i))
    waiting.wake(1)
    assert.deepEqual(called, [0])
    waiting.wake()
    waiting.wake()
    assert.deepEqual(called, [0, 1, 2, 3])
    assert.equal(waiting.length, 0)
  })

  it('wakes each waiter once, even if all enter again', () => {
    const waiting = new WaitingRoom(10)
    let calls = 0
    const again = (): void => {
      calls++
      if (calls < 100) waiting.enter(1000, again)
    }
    for (let i = 0; i < 3; i++) waiting.enter(1000, again)
    waiting.wake()
    assert.equal(calls, 3)
    waiting.wake(99)
    calls = 100
    waiting.wake()
  })

  it('is bounded in number and in time; waiters can leave', () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    const waiting = new WaitingRoom(2)
    const ends: string[] = []
    const leave = waiting.enter(100, () => ends.push('a'))
    assert.ok(waiting.enter(50, (again) => ends.push(`b ${again}`)))
    assert.equal(
      waiting.enter(50, () => ends.push('c')),
      undefined,
    )
    leave?.()
    assert.equal(
      waiting.enter(0, () => ends.push('d')),
      undefined,
    )
    mock.timers.tick(200)
    assert.deepEqual(ends, ['b false'])
    mock.timers.reset()
  })

  it('ends each wait after exactly its time, and calls nobody who was woken or has left', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const waiting = new WaitingRoom(3)
    const ends: string[] = []
    waiting.enter(100, (again) => ends.push(`a ${again}`))
    waiting.enter(1, (again) => ends.push(`b ${again}`))
    waiting.wake(1)
    t.mock.timers.tick(1)
    assert.deepEqual([ends, waiting.length], [['a true', 'b false'], 0])
    const leave = waiting.enter(50, (again) => ends.push(`c ${again}`))
    t.mock.timers.tick(49)
    leave?.()
    waiting.wake()
    t.mock.timers.tick(100)
    assert.deepEqual([ends.length, waiting.length], [2, 0])
  })

  it('holds exactly its size, and none with size 0', () => {
    const waiting = new WaitingRoom(2)
    const leave = [1, 2, 3].map(() => waiting.enter(1000, () => {}))
    assert.deepEqual([leave.map(Boolean), waiting.length], [[true, true, false], 2])
    leave[0]?.()
    assert.equal(waiting.length, 1)
    assert.ok(waiting.enter(1000, () => {}))
    assert.equal(
      new WaitingRoom(0).enter(1000, () => {}),
      undefined,
    )
    assert.equal(
      new WaitingRoom(1).enter(-1, () => {}),
      undefined,
    )
    waiting.wake(0)
    assert.equal(waiting.length, 2)
    waiting.wake()
  })
})
