import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Lease } from '../../../src/state/locks/lease.ts'
import { Locks } from '../../../src/state/locks/lock.ts'
import { MemoryLockStore } from '../../../src/state/locks/memory-store.ts'
import { code } from './contract.ts'
import { clock, FakeStore } from './fake-store.ts'

async function held(store: FakeStore, ttlMs = 3_000): Promise<Lease> {
  const lease = await Lease.acquire(store, 'a', ttlMs)
  assert.ok(lease instanceof Lease)
  return lease
}
const lockLost = (signal: AbortSignal): boolean => signal.aborted && code('FLEET_ERR_LOCK_LOST')(signal.reason)

describe('a lease', () => {
  test('is renewed after each third of ttlMs', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    const lease = await held(store)
    await pass(999)
    assert.deepEqual(store.commands, ['acquire 3000'])
    await pass(1)
    assert.deepEqual(store.commands, ['acquire 3000', 'renew 3000'])
    await pass(999)
    assert.equal(store.commands.length, 2)
    await pass(1)
    assert.equal(store.commands.length, 3)
    assert.equal(lease.lost, false)
  })

  test('that cannot be renewed is tried again after each tenth, and lost 2 % before it expires', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    store.renewed = () => Promise.reject(new Error('no Redis'))
    const lease = await held(store)
    await pass(1_000)
    await pass(299)
    assert.equal(store.commands.length, 2)
    await pass(1)
    assert.equal(store.commands.length, 3)
    await pass(1_639)
    assert.equal(lease.lost, false, 'after 2,939 ms')
    await pass(1)
    assert.equal(lease.lost, true, 'after 2,940 ms')
    assert.ok(lockLost(lease.signal))
    const { length } = store.commands
    await pass(10_000)
    assert.equal(store.commands.length, length, 'no further attempts')
  })

  test('begins when the command is sent, not when the reply arrives', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    const reply = Promise.withResolvers<boolean>()
    store.renewed = () => reply.promise
    const lease = await held(store)
    await pass(1_000)
    await pass(1_900)
    reply.resolve(true)
    await turn()
    store.renewed = () => Promise.reject(new Error('no Redis'))
    assert.equal(lease.lost, false)
    await pass(1_039)
    assert.equal(lease.lost, false, '2,939 ms after the renewal was sent')
    await pass(1)
    assert.equal(lease.lost, true)
  })

  test('stays lost when a late reply says that it was renewed', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    const reply = Promise.withResolvers<boolean>()
    store.renewed = () => Promise.reject(new Error('no Redis'))
    const lease = await held(store)
    await pass(1_000)
    store.renewed = () => reply.promise
    await pass(300)
    await pass(1_640)
    assert.equal(lease.lost, true)
    reply.resolve(true)
    await turn()
    await pass(10_000)
    assert.deepEqual([lease.lost, store.commands], [true, ['acquire 3000', 'renew 3000', 'renew 3000']])
  })

  test('is lost at once if another holder has it', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    store.renewed = async () => false
    const lease = await held(store)
    await pass(1_000)
    assert.ok(lease.lost && lockLost(lease.signal))
    await lease.release()
    assert.deepEqual(store.commands, ['acquire 3000', 'renew 3000', 'release'])
  })

  test('is released once, and its renewal ends', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    const lease = await held(store)
    await lease.release()
    await lease.release()
    await pass(10_000)
    assert.deepEqual(store.commands, ['acquire 3000', 'release'])
    assert.deepEqual([lease.lost, lease.signal.aborted], [false, false])
  })

  test('is neither renewed nor lost when a reply arrives after its release', async (t) => {
    const { pass } = clock(t)
    for (const renewed of [true, false]) {
      const store = new FakeStore()
      const reply = Promise.withResolvers<boolean>()
      store.renewed = () => reply.promise
      const lease = await held(store)
      await pass(1_000)
      await lease.release()
      reply.resolve(renewed)
      await turn()
      await pass(10_000)
      assert.deepEqual([lease.lost, store.commands.at(-1)], [false, 'release'])
    }
  })

  test('turns out to be lost when its release finds another holder, not when Redis is unavailable', async () => {
    const store = new FakeStore()
    store.released = async () => false
    const lost = await held(store)
    await lost.release()
    assert.ok(lost.lost && lockLost(lost.signal))
    store.released = () => Promise.reject(new Error('no Redis'))
    const unknown = await held(store)
    await unknown.release()
    assert.equal(unknown.lost, false)
  })

  test('is left to expire while the work goes on', async (t) => {
    const { pass } = clock(t)
    const store = new FakeStore()
    const lease = await held(store)
    await lease.release(false)
    await pass(10_000)
    assert.deepEqual([store.commands, lease.lost], [['acquire 3000'], false])
  })

  test('is released if the reply to its acquisition was lost', async () => {
    const store = new FakeStore()
    store.onAcquire = () => {
      throw new Error('no reply')
    }
    store.released = () => Promise.reject(new Error('no Redis'))
    await assert.rejects(Lease.acquire(store, 'a', 3_000), /no reply/)
    assert.deepEqual(store.commands, ['acquire 3000', 'release'])
  })
})

