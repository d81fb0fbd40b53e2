import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Backoff } from '../../src/host/backoff.ts'

test('each delay lies between the base and three times the last one, and below the cap', () => {
  for (const random of [() => 0, () => 0.5, () => 0.999, Math.random]) {
    const backoff = new Backoff({ baseMs: 100, capMs: 5_000, random })
    let last = 100
    for (let i = 0; i < 50; i++) {
      const wait = backoff.next(10)
      assert.ok(wait >= 100 && wait <= Math.min(5_000, last * 3), `${wait} after ${last}`)
      last = wait
    }
  }
})

test('by default, delays lie between 100 ms and 30 s, and an uptime of more than 30 s resets them', () => {
  const longest = new Backoff({ random: () => 0.999 })
  const delays = Array.from({ length: 10 }, () => longest.next(0))
  assert.deepEqual([delays[0], delays.at(-1)], [300, 30_000])
  assert.equal(longest.next(30_000), 30_000)
  assert.equal(longest.next(30_001), 300)
  assert.equal(new Backoff({ random: () => 0 }).next(0), 100)
})

test('the delay grows to the cap, and a long uptime resets it', () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 5_000, random: () => 0.999 })
  for (let i = 0; i < 10; i++) backoff.next(10)
  assert.equal(backoff.next(5_000), 5_000)
  assert.ok(backoff.next(5_001) <= 300)
})
