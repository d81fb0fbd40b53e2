import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { MemoryTokenStore } from '../../../src/state/jwt/memory-store.ts'
import { RedisTokenStore } from '../../../src/state/jwt/redis-store.ts'
import type { TokenStore } from '../../../src/state/jwt/store.ts'
import { ownRedis, testKey } from '../own-redis.ts'
import { scriptClock } from '../redis-clock.ts'

const own = ownRedis()
const setRedisTime = scriptClock(own)
const start = 1_800_000_000
const lifetimes = { accessSeconds: 900, refreshSeconds: 3_600 }
const [ann, bob] = [
  { client: 'ann', leewayMs: 10_000 },
  { client: 'bob', leewayMs: 10_000 },
]

for (const engine of ['memory', 'Redis'])
  describe(`token sessions in ${engine}`, () => {
    let store: TokenStore
    let at: (seconds: number) => Promise<void>
    afterEach(() => mock.timers.reset())
    beforeEach(async () => {
      mock.timers.enable({ apis: ['Date'], now: start * 1000 })
      await own.client.flushall()
      at = async (seconds) => {
        mock.timers.setTime((start + seconds) * 1000)
        await setRedisTime((start + seconds) * 1000)
      }
      await at(0.5)
      store = engine === 'memory' ? new MemoryTokenStore() : new RedisTokenStore(own.client, testKey)
    })
    const open = async (session = 's'): Promise<number> => (await store.open('u', session, lifetimes)) - start
    const rotate = async (generation: number, by = ann, life = lifetimes, session = 's', user = 'u') => ({
      ...(await store.rotate(user, session, generation, life, by)),
    })
    /** The store has nothing left to revoke. */
    const isOver = ({ outcome, ...more }: object & { outcome: string; until?: number }): boolean =>
      outcome === 'ended' && more.until === undefined
    const rotated = (issuedAt: number, generation: number) =>
      ({ outcome: 'rotated', issuedAt: start + issuedAt, generation }) as const

    test('rotate from one generation to the next', async () => {
      assert.equal(await open(), 0)
      await at(100)
      assert.deepEqual(await rotate(0), rotated(100, 1))
      await at(200)
      assert.deepEqual(await rotate(1), rotated(200, 2))
    })

    test('end when their last access token expires', async () => {
      await open()
      assert.equal(await store.end('u', 's'), start + 900)
      await open()
      await at(100)
      await rotate(0)
      assert.equal(await store.end('u', 's'), start + 1_000)
      await at(0)
      await open()
      await at(100)
      await rotate(0, ann, { accessSeconds: 100, refreshSeconds: 3_600 })
      assert.equal(await store.end('u', 's'), start + 900, 'the first access token lives on')
      assert.equal(await store.end('u', 's'), start + 900, 'a second time')
    })

    test('are unknown to another subject and under another id', async () => {
      await open()
      assert.equal(await store.end('v', 's'), undefined)
      assert.equal(await store.end('u', 't'), undefined)
      assert.ok(isOver(await rotate(0, ann, lifetimes, 's', 'v')))
      assert.deepEqual(await rotate(0), rotated(0, 1))
    })

    test('do not rotate after their end, and tell when it can be forgotten', async () => {
      await open()
      await store.end('u', 's')
      for (const generation of [0, 1])
        assert.deepEqual(await rotate(generation), { outcome: 'ended', until: start + 900 })
    })

    test('repeat the last rotation for the same client', async () => {
      await open()
      await rotate(0)
      await at(5)
      assert.deepEqual(await rotate(0), rotated(0, 1))
      assert.deepEqual(await rotate(1), rotated(5, 2))
      assert.deepEqual(await rotate(1), rotated(5, 2))
      assert.deepEqual(await rotate(2), rotated(5, 3))
    })

    for (const [what, generation, by] of [
      ['another client', 1, bob],
      ['a generation before the last', 0, ann],
      ['a later generation', 3, ann],
      ['a generation below zero', -1, ann],
    ] as const)
      test(`end at a use by ${what}`, async () => {
        await open()
        await rotate(0)
        await rotate(1)
        assert.deepEqual(await rotate(generation, by), { outcome: 'reused', until: start + 900 })
        assert.deepEqual(await rotate(2), { outcome: 'ended', until: start + 900 })
      })

    test('end at a second use without a leeway', async () => {
      await open()
      await rotate(0, { client: 'ann', leewayMs: 0 })
      assert.deepEqual(await rotate(0), { outcome: 'reused', until: start + 900 })
    })

    test('end at a use of the first generation by a later one', async () => {
      await open()
      assert.deepEqual(await rotate(1), { outcome: 'reused', until: start + 900 })
    })

    test('end with the cut-off of their subject, and later ones do not', async () => {
      await open('before')
      assert.equal(await store.endAll('u'), start)
      assert.equal(await open('after'), 1)
      assert.equal(await store.open('v', 's', lifetimes), start)
      assert.ok(isOver(await rotate(0, ann, lifetimes, 'before')))
      assert.deepEqual(await rotate(0, ann, lifetimes, 'after'), rotated(1, 1))
      await at(2)
      assert.deepEqual(await rotate(1, ann, lifetimes, 'after'), rotated(2, 2))
    })

    test('have a new cut-off only if tokens were issued after the last one', async () => {
      assert.equal(await store.endAll('u'), start)
      assert.equal(await store.endAll('u'), start)
      assert.equal(await open(), 1)
      assert.equal(await open('t'), 1)
      assert.equal(await store.endAll('u'), start + 1)
      assert.equal(await store.endAll('u'), start + 1)
      assert.equal(await open(), 2)
      await at(1)
      assert.equal(await store.endAll('u'), start + 2)
      await at(2)
      assert.equal(await store.endAll('u'), start + 2, 'unused, in this second')
      await at(3)
      assert.equal(await open(), 3)
      assert.equal(await store.endAll('u'), start + 3)
    })

    test('of a clock that was set back behind the cut-off have a new one too', async () => {
      await store.endAll('u')
      await at(5)
      await open()
      await at(0)
      assert.deepEqual(await rotate(0), rotated(1, 1))
      assert.equal(await store.endAll('u'), start + 1)
    })

    test('a rotation counts as a use of the cut-off', async () => {
      await store.endAll('u')
      await open()
      assert.equal(await store.endAll('u'), start + 1)
      await open()
      assert.equal((await rotate(0)).outcome, 'rotated')
      assert.equal(await store.endAll('u'), start + 2)
      assert.ok(isOver(await rotate(1)))
    })
  })

