import { performance } from 'node:perf_hooks'
import type { TestContext } from 'node:test'

export interface VirtualTime {
  /** Milliseconds. */
  readonly now: number
  /** Advances the clock by a millisecond. */
  tick(): void
}

/** Replaces clock, timers and `Math.random` by deterministic ones until `t` ends. */
export function mockTime(t: TestContext): VirtualTime {
  let now = 0
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.mock.method(performance, 'now', () => now)
  mockChance(t)
  return {
    get now() {
      return now
    },
    tick() {
      now++
      t.mock.timers.tick(1)
    },
  }
}

/** `Math.random` with a fixed sequence. Source: mulberry32, Ettinger 2017. */
export function mockChance(t: TestContext): void {
  let seed = 7
  t.mock.method(Math, 'random', () => {
    seed = (seed + 0x6d2b79f5) | 0
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296
  })
}
