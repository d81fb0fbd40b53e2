import { plural } from '../output.ts'
import type { TargetResponse } from '../target.ts'
import { chiSquare, type Fit } from './chi-square.ts'
import { byName, type CheckContext, instancesIn, outcomes, percentOf, succeeded, sum, tolerates } from './context.ts'
import type { CheckResults, Distribution, InstanceShare } from './report.ts'

/** A correct front fails this check once in a thousand runs. */
const significance = 0.001

/** Checks that all instances respond, that each has its share, and that no request fails. */
export function load(context: CheckContext, results: CheckResults): Distribution {
  const failed = context.sample.filter((response) => !succeeded(response))
  const ok = context.sample.filter(succeeded)
  const counts = instancesIn(ok)

  if (failed.length === 0) results.pass(`${plural(context.sample.length, 'request')} to ${context.path}, none failed`)
  else reportFailures(failed, context, results)
  const p95 = percentile(
    ok.map(({ ms }) => ms),
    0.95,
  )
  if (context.maxP95 !== undefined) checkP95(p95, ok.length, context.maxP95, results)
  checkPresence(counts, context, results)

  // An instance in rotation that never responded is a class with 0 observations.
  const seen = new Set([...counts.keys(), ...(context.peers ?? []).map(({ id }) => id)])
  const ids = [...seen].filter((id) => weightOf(context, id) > 0).sort(byName)
  const observed = ids.map((id) => counts.get(id) ?? 0)
  const weights = ids.map((id) => weightOf(context, id))
  for (const [id, count] of counts) {
    if (weightOf(context, id) === 0) results.info(`${id} has weight 0 but handled ${plural(count, 'request')}`)
  }
  const fit =
    ids.length > 1 && observed.some((count) => count > 0)
      ? checkShares(observed, weights, changes(ids, ok), results)
      : undefined
  const total = sum(weights)
  const shares = ids.map((instanceId, i): InstanceShare => {
    const times = ok.filter((response) => response.instanceId === instanceId).map(({ ms }) => ms)
    const expected = (ok.length * (weights[i] ?? 0)) / total
    return {
      instanceId,
      requests: observed[i] ?? 0,
      expected,
      p50: percentile(times, 0.5),
      p95: percentile(times, 0.95),
    }
  })
  return { requests: context.sample.length, failed: failed.length, p95, shares, fit }
}

function reportFailures(failed: readonly TargetResponse[], context: CheckContext, results: CheckResults): void {
  const { sample, path } = context
  const text = `${failed.length} of ${plural(sample.length, 'request')} to ${path} failed: ${outcomes(failed)}`
  if (tolerates(context, failed.length, sample.length)) {
    results.pass(`${text}; ${percentOf(failed.length, sample.length)}, which --max-error-rate allows`)
    return
  }
  const limited = failed.every(({ status }) => status === 429)
  results.fail(
    text,
    limited ? 'the front limits the rate: use fewer --requests or another --path' : 'see the front’s log',
  )
}

function checkP95(p95: number, responses: number, limit: number, results: CheckResults): void {
  const text = `p95 of ${plural(responses, 'response')}: ${p95.toFixed(1)} ms`
  if (responses === 0) results.fail('no response to measure for --max-p95')
  else if (p95 <= limit) results.pass(`${text}, at most ${limit} ms`)
  else results.fail(`${text}, above the ${limit} ms of --max-p95`, 'compare with `fleet bench`, and from nearer')
}

function checkPresence(counts: ReadonlyMap<string, number>, context: CheckContext, results: CheckResults): void {
  const expected = context.expected
  const missing = (context.peers ?? []).filter(({ id, weight }) => weight > 0 && !counts.has(id)).map(({ id }) => id)
  if (counts.size === 0) {
    results.fail('no response identifies its instance', 'enable `X-Instance-Id` (option `expose`)')
  } else if (missing.length > 0 || (expected !== undefined && counts.size < expected)) {
    const never = missing.length > 0 ? `; missing: ${missing.join(', ')}` : ''
    results.fail(
      `${counts.size} of ${expected ?? counts.size + missing.length} instances responded${never}`,
      counts.size === 1
        ? 'the front may be sticky by client address, or have only one target'
        : 'check that the front has every instance as a target, and that each is ready',
    )
  } else if (expected === undefined && counts.size === 1) {
    results.fail('one instance responded, and the expected number is unknown', 'pass --instances or --token')
  } else {
    results.pass(`${plural(counts.size, 'instance')} responded${expected === undefined ? '' : `, as many as expected`}`)
  }
  if (expected !== undefined && counts.size > expected) {
    results.info(`${counts.size} instances responded, more than the ${expected} expected`)
  }
}

/** A silence that chance explains less often than once in 10,000 runs means that the instance was not there. */
const chance = 1e-4

/** Instances that came or went during the sample, as in a reload: each with when. */
function changes(ids: readonly string[], ok: readonly TargetResponse[]): string[] {
  return ids.flatMap((id) => {
    const own = ok.flatMap(({ instanceId }, index) => (instanceId === id ? [index] : []))
    const [first, last] = [own[0], own.at(-1)]
    if (first === undefined || last === undefined) return []
    // The probability of a silence of n responses is (1 − share)^n.
    const longest = Math.log(chance) / Math.log(1 - own.length / ok.length)
    return [
      ...(first > longest ? [`${id} responded from request ${first + 1} on`] : []),
      ...(ok.length - 1 - last > longest ? [`${id} responded until request ${last + 1}`] : []),
    ]
  })
}

function checkShares(
  observed: readonly number[],
  weights: readonly number[],
  changed: readonly string[],
  results: CheckResults,
): Fit {
  const fit = chiSquare(observed, weights)
  const weighted = new Set(weights).size > 1
  const shares = `${observed.join(', ')} (${describe(fit)})`
  if (!fit.reliable) results.skip(`too few requests to test the shares: ${observed.join(', ')}`, 'increase --requests')
  else if (fit.p >= significance) results.pass(`shares follow the ${weighted ? 'weights' : 'even split'}: ${shares}`)
  else if (changed.length > 0) {
    results.fail(
      `instances came or went during the test: ${changed.join(', ')}; shares: ${observed.join(', ')}`,
      'run the test again while no instance is reloaded, deployed or restarted',
    )
  } else if (weighted && chiSquare(observed).p >= significance) {
    results.fail(`the load is even though weights differ: ${shares}`, 'configure the weights in the front too')
  } else {
    results.fail(
      `the load is uneven: ${shares}`,
      'policies by latency or client address are uneven by design; otherwise look for slow instances',
    )
  }
  return fit
}

export const describe = ({ statistic, degreesOfFreedom, p }: Fit): string =>
  `χ²(${degreesOfFreedom}) = ${statistic.toFixed(2)}, p = ${p < 0.0001 ? p.toExponential(1) : p.toFixed(4)}`

const weightOf = ({ peers }: CheckContext, id: string): number => peers?.find((peer) => peer.id === id)?.weight ?? 100

/** By nearest rank; 0 without values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0
}