describe('a lock in memory', () => {
  test('is free when its lease ends, and not before', async (t) => {
    const { pass } = clock(t)
    const store = new MemoryLockStore()
    await store.acquire('a', 'one', 100)
    await pass(99)
    assert.deepEqual(await store.acquire('a', 'two', 100), { heldForMs: 1 })
    assert.equal(await store.renew('a', 'one', 100), true)
    await pass(99)
    assert.equal(await store.renew('a', 'two', 100), false)
    await pass(1)
    assert.equal(await store.renew('a', 'one', 100), false)
    assert.ok('token' in (await store.acquire('a', 'two', 100)))
    assert.equal(await store.release('a', 'one'), false)
    assert.equal(await store.release('a', 'two'), true)
    assert.ok('token' in (await store.acquire('a', 'two', 100)), 'it was free')
    await pass(100)
    assert.equal(await store.release('a', 'two'), false, 'it had expired')
    assert.equal(await store.renew('a', 'two', 100), false, 'it is gone')
  })

  test('has tokens that rise, also within a microsecond or with a clock set back', async (t) => {
    const store = new MemoryLockStore()
    const token = async (name: string): Promise<number> =>
      ((await store.acquire(name, 'one', 100)) as { token: number }).token
    let now = 1_000
    t.mock.method(Date, 'now', () => now)
    assert.equal(await token('a'), 1_000_000)
    assert.equal(await token('b'), 1_000_001)
    now = 500
    assert.equal(await token('c'), 1_000_002)
  })
})

describe('waiting for another holder', () => {
  test('ends at waitMs with one last attempt, and is never longer than its lease', async () => {
    const store = new FakeStore()
    const locks = new Locks(store)
    const busy = { code: 'FLEET_ERR_LOCK_BUSY', headers: { 'retry-after': '1' } }
    store.attempt = { heldForMs: 60_000 }
    await assert.rejects(
      locks.run('a', () => 1, { ttlMs: 1_000, waitMs: 0 }),
      busy,
    )
    assert.deepEqual(store.commands, ['acquire 1000'])
    await assert.rejects(
      locks.run('a', () => 1, { ttlMs: 1_000, waitMs: 20 }),
      busy,
    )
    assert.ok(store.commands.length >= 3, 'at the beginning and at the end')
    store.attempt = { heldForMs: 0 }
    store.onAcquire = () => {
      if (store.commands.length > 6) store.attempt = { token: 5 }
    }
    assert.equal(await locks.run('a', (token) => token, { ttlMs: 1_000, waitMs: 60_000 }), 5)
  })

  test('ends at the very end of waitMs', async (t) => {
    clock(t)
    const store = new FakeStore()
    store.attempt = { heldForMs: 60_000 }
    await assert.rejects(
      new Locks(store).run('a', () => 1, { ttlMs: 1_000, waitMs: 0 }),
      code('FLEET_ERR_LOCK_BUSY'),
    )
    assert.deepEqual(store.commands, ['acquire 1000'])
  })

  test('frees the place of a caller that was rejected', async () => {
    const store = new FakeStore()
    const locks = new Locks(store)
    store.attempt = { heldForMs: 60_000 }
    await assert.rejects(locks.run('a', () => 1, { ttlMs: 1_000, waitMs: 0 }))
    store.attempt = { token: 1 }
    assert.equal(await locks.run('a', () => 2, { ttlMs: 1_000, waitMs: 0 }), 2)
  })
})
