import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MemoryLimitStore } from '../../../src/state/rate-limit/memory-store.ts'
import { RedisLimitStore } from '../../../src/state/rate-limit/redis-store.ts'
import type { LimitState, LimitStore } from '../../../src/state/rate-limit/store.ts'
import { until } from '../../helpers/until.ts'
import { ownRedis, testKey } from '../own-redis.ts'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

const own = ownRedis({ enableAutoPipelining: true })

const long = 60_000
let keys = 0
const newKey = (): string => `client ${keys++}`

function limitsContract(name: string, open: () => LimitStore): void {
  describe(name, () => {
    let limits: LimitStore
    before(() => {
      limits = open()
    })
    const count = async (key: string, windowMs: number, max: number, counts = true): Promise<number> =>
      (await limits.take(key, windowMs, max, counts)).count

    test('admits the allowed number of requests and no more', async () => {
      const key = newKey()
      for (const expected of [1, 2, 3, 4, 4, 4]) assert.equal(await count(key, long, 3), expected)
    })

    test('admits the allowed number of concurrent requests', async () => {
      const key = newKey()
      const counts = await Promise.all(Array.from({ length: 200 }, () => count(key, long, 50)))
      assert.equal(counts.filter((n) => n <= 50).length, 50)
    })

    test('counts per client and window', async () => {
      const [a, b] = [newKey(), newKey()]
      assert.deepEqual([await count(a, long, 1), await count(b, long, 1), await count(a, long / 2, 1)], [1, 1, 1])
      assert.equal(await count(a, long, 1), 2)
    })

    test('accepts any key', async () => {
      const odd = ['', '}', '{}', '{a}b', 'x'.repeat(10_000), `${'x'.repeat(9_999)}y`, '🔑', '__proto__']
      for (const key of odd) assert.equal(await count(key, long, 5), 1, key)
    })

    test('does not count reads', async () => {
      const key = newKey()
      assert.equal(await count(key, long, 2, false), 0)
      await count(key, long, 2)
      assert.equal(await count(key, long, 2, false), 1)
      await count(key, long, 2)
      assert.equal(await count(key, long, 2, false), 2)
    })

    test('handles a limit of 0 and a lowered limit', async () => {
      const key = newKey()
      assert.equal(await count(key, long, 0), 1)
      for (let n = 0; n < 5; n++) await count(key, long, 10)
      assert.equal(await count(key, long, 3), 4)
      assert.equal(await count(key, long, 6), 6)
    })

    test('admits a rejected client after `resetMs`', async () => {
      const key = newKey()
      // Before the requests: their replies may come late.
      const start = performance.now()
      // Concurrently, so that all fall into one window on a busy machine too.
      const both = [limits.take(key, 200, 1, true), limits.take(key, 200, 1, true)]
      const [, { count: rejected, resetMs }] = (await Promise.all(both)) as [LimitState, LimitState]
      assert.equal(rejected, 2)
      assert.ok(resetMs > 0 && resetMs <= 220, `${resetMs}`)
      // Further requests do not postpone it.
      await until(async () => (await count(key, 200, 1)) === 1)
      assert.ok(performance.now() - start >= resetMs - 20)
    })

    test('admits no more in any window, wherever it begins', async () => {
      const [key, windowMs, max] = [newKey(), 200, 20]
      const admitted: { sent: number; received: number }[] = []
      const start = performance.now()
      // Five windows, or more if this process or Redis was suspended meanwhile.
      const isOver = (passedMs: number): boolean => passedMs > (admitted.length < 2 * max ? 60_000 : 5 * windowMs)
      while (!isOver(performance.now() - start)) {
        const sent = performance.now()
        const n = await count(key, windowMs, max)
        if (n <= max) admitted.push({ sent, received: performance.now() })
        else await new Promise(setImmediate)
      }
      assert.ok(admitted.length >= 2 * max, `${admitted.length}`)
      for (let n = max; n < admitted.length; n++) {
        const apart = (admitted[n]?.received ?? 0) - (admitted[n - max]?.sent ?? 0)
        // Both clocks have a resolution of one millisecond.
        assert.ok(apart >= windowMs - 2, `${apart}`)
      }
    })
  })
}

limitsContract('in memory', () => new MemoryLimitStore())
limitsContract('in Redis', () => new RedisLimitStore(own.client, testKey))

describe('in memory', () => {
  test('admits nothing extra when the clock is set back', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: 1_000_000 })
    const limits = new MemoryLimitStore()
    const take = () => limits.take('k', 1_000, 2, true).count
    assert.deepEqual([take(), take(), take()], [1, 2, 3])
    t.mock.timers.setTime(500_000)
    assert.equal(take(), 3)
    t.mock.timers.setTime(1_001_100)
    assert.equal(take(), 1)
  })

  test('works with a clock that begins at the epoch', (t) => {
    t.mock.timers.enable({ apis: ['Date'] })
    const limits = new MemoryLimitStore()
    const take = () => limits.take('k', 1_000, 2, true)
    assert.deepEqual([take().count, take().count, take().count], [1, 2, 3])
    assert.equal(take().resetMs, 1_100)
    t.mock.timers.tick(1_100)
    assert.equal(take().count, 1)
  })

  test('admits a client after one window when the clock is set far back', (t) => {
    const limits = new MemoryLimitStore()
    const take = () => limits.take('k', 1_000, 2, true).count
    assert.deepEqual([take(), take(), take()], [1, 2, 3])
    t.mock.timers.enable({ apis: ['Date'] })
    assert.equal(take(), 3)
    t.mock.timers.tick(1_200)
    assert.equal(take(), 1)
  })

  test('stores long keys as hashes', () => {
    const limits = new MemoryLimitStore()
    const before = process.memoryUsage().heapUsed
    for (let n = 0; n < 2_000; n++) limits.take(`${n} ${'x'.repeat(50_000)}${n}`, long, 10, true)
    gc()
    assert.ok(process.memoryUsage().heapUsed - before < 50_000_000)
    assert.equal(limits.take(`7 ${'x'.repeat(50_000)}7`, long, 10, true).count, 2)
  })

  test('bounds memory for any number of clients', () => {
    const limits = new MemoryLimitStore()
    for (let n = 0; n < 120_000; n++) limits.take(`client ${n}`, long, 10, true)
    assert.equal(limits.size <= 100_000, true)
    assert.equal(limits.take('client 119999', long, 10, true).count, 2)
  })
})

describe('in Redis', () => {
  test('expires a count after its window', async () => {
    const limits = new RedisLimitStore(own.client, (kind, id) => `gone:${kind}:{${id}}`)
    const [, life] = await Promise.all([
      limits.take('k', 2000, 10, true),
      until(async () => Math.max(0, await own.client.pttl('gone:limit:{2000 k}'))),
    ])
    assert.ok(life <= 2200)
    await until(async () => (await own.client.keys('gone:*')).length === 0)
  })
})
