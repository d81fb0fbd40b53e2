import assert from 'node:assert/strict'
import { describe, it, mock } from 'node:test'
import { WaitingRoom } from '../../../src/edge/balancer/waiting-room.ts'

describe('a waiting room', () => {
  it('calls waiters in order of arrival, each once', () => {
    const room = new WaitingRoom(10)
    const called: number[] = []
    for (let i = 0; i < 4; i++) room.enter(1000, () => called.push(i))
    room.wake(1)
    assert.deepEqual(called, [0])
    room.wake()
    room.wake()
    assert.deepEqual(called, [0, 1, 2, 3])
    assert.equal(room.length, 0)
  })

  it('wakes each waiter once, even if all enter again', () => {
    const room = new WaitingRoom(10)
    let calls = 0
    const again = (): void => {
      calls++
      if (calls < 100) room.enter(1000, again)
    }
    for (let i = 0; i < 3; i++) room.enter(1000, again)
    room.wake()
    assert.equal(calls, 3)
    room.wake(99)
    calls = 100
    room.wake()
  })

  it('is bounded in number and in time; waiters can leave', () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    const room = new WaitingRoom(2)
    const ends: string[] = []
    const leave = room.enter(100, () => ends.push('a'))
    assert.ok(room.enter(50, (again) => ends.push(`b ${again}`)))
    assert.equal(
      room.enter(50, () => ends.push('c')),
      undefined,
    )
    leave?.()
    assert.equal(
      room.enter(0, () => ends.push('d')),
      undefined,
    )
    mock.timers.tick(200)
    assert.deepEqual(ends, ['b false'])
    mock.timers.reset()
  })

  it('ends each wait after exactly its time, and calls nobody who was woken or has left', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const room = new WaitingRoom(3)
    const ends: string[] = []
    room.enter(100, (again) => ends.push(`a ${again}`))
    room.enter(1, (again) => ends.push(`b ${again}`))
    room.wake(1)
    t.mock.timers.tick(1)
    assert.deepEqual([ends, room.length], [['a true', 'b false'], 0])
    const leave = room.enter(50, (again) => ends.push(`c ${again}`))
    t.mock.timers.tick(49)
    leave?.()
    room.wake()
    t.mock.timers.tick(100)
    assert.deepEqual([ends.length, room.length], [2, 0])
  })

  it('has room for exactly its size, and none with size 0', () => {
    const room = new WaitingRoom(2)
    const leave = [1, 2, 3].map(() => room.enter(1000, () => {}))
    assert.deepEqual([leave.map(Boolean), room.length], [[true, true, false], 2])
    leave[0]?.()
    assert.equal(room.length, 1)
    assert.ok(room.enter(1000, () => {}))
    assert.equal(
      new WaitingRoom(0).enter(1000, () => {}),
      undefined,
    )
    assert.equal(
      new WaitingRoom(1).enter(-1, () => {}),
      undefined,
    )
    room.wake(0)
    assert.equal(room.length, 2)
    room.wake()
  })
})
