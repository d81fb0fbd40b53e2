import { spawn } from 'node:child_process'
import { usageError } from '../args.ts'
import { plural } from '../output.ts'
import { waitUntil } from '../wait-until.ts'
import { arrivalMs, BackgroundLoad, pollMs, seconds } from './background-load.ts'
import { byName, type CheckContext } from './context.ts'
import type { CheckResults, Timeline } from './report.ts'

/** Load before the command, ms. */
const beforeMs = 1_000
/** An instance was ended when it does not respond for this time under load, ms. */
const silenceMs = 300
/** The failover is over when no request has failed for this time, ms. */
const quietMs = 2_000

/**
 * Runs a command that ends an instance under steady load: the others must take over, without failed requests beyond the limit.
 *
 * @param timeoutMs limit for the command, for the end of the instance and for the end of the failures, ms each
 * @throws FLEET_ERR_USAGE if the command fails
 */
export async function kill(
  context: CheckContext,
  command: string,
  results: CheckResults,
  timeoutMs: number = 30_000,
): Promise<Timeline | undefined> {
  const load = new BackgroundLoad(context)
  try {
    const begun = performance.now()
    const ready = (): boolean => load.instances.length > 1 && performance.now() - begun > beforeMs
    if (!(await waitUntil(ready, arrivalMs, pollMs))) {
      results.fail(`${plural(load.instances.length, 'instance')} responded: no other could take over`)
      return load.timeline('kill')
    }
    const known = load.instances
    const failedBefore = load.failed.length
    const killing = load.mark('--kill begins')
    await run(command, timeoutMs)
    load.mark('--kill has exited')
    let ids: string[] = []
    const ended = (): boolean => {
      ids = known.filter((id) => load.isSilent(id, killing, silenceMs, known.length)).sort(byName)
      return ids.length > 0
    }
    if (await waitUntil(ended, timeoutMs, pollMs)) {
      const last = Math.max(0, ...ids.map((id) => load.lastFrom(id) - killing))
      results.pass(`${ids.join(', ')} responded for ${seconds(last)} after the command began; the others took over`)
      const quiet = (): boolean => performance.now() - Math.max(load.lastFailure, killing) > quietMs
      if (!(await waitUntil(quiet, timeoutMs, pollMs))) results.fail(`requests still fail ${seconds(timeoutMs)} later`)
      const back = ids.filter((id) => load.lastFrom(id) > killing + last)
      if (back.length > 0) results.info(`${back.join(', ')} responded again before the end of this check`)
    } else {
      results.fail(
        `every instance still responded ${seconds(timeoutMs)} after the command`,
        `check that --kill ends an instance; one that is back within ${silenceMs} ms is not noticed`,
      )
    }
    await load.stop()
    const before = failedBefore > 0 ? `, ${failedBefore} of them before the command` : ''
    const last = load.lastFailure > killing ? `, the last ${seconds(load.lastFailure - killing)} after it began` : ''
    const fix = 'let the front repeat safe requests on another instance, or pass --max-error-rate'
    load.report(results, before + last, fix)
    return load.timeline('kill')
  } finally {
    await load.stop()
  }
}

/** Runs a command line in a shell, because it comes from the caller's own command line. */
async function run(command: string, timeoutMs: number): Promise<void> {
  const child = spawn(command, {
    shell: true,
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-1_000)
  })
  // Not `close`: a process that the command leaves behind may keep the pipe open.
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>()
  child.once('error', reject)
  child.once('exit', (code, signal) => resolve(code === 0 ? undefined : `${signal ?? code}`))
  const failure = await promise
  child.stderr.destroy()
  if (failure === undefined) return
  const why = said.trim().split('\n').at(-1)
  throw usageError(`the command of --kill ended with ${failure}${why ? `: ${why}` : ''}`)
}
