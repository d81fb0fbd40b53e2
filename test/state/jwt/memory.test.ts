import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { MemoryTokenStore } from '../../../src/state/jwt/memory-store.ts'
import { liveObjects } from '../../helpers/live-objects.ts'

describe('a session in memory', () => {
  const begun = 1_800_000_000
  const lifetimes = { accessSeconds: 100, refreshSeconds: 1_000 }
  const presenter = { client: 'c', leewayMs: 0 }
  function open(t: TestContext) {
    t.mock.timers.enable({ apis: ['Date'], now: begun * 1_000 })
    const store = new MemoryTokenStore()
    return {
      store,
      at: (seconds: number) => t.mock.timers.setTime((begun + seconds) * 1_000),
      rotate: async (generation: number, session = 's') =>
        (await store.rotate('ann', session, generation, lifetimes, presenter)).outcome,
    }
  }

  test('lasts for the life of a refresh token after each rotation', async (t) => {
    const { store, at, rotate } = open(t)
    await store.open('ann', 's', lifetimes)
    await store.open('ann', 'idle', lifetimes)
    at(999)
    assert.equal(await rotate(0), 'rotated')
    at(1_000)
    assert.equal(await rotate(0, 'idle'), 'ended')
    at(1_998)
    assert.equal(await rotate(1), 'rotated')
    at(2_998)
    assert.equal(await rotate(2), 'ended')
  })

  test('lasts as long as an access token if that is longer', async (t) => {
    const { store, at, rotate } = open(t)
    await store.open('ann', 's', { accessSeconds: 2_000, refreshSeconds: 1_000 })
    at(1_999)
    assert.equal(await rotate(0), 'rotated')
  })

  test('that has ended is known until its access tokens expire, also after others have begun', async (t) => {
    const { store, at } = open(t)
    await store.open('ann', 's', lifetimes)
    assert.equal(await store.end('ann', 's'), begun + 100)
    at(99)
    await store.open('bob', 'other', lifetimes)
    assert.equal(await store.end('ann', 's'), begun + 100)
    at(160)
    await store.open('bob', 'third', lifetimes)
    assert.equal(await store.end('ann', 's'), undefined)
    assert.equal(await store.end('bob', 'other'), begun + 199, 'sessions that have not ended stay')
  })

  test('is forgotten with a new one at least a minute after the last time', async (t) => {
    const { store, at } = open(t)
    const short = { accessSeconds: 1, refreshSeconds: 1 }
    await store.open('ann', 's', short)
    at(59)
    await store.open('bob', 'b', short)
    assert.equal(await store.end('ann', 's'), begun + 1)
    at(60)
    await store.open('eve', 'e', short)
    assert.deepEqual([await store.end('ann', 's'), await store.end('bob', 'b')], [undefined, undefined])
  })

  test('of a subject whose sessions have ended begins in a later second, for one second only', async (t) => {
    const { store, at } = open(t)
    assert.equal(await store.endAll('ann'), begun)
    assert.equal(await store.open('ann', 's', lifetimes), begun + 1)
    assert.equal(await store.endAll('ann'), begun + 1, 'after tokens were issued')
    assert.equal(await store.endAll('ann'), begun + 1, 'but not again before there are others')
    at(61)
    assert.equal(await store.open('ann', 't', lifetimes), begun + 61)
  })

  test('leaves nothing of its subject in memory once it is forgotten', async (t) => {
    const { store, at } = open(t)
    const short = { accessSeconds: 1, refreshSeconds: 1 }
    const before = liveObjects(Map)
    for (let i = 0; i < 1_000; i++) await store.open(`subject ${i}`, 's', short)
    at(60)
    await store.open('ann', 's', short)
    const kept = liveObjects(Map) - before
    assert.ok(kept < 100, `${kept} maps`)
    assert.equal(await store.end('ann', 's'), begun + 61)
  })
})
