import { setTimeout as delay } from 'node:timers/promises'
import type { Operators } from '../operators.ts'
import { plural } from '../output.ts'
import type { TargetResponse } from '../target.ts'
import { waitUntil } from '../wait-until.ts'
import { type CheckContext, outcomes, succeeded } from './context.ts'
import type { CheckResults } from './report.ts'

/** An instance has left rotation when it does not respond for this time under load, ms … */
const silenceMs = 1_500
/** … and when each other instance has sent this many responses meanwhile, which proves that there was load. */
const responsesEach = 20
/** Limit for the first response of the instance, ms. */
const arrivalMs = 30_000
const clients = 4
const pollMs = 20
/** Pause of each client between two requests, ms. */
const pauseMs = 5

/**
 * Drains and undrains one instance under steady load: no request may fail, and the instance must leave rotation and return.
 *
 * @param timeoutMs limit for leaving and for returning, ms
 */
export async function failover(
  context: CheckContext,
  operators: Operators,
  results: CheckResults,
  timeoutMs: number = 30_000,
): Promise<void> {
  const serving = (await operators.instances()).filter(({ state }) => state === 'serving')
  const drained = serving[0]
  if (serving.length < 2 || !drained)
    return results.fail(`${plural(serving.length, 'instance')} in rotation: no other could take over`)
  const load = new BackgroundLoad(context)
  try {
    if (!(await waitUntil(() => load.lastFrom(drained.id) > 0, arrivalMs, pollMs)))
      return results.fail(`${drained.id} does not respond through the front, so it cannot leave rotation`)
    const leaving = performance.now()
    await operators.command('drain', drained.id)
    const silent = (): boolean => performance.now() - Math.max(load.lastFrom(drained.id), leaving) > silenceMs
    const passedBy = (): boolean => load.responsesSince(drained.id) > responsesEach * serving.length
    const left = await waitUntil(() => silent() && passedBy(), timeoutMs, pollMs)
    const last = load.lastFrom(drained.id) - leaving
    if (left) results.pass(`${drained.id} left rotation ${seconds(Math.max(last, 0))} after the drain began`)
    else
      results.fail(
        `${drained.id} still responded ${seconds(timeoutMs)} after the drain`,
        'check the front’s health checks',
      )

    const returning = performance.now()
    await operators.command('undrain', drained.id)
    if (await waitUntil(() => load.lastFrom(drained.id) > returning, timeoutMs, pollMs)) {
      results.pass(`${drained.id} was back ${seconds(load.lastFrom(drained.id) - returning)} after the undrain`)
    } else results.fail(`${drained.id} did not return within ${seconds(timeoutMs)}`, 'check the front’s health checks')
  } finally {
    await operators.command('undrain', drained.id).catch(() => undefined)
    await load.stop()
  }
  if (load.failed.length === 0) results.pass(`${plural(load.total, 'request')} meanwhile, none failed`)
  else results.fail(`${load.failed.length} of ${plural(load.total, 'request')} failed: ${outcomes(load.failed)}`)
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

/** Clients that send requests continuously, half of them over keep-alive connections. */
class BackgroundLoad {
  readonly failed: TargetResponse[] = []
  total = 0
  #running = true
  /** Time of each instance's last response, and the total number of responses then. */
  readonly #last = new Map<string, { at: number; total: number }>()
  readonly #clients: Promise<void>[]

  constructor({ front, path }: CheckContext) {
    this.#clients = Array.from({ length: clients }, async (_, i) => {
      const connection = front.connect()
      while (this.#running) {
        this.#count(await (i % 2 === 0 ? connection : front).request(path))
        await delay(pauseMs)
      }
      await connection.close()
    })
  }

  /** Time of an instance's last response, by `performance.now()`; 0 without one. */
  lastFrom(instanceId: string): number {
    return this.#last.get(instanceId)?.at ?? 0
  }

  /** Number of responses since the last one of an instance. */
  responsesSince(instanceId: string): number {
    return this.total - (this.#last.get(instanceId)?.total ?? 0)
  }

  async stop(): Promise<void> {
    this.#running = false
    await Promise.all(this.#clients)
  }

  #count(response: TargetResponse): void {
    this.total++
    if (!succeeded(response)) this.failed.push(response)
    if (response.instanceId) this.#last.set(response.instanceId, { at: performance.now(), total: this.total })
  }
}
