import { setTimeout as delay } from 'node:timers/promises'
import { plural } from '../output.ts'
import type { TargetResponse } from '../target.ts'
import { byName, type CheckContext, outcomes, percentOf, succeeded, tolerates } from './context.ts'
import type { CheckResults, Timeline } from './report.ts'

/** Limit for the first responses of an instance, ms. */
export const arrivalMs = 30_000
export const pollMs = 20

const clients = 4
/** Pause of each client between two requests, ms. */
const pauseMs = 5
const bucketMs = 100
/** Each other instance must have sent this many responses while one was silent, which proves that there was load. */
const responsesEach = 20

/** Clients that send requests continuously, half of them over keep-alive connections, and what came of the requests by time. */
export class BackgroundLoad {
  readonly failed: TargetResponse[] = []
  total = 0
  /** Time of the last failure, by `performance.now()`; 0 without one. */
  lastFailure = 0
  #running = true
  readonly #start = performance.now()
  /** Time of each instance's last response, and the total number of responses then. */
  readonly #last = new Map<string, { at: number; total: number }>()
  readonly #requests = new Map<string, number[]>()
  readonly #failures: number[] = []
  readonly #events: { atMs: number; text: string }[] = []
  readonly #clients: Promise<void>[]
  readonly #context: CheckContext

  constructor(context: CheckContext) {
    this.#context = context
    const { front, path } = context
    this.#clients = Array.from({ length: clients }, async (_, i) => {
      const connection = front.connect()
      while (this.#running) {
        this.#count(await (i % 2 === 0 ? connection : front).request(path))
        await delay(pauseMs)
      }
      await connection.close()
    })
  }

  get instances(): readonly string[] {
    return [...this.#last.keys()]
  }

  /** Time of an instance's last response, by `performance.now()`; 0 without one. */
  lastFrom(instanceId: string): number {
    return this.#last.get(instanceId)?.at ?? 0
  }

  /** Whether an instance has not responded for `ms` since `since`, although there was load. */
  isSilent(instanceId: string, since: number, ms: number, others: number): boolean {
    const passedBy = this.total - (this.#last.get(instanceId)?.total ?? 0)
    const silentMs = performance.now() - Math.max(this.lastFrom(instanceId), since)
    return silentMs > ms && passedBy > responsesEach * others
  }

  /** Marks this moment in the timeline. @returns the moment, by `performance.now()` */
  mark(text: string): number {
    const now = performance.now()
    this.#events.push({ atMs: Math.round(now - this.#start), text })
    return now
  }

  async stop(): Promise<void> {
    this.#running = false
    await Promise.all(this.#clients)
  }

  /**
   * Passes if no more requests have failed than are allowed.
   *
   * @param when of the failures
   */
  report(results: CheckResults, when = '', fix?: string): void {
    const { failed, total } = this
    if (failed.length === 0) {
      results.pass(`${plural(total, 'request')} meanwhile, none failed`)
      return
    }
    const text = `${failed.length} of ${plural(total, 'request')} failed${when}: ${outcomes(failed)}`
    if (!tolerates(this.#context, failed.length, total)) results.fail(text, fix)
    else results.pass(`${text}; ${percentOf(failed.length, total)}, which --max-error-rate allows`)
  }

  timeline(check: Timeline['check']): Timeline {
    const buckets = this.#bucket() + 1
    const filled = (counts: readonly number[]): number[] => Array.from({ length: buckets }, (_, i) => counts[i] ?? 0)
    const instances = [...this.#requests]
      .sort(([a], [b]) => byName(a, b))
      .map(([instanceId, counts]) => ({ instanceId, requests: filled(counts) }))
    return { check, bucketMs, instances, failed: filled(this.#failures), events: this.#events }
  }

  #bucket(): number {
    return Math.floor((performance.now() - this.#start) / bucketMs)
  }

  #count(response: TargetResponse): void {
    this.total++
    const { instanceId } = response
    if (instanceId) this.#last.set(instanceId, { at: performance.now(), total: this.total })
    if (!succeeded(response)) {
      this.failed.push(response)
      this.lastFailure = performance.now()
    }
    const counts = succeeded(response) ? this.#countsOf(instanceId ?? 'unknown instance') : this.#failures
    const at = this.#bucket()
    counts[at] = (counts[at] ?? 0) + 1
  }

  #countsOf(instanceId: string): number[] {
    const known = this.#requests.get(instanceId) ?? []
    this.#requests.set(instanceId, known)
    return known
  }
}

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
