import { setTimeout as delay } from 'node:timers/promises'
import type { Operators } from '../operators.ts'
import type { TargetResponse } from '../target.ts'
import { type CheckContext, outcomes, plural, succeeded } from './context.ts'
import { type Finding, Findings } from './report.ts'

/** An instance has left when it was silent that long under load, ms … */
const silenceMs = 1_500
/** … and when the others have answered so often meanwhile, each: where nobody was asked, silence says nothing. */
const turns = 20
/** How long the first response of an instance may take, ms. */
const arrivalMs = 30_000
const clients = 4
/** Pause of each client between two requests, ms: a steady load, not a flood. */
const pauseMs = 5

/**
 * Takes one instance out of the rotation under steady load, and back: no request may fail, the instance must fall
 * silent, and it must return.
 *
 * @param patienceMs how long leaving and returning may take, each, in milliseconds
 */
export async function failover(
  context: CheckContext,
  operators: Operators,
  patienceMs: number = 30_000,
): Promise<readonly Finding[]> {
  const findings = new Findings('failover')
  const serving = (await operators.instances()).filter(({ state }) => state === 'serving')
  const victim = serving[0]
  if (serving.length < 2 || !victim) {
    findings.fail(`${plural(serving.length, 'instance')} in rotation: nobody could take over`)
    return findings.list
  }
  const load = new Load(context)
  try {
    if (!(await load.reaches(() => load.lastFrom(victim.id) > 0, arrivalMs))) {
      findings.fail(`${victim.id} does not response through the front, so it cannot leave`)
      return findings.list
    }
    const leaving = performance.now()
    await operators.command('drain', victim.id)
    const silent = (): boolean => performance.now() - Math.max(load.lastFrom(victim.id), leaving) > silenceMs
    const passedBy = (): boolean => load.answersSince(victim.id) > turns * serving.length
    const left = await load.reaches(() => silent() && passedBy(), patienceMs)
    const last = load.lastFrom(victim.id) - leaving
    if (left) findings.pass(`${victim.id} left the rotation ${seconds(Math.max(last, 0))} after the drain began`)
    else
      findings.fail(
        `${victim.id} still answered ${seconds(patienceMs)} after the drain`,
        'see the front’s health checks',
      )

    const returning = performance.now()
    await operators.command('undrain', victim.id)
    if (await load.reaches(() => load.lastFrom(victim.id) > returning, patienceMs)) {
      findings.pass(`${victim.id} was back ${seconds(load.lastFrom(victim.id) - returning)} after the drain was lifted`)
    } else findings.fail(`${victim.id} did not return within ${seconds(patienceMs)}`, 'see the front’s health checks')
  } finally {
    await operators.command('undrain', victim.id).catch(() => undefined)
    await load.stop()
  }
  if (load.failed.length === 0) findings.pass(`${plural(load.total, 'request')} meanwhile, none failed`)
  else findings.fail(`${load.failed.length} of ${plural(load.total, 'request')} failed: ${outcomes(load.failed)}`)
  return findings.list
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`

/** Clients that ask on and on, half of them over kept-alive connections. */
class Load {
  readonly failed: TargetResponse[] = []
  total = 0
  #running = true
  /** When each answered last, and how many answers there were until then. */
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

  /** When an instance answered last, by `performance.now()`; 0 when it never did. */
  lastFrom(instanceId: string): number {
    return this.#last.get(instanceId)?.at ?? 0
  }

  /** How many answers there were since an instance's last. */
  answersSince(instanceId: string): number {
    return this.total - (this.#last.get(instanceId)?.total ?? 0)
  }

  /** Waits until `reached` holds; false when it does not within `patienceMs`. */
  async reaches(reached: () => boolean, patienceMs: number): Promise<boolean> {
    const deadline = performance.now() + patienceMs
    while (!reached()) {
      if (performance.now() > deadline) return false
      await delay(20)
    }
    return true
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