describe('token sessions in memory', () => {
  test('forget a rotation when the leeway ends, and a session when its tokens have expired', async (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: start * 1000 })
    const store = new MemoryTokenStore()
    const at = (ms: number): void => t.mock.timers.setTime(start * 1000 + ms)
    const rotate = (session: string, generation: number) => store.rotate('u', session, generation, lifetimes, ann)
    for (const session of ['a', 'b', 'c', 'd']) await store.open('u', session, lifetimes)
    await rotate('a', 0)
    await rotate('b', 0)
    at(9_999)
    assert.equal((await rotate('a', 0)).outcome, 'rotated')
    at(10_000)
    assert.equal((await rotate('b', 0)).outcome, 'reused')
    at(899_000)
    assert.deepEqual(await rotate('b', 1), { outcome: 'ended', until: start + 900 })
    at(900_000)
    assert.deepEqual(await rotate('b', 1), { outcome: 'ended' })
    at(3_599_000)
    assert.equal((await rotate('c', 0)).outcome, 'rotated')
    at(3_600_000)
    assert.deepEqual(await rotate('d', 0), { outcome: 'ended' })
  })
})

describe('token sessions in Redis', () => {
  const [session, rotation, cutoff] = ['test:jwt-session:s:{u}', 'test:jwt-rotation:s:{u}', 'test:jwt-cutoff:{u}']
  let store: RedisTokenStore
  beforeEach(async () => {
    await own.client.flushall()
    await setRedisTime(start * 1000)
    store = new RedisTokenStore(own.client, testKey)
  })
  const ttlIn = async (key: string, above: number, most: number): Promise<void> => {
    const ttl = await own.client.ttl(key)
    assert.ok(ttl > above && ttl <= most, `${key}: ${ttl} s`)
  }
  const rotate = (generation: number, life = lifetimes) => store.rotate('u', 's', generation, life, ann)

  test('are stored until the last token expires', async () => {
    await store.open('u', 's', lifetimes)
    assert.equal(await own.client.get(session), `0 ${start} ${start + 900}`)
    assert.equal(await own.client.exists(cutoff), 0)
    await ttlIn(session, 3_540, 3_600)
    await rotate(0, { accessSeconds: 7_200, refreshSeconds: 3_600 })
    assert.equal(await own.client.get(session), `1 ${start} ${start + 7_200}`)
    await ttlIn(session, 7_140, 7_200)
    assert.equal(await own.client.get(rotation), `1 ${start} ann`)
    await ttlIn(rotation, 0, 10)
    await rotate(1)
    await ttlIn(session, 3_540, 3_600)
    await store.open('u', 's', { accessSeconds: 7_200, refreshSeconds: 3_600 })
    await ttlIn(session, 7_140, 7_200)
  })

  test('are marked as ended until their access tokens expire', async () => {
    const marked = async (): Promise<void> => {
      assert.equal(await own.client.get(session), `ended ${start} ${start + 900}`)
      await ttlIn(session, 840, 900)
    }
    await store.open('u', 's', lifetimes)
    await store.end('u', 's')
    await marked()
    await store.open('u', 's', lifetimes)
    await rotate(7)
    await marked()
    await setRedisTime((start + 2_000) * 1000)
    for (const end of [() => store.end('u', 's'), () => rotate(0)]) {
      await own.client.set(session, `5 ${start} ${start + 900}`)
      await end()
      await ttlIn(session, -1, 1)
    }
  })

  test('are deleted by the first use after a cut-off', async () => {
    await store.open('u', 's', lifetimes)
    await own.client.set(cutoff, start - 1)
    assert.equal((await rotate(0)).outcome, 'rotated')
    await own.client.set(cutoff, start)
    assert.deepEqual(await rotate(1), { outcome: 'ended', until: undefined })
    assert.equal(await own.client.exists(session), 0)
  })

  test('keep a cut-off for longer than any refresh token lives, also when tokens are issued after it', async () => {
    const keptSeconds = 400 * 86_400
    await store.endAll('u')
    assert.equal(await own.client.get(cutoff), String(start))
    await ttlIn(cutoff, keptSeconds - 60, keptSeconds)
    await setRedisTime((start + 1) * 1000)
    await store.open('u', 's', lifetimes)
    assert.equal(await own.client.get(cutoff), String(start), 'not in its second')
    await setRedisTime(start * 1000)
    await store.open('u', 's', lifetimes)
    assert.equal(await own.client.get(cutoff), `${start}.5`)
    await ttlIn(cutoff, keptSeconds - 60, keptSeconds)
  })

  test('ignore a cut-off a day ahead, which the fleet did not write', async () => {
    await own.client.set(cutoff, start + 86_399)
    assert.equal(await store.open('u', 's', lifetimes), start + 86_400)
    for (const value of [start + 86_400, 'x', 'nan']) {
      await own.client.set(cutoff, value)
      assert.equal(await store.open('u', 's', lifetimes), start)
      await own.client.set(cutoff, value)
      assert.equal(await store.endAll('u'), start)
    }
  })

  test('are deleted at their end while Redis is full, and a rotation is rejected', async () => {
    await store.open('u', 's', lifetimes)
    await own.client.config('SET', 'maxmemory', '1')
    try {
      await assert.rejects(rotate(0), { code: 'FLEET_ERR_STATE_FULL' })
      assert.equal(await store.end('u', 's'), start + 900)
    } finally {
      await own.client.config('SET', 'maxmemory', '0')
    }
    assert.equal(await own.client.exists(session), 0)
  })

  test('ignore a session in another format', async () => {
    for (const value of ['0', `0 ${start}`, `x y ${start}`, ` 0 ${start} ${start}`]) {
      await own.client.set(session, value)
      assert.deepEqual(await rotate(0), { outcome: 'ended', until: undefined }, value)
    }
  })
})
