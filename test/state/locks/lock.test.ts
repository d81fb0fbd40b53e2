import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { LocalMutex, Locks } from '../../../src/state/locks/lock.ts'
import { mockTimers } from '../../helpers/clock.ts'
import { liveObjects } from '../../helpers/live-objects.ts'
import { until } from '../../helpers/until.ts'
import { clock, FakeStore } from './fake-store.ts'

const options = { ttlMs: 9_000, waitMs: 1_000 }
const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) await turn()
}

describe('LocalMutex', () => {
  test('grants in order of arrival, per name, and at once if it is free', async (t) => {
    mockTimers(t)
    const mutex = new LocalMutex()
    const granted: string[] = []
    const releases = new Map<string, () => void>()
    const ask = (who: string, name = 'a'): void =>
      void mutex.acquire(name, 1_000).then((release) => {
        granted.push(release ? who : `not ${who}`)
        if (release) releases.set(who, release)
      })
    for (const who of ['one', 'two', 'three']) ask(who)
    ask('other', 'b')
    await settle()
    assert.deepEqual(granted.sort(), ['one', 'other'])
    granted.length = 0
    for (const who of ['one', 'two', 'three']) {
      releases.get(who)?.()
      await settle()
    }
    assert.deepEqual(granted, ['two', 'three'])
    ask('again')
    await settle()
    assert.equal(granted.at(-1), 'again')
  })

  test('skips a caller whose time is over, and not before', async (t) => {
    mockTimers(t)
    const mutex = new LocalMutex()
    const release = await mutex.acquire('a', 0)
    const granted: string[] = []
    for (const [who, waitMs] of [
      ['short', 100],
      ['long', 200],
    ] as const)
      void mutex.acquire('a', waitMs).then((release) => granted.push(release ? who : `not ${who}`))
    t.mock.timers.tick(99)
    await settle()
    assert.deepEqual(granted, [])
    t.mock.timers.tick(1)
    await settle()
    assert.deepEqual(granted, ['not short'])
    release?.()
    await settle()
    assert.deepEqual(granted, ['not short', 'long'])
    t.mock.timers.tick(1_000)
    await settle()
    assert.equal(granted.length, 2)
  })

  test('keeps every other caller in line once one of them is granted', async (t) => {
    mockTimers(t)
    const mutex = new LocalMutex()
    const release = await mutex.acquire('a', 0)
    const second = mutex.acquire('a', 100)
    const third = mutex.acquire('a', 1_000)
    release?.()
    const releaseSecond = await second
    t.mock.timers.tick(100)
    releaseSecond?.()
    t.mock.timers.tick(900)
    assert.ok(await third)
  })
})

