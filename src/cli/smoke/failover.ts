import type { Operators } from '../operators.ts'
import { plural } from '../output.ts'
import { waitUntil } from '../wait-until.ts'
import { arrivalMs, BackgroundLoad, pollMs, seconds } from './background-load.ts'
import type { CheckContext } from './context.ts'
import type { CheckResults, Timeline } from './report.ts'

/** An instance has left rotation when it does not respond for this time under load, ms. */
const silenceMs = 1_500

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
): Promise<Timeline | undefined> {
  const serving = (await operators.instances()).filter(({ state }) => state === 'serving')
  const drained = serving[0]
  if (serving.length < 2 || !drained) {
    results.fail(`${plural(serving.length, 'instance')} in rotation: no other could take over`)
    return undefined
  }
  const load = new BackgroundLoad(context)
  try {
    if (!(await waitUntil(() => load.lastFrom(drained.id) > 0, arrivalMs, pollMs))) {
      results.fail(`${drained.id} does not respond through the front, so it cannot leave rotation`)
      return load.timeline('failover')
    }
    const leaving = load.mark(`drain of ${drained.id}`)
    await operators.command('drain', drained.id)
    const silent = (): boolean => load.isSilent(drained.id, leaving, silenceMs, serving.length)
    const left = await waitUntil(silent, timeoutMs, pollMs)
    const last = load.lastFrom(drained.id) - leaving
    if (left) results.pass(`${drained.id} left rotation ${seconds(Math.max(last, 0))} after the drain began`)
    else
      results.fail(
        `${drained.id} still responded ${seconds(timeoutMs)} after the drain`,
        'check the front’s health checks',
      )

    const returning = load.mark(`undrain of ${drained.id}`)
    await operators.command('undrain', drained.id)
    if (await waitUntil(() => load.lastFrom(drained.id) > returning, timeoutMs, pollMs)) {
      results.pass(`${drained.id} was back ${seconds(load.lastFrom(drained.id) - returning)} after the undrain`)
    } else results.fail(`${drained.id} did not return within ${seconds(timeoutMs)}`, 'check the front’s health checks')
  } finally {
    await operators.command('undrain', drained.id).catch(() => undefined)
    await load.stop()
  }
  load.report(results)
  return load.timeline('failover')
}
