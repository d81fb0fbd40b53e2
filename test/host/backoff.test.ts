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

test('the delay grows to the cap, and a long uptime resets it', () => {
  const backoff = new Backoff({ baseMs: 100, capMs: 5_000, random: () => 0.999 })
  for (let i = 0; i < 10; i++) backoff.next(10)
  assert.equal(backoff.next(5_000), 5_000)
  assert.ok(backoff.next(5_001) <= 300)
})
