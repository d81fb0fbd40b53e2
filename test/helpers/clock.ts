import { syncBuiltinESMExports } from 'node:module'
import type { TestContext } from 'node:test'

/** Mocks `setTimeout` until the test ends, that of `node:timers/promises` too. */
export function mockTimers(t: TestContext): void {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.timers.reset()
    syncBuiltinESMExports()
  })
}

/**
 * Mocks the clock of request limits until the test ends: `setTimeout` except that of `node:timers/promises`, and
 * `AbortSignal.timeout`. Only `t.mock.timers.tick()` moves it on, so a machine that suspends this process exceeds no limit.
 */
export function mockLimits(t: TestContext): void {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  t.mock.method(AbortSignal, 'timeout', (ms: number): AbortSignal => {
    const limit = new AbortController()
    setTimeout(() => limit.abort(new DOMException('the time is over', 'TimeoutError')), ms)
    return limit.signal
  })
}

/** Time and timers that only a test moves on. */
export interface Clock {
  tick(ms: number): void
  /** Moves the clock on while no timer runs, as if the event loop was blocked. */
  block(ms: number): void
  /** Number of timers and intervals that are running. */
  timers(): number
  /** Milliseconds until they run, the shortest first. */
  delays(): number[]
  now(): number
}

type Timer = { at: number; every: number | undefined; run: () => void; unref(): Timer; ref(): Timer; hasRef(): boolean }

/** Replaces `setTimeout`, `setInterval` and `performance.now()` until the test ends. */
export function clock(t: TestContext, start = 1000): Clock {
  const running = new Set<Timer>()
  let now = start
  const create =
    (repeats: boolean) =>
    (run: (...values: unknown[]) => void, ms = 1, ...values: unknown[]): Timer => {
      const every = repeats ? ms : undefined
      const timer: Timer = {
        at: now + ms,
        every,
        run: () => run(...values),
        unref: () => timer,
        ref: () => timer,
        hasRef: () => false,
      }
      running.add(timer)
      return timer
    }
  const cancel = (timer: unknown): void => void running.delete(timer as Timer)
  const replaced = { setTimeout: create(false), setInterval: create(true), clearTimeout: cancel, clearInterval: cancel }
  for (const [name, value] of Object.entries(replaced)) t.mock.method(globalThis, name as 'setTimeout', value as never)
  t.mock.method(performance, 'now', () => now)
  return {
    now: () => now,
    timers: () => running.size,
    delays: () => [...running].map(({ at }) => at - now).sort((a, b) => a - b),
    tick(ms) {
      const end = now + ms
      for (;;) {
        const next = [...running].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
        if (!next) break
        now = Math.max(now, next.at)
        if (next.every === undefined) running.delete(next)
        else next.at = now + next.every
        next.run()
      }
      now = Math.max(now, end)
    },
    block(ms) {
      now += ms
    },
  }
}