describe('a lock', () => {
  test('passes the token, releases after the function, and returns its result', async () => {
    const store = new FakeStore()
    store.attempt = { token: 7 }
    const locks = new Locks(store)
    const result = await locks.run('a', (token, signal) => [token, signal.aborted], options)
    assert.deepEqual(
      [result, store.commands],
      [
        [7, false],
        ['acquire 9000', 'release'],
      ],
    )
    const failing = locks.run('a', () => Promise.reject(new RangeError('mine')), options)
    await assert.rejects(failing, RangeError)
    assert.deepEqual(store.commands.slice(2), ['acquire 9000', 'release'])
  })

  test('that another process holds is tried again after 5 ms, twice as long each time, up to 100 ms', async (t) => {
    const { pass } = clock(t)
    t.mock.method(Math, 'random', () => 0.5)
    const store = new FakeStore()
    store.attempt = { heldForMs: 60_000 }
    const running = new Locks(store).run('a', () => 'done', { ttlMs: 9_000, waitMs: 500 })
    const busy = assert.rejects(running, { code: 'FLEET_ERR_LOCK_BUSY' })
    await settle()
    const counts: number[] = []
    for (const ms of [4, 1, 9, 1, 20, 40, 80, 99, 1, 99, 1]) {
      await pass(ms)
      await settle()
      counts.push(store.commands.length)
    }
    assert.deepEqual(counts, [1, 2, 2, 3, 4, 5, 6, 6, 7, 7, 8])
    for (const ms of [100, 45]) {
      await pass(ms)
      await settle()
    }
    assert.equal(store.commands.length, 10, 'the last attempt is at the deadline')
    await busy
    await pass(1_000)
    assert.equal(store.commands.length, 10)
  })

  test('is tried again as soon as its holder’s lease ends', async (t) => {
    const { pass } = clock(t)
    t.mock.method(Math, 'random', () => 0.5)
    const store = new FakeStore()
    store.attempt = { heldForMs: 2 }
    const running = new Locks(store).run('a', () => 'done', options)
    await settle()
    store.attempt = { token: 1 }
    await pass(2)
    await settle()
    assert.equal(store.commands.length, 1)
    await pass(1)
    assert.equal(await running, 'done')
  })

  test('is tried once without a time to wait', async (t) => {
    t.mock.method(performance, 'now', () => 1_000)
    const store = new FakeStore()
    store.attempt = { heldForMs: 60_000 }
    const running = new Locks(store).run('a', () => 'done', { ttlMs: 9_000, waitMs: 0 })
    await assert.rejects(running, { code: 'FLEET_ERR_LOCK_BUSY' })
    assert.deepEqual(store.commands, ['acquire 9000'])
  })

  test('that was lost rejects, whatever the function does, with its error as the cause', async () => {
    const store = new FakeStore()
    store.released = async () => false
    const locks = new Locks(store)
    await assert.rejects(
      locks.run('a', () => 'done', options),
      { code: 'FLEET_ERR_LOCK_LOST', cause: undefined },
    )
    const cause = new RangeError('mine')
    await assert.rejects(
      locks.run('a', () => Promise.reject(cause), options),
      { code: 'FLEET_ERR_LOCK_LOST', cause },
    )
  })

  test('frees its callers in this process after a failure of the store', async () => {
    const store = new FakeStore()
    let failures = 1
    store.onAcquire = () => {
      if (failures-- > 0) throw new Error('no store')
    }
    const locks = new Locks(store)
    const [first, second] = [1, 2].map((n) => locks.run('a', () => n, options))
    await assert.rejects(first as Promise<number>, /no store/)
    assert.equal(await second, 2)
  })

  test('is resigned by close(), which waits for the function, and keeps the lease if it does not end', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    await new Locks(store).close(1_000)
    assert.equal(store.commands.length, 0)
    const locks = new Locks(store)
    const signals: AbortSignal[] = []
    const gate = Promise.withResolvers<void>()
    const running = locks.run(
      'a',
      async (_, signal) => {
        signals.push(signal)
        await gate.promise
      },
      options,
    )
    await settle()
    let isClosed = false
    const closing = locks.close(1_000).then(() => {
      isClosed = true
    })
    await settle()
    assert.deepEqual([signals[0]?.aborted, isClosed], [true, false])
    await pass(1_000)
    await closing
    assert.deepEqual(store.commands, ['acquire 9000'], 'another holder must wait for the lease')
    gate.resolve()
    await running.catch(() => {})
    await pass(10_000)
    assert.ok(!store.commands.some((command) => command.startsWith('renew')))
  })

  test('goes to none of those that wait for it when the app closes', async (t) => {
    const { pass } = clock(t)
    t.mock.method(Math, 'random', () => 0.5)
    const store = new FakeStore()
    const locks = new Locks(store)
    const [gate, started]: [PromiseWithResolvers<void>, string[]] = [Promise.withResolvers(), []]
    const rejected = (name: string): Promise<void> =>
      assert.rejects(
        locks.run(name, () => started.push(name), options),
        { code: 'FLEET_ERR_LOCK_BUSY', message: /was not free before the app closed/ },
      )
    const holder = locks.run('a', () => gate.promise, options)
    const waiting = [rejected('a'), rejected('a')]
    await settle()
    store.attempt = { heldForMs: 60_000 }
    waiting.push(rejected('held elsewhere'))
    await settle()
    const closing = locks.close(1_000)
    store.attempt = { token: 2 }
    gate.resolve()
    await holder
    await pass(5)
    await Promise.all([...waiting, closing, rejected('later')])
    assert.deepEqual([started, store.commands], [[], ['acquire 9000', 'acquire 9000', 'release']])
  })

  test('that the store grants while the app closes is released before close() ends', async () => {
    const store = new FakeStore()
    const reply = Promise.withResolvers<void>()
    store.acquire = async (...args) => {
      await reply.promise
      return FakeStore.prototype.acquire.apply(store, args)
    }
    const locks = new Locks(store)
    const running = assert.rejects(
      locks.run('a', () => assert.fail('must not run'), options),
      { code: 'FLEET_ERR_LOCK_BUSY' },
    )
    await settle()
    const closing = locks.close(60_000)
    reply.resolve()
    await closing
    assert.deepEqual(store.commands, ['acquire 9000', 'release'])
    await running
  })

  test('is awaited for `waitMs` in all, first in this process and then in the fleet', async (t) => {
    const { pass } = clock(t)
    t.mock.method(Math, 'random', () => 0.5)
    const store = new FakeStore()
    const locks = new Locks(store)
    const gate = Promise.withResolvers<void>()
    const first = locks.run('a', () => gate.promise, options)
    let isBusy = false
    const second = assert.rejects(
      locks.run('a', () => 'done', options),
      { code: 'FLEET_ERR_LOCK_BUSY' },
    )
    void second.then(() => {
      isBusy = true
    })
    await settle()
    await pass(900)
    store.attempt = { heldForMs: 60_000 }
    gate.resolve()
    await first
    await settle()
    assert.equal(isBusy, false)
    for (let i = 0; i < 10; i++) {
      await pass(10)
      await settle()
    }
    assert.equal(isBusy, true)
  })

  test('leaves nothing in memory of a function that has ended', async () => {
    class Mark {}
    const locks = new Locks(new FakeStore())
    for (let i = 0; i < 50; i++) {
      await locks.run('a', () => new Mark(), options)
      await locks.run('a', () => Promise.reject(new Mark()), options).catch(() => {})
    }
    await until(() => liveObjects(Mark) <= 5, { what: 'the results to be free' })
    await locks.close(0)
  })
})
