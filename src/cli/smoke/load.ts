import type { TargetResponse } from '../target.ts'
import { chiSquare, type Fit } from './chi-square.ts'
import { byName, type CheckContext, instancesIn, outcomes, plural, succeeded } from './context.ts'
import { type Distribution, type Finding, Findings, type Share } from './report.ts'

/** A front that spreads load as it should fails this check once in a thousand runs. */
const significance = 0.001

/** Do all instances response, does each have its share, and does no request fail? */
export function load(context: CheckContext): { findings: readonly Finding[]; distribution: Distribution } {
  const findings = new Findings('load')
  const failed = context.sample.filter((response) => !succeeded(response))
  const answered = context.sample.filter(succeeded)
  const counts = instancesIn(answered)

  if (failed.length === 0) findings.pass(`${plural(context.sample.length, 'request')} to ${context.path}, none failed`)
  else judgeFailures(failed, context, findings)
  judgePresence(counts, context, findings)

  // An instance in rotation that never answered is a class of its own, seen 0 times.
  const seen = new Set([...counts.keys(), ...(context.peers ?? []).map(({ id }) => id)])
  const ids = [...seen].filter((id) => weightOf(context, id) > 0).sort(byName)
  const observed = ids.map((id) => counts.get(id) ?? 0)
  const weights = ids.map((id) => weightOf(context, id))
  for (const [id, count] of counts) {
    if (weightOf(context, id) === 0) findings.info(`${id} has weight 0 and still answered ${plural(count, 'request')}`)
  }
  const fit =
    ids.length > 1 && observed.some((count) => count > 0) ? judgeEvenness(observed, weights, findings) : undefined
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const shares = ids.map((instanceId, i): Share => {
    const times = answered.filter((response) => response.instanceId === instanceId).map(({ ms }) => ms)
    const expected = (answered.length * (weights[i] ?? 0)) / total
    return {
      instanceId,
      requests: observed[i] ?? 0,
      expected,
      p50: percentile(times, 0.5),
      p95: percentile(times, 0.95),
    }
  })
  return {
    findings: findings.list,
    distribution: { requests: context.sample.length, failed: failed.length, shares, fit },
  }
}

function judgeFailures(failed: readonly TargetResponse[], { sample, path }: CheckContext, findings: Findings): void {
  const limited = failed.every(({ status }) => status === 429)
  findings.fail(
    `${failed.length} of ${plural(sample.length, 'request')} to ${path} failed: ${outcomes(failed)}`,
    limited ? 'the front limits rates: ask less with --requests, or another --path' : 'look into the front’s log',
  )
}

function judgePresence(counts: ReadonlyMap<string, number>, context: CheckContext, findings: Findings): void {
  const expected = context.expected
  const missing = (context.peers ?? []).filter(({ id, weight }) => weight > 0 && !counts.has(id)).map(({ id }) => id)
  if (counts.size === 0) {
    findings.fail('no response says which instance gave it', 'see that `X-Instance-Id` is on (option `expose`)')
  } else if (missing.length > 0 || (expected !== undefined && counts.size < expected)) {
    const never = missing.length > 0 ? `; never heard of: ${missing.join(', ')}` : ''
    findings.fail(
      `${counts.size} of ${expected ?? counts.size + missing.length} instances answered${never}`,
      counts.size === 1
        ? 'the front may be sticky by client address, or has one target only'
        : 'see that the front knows every instance, and that each is ready',
    )
  } else if (expected === undefined && counts.size === 1) {
    findings.fail('one instance answered, and how many there should be is not known', 'give --instances or --token')
  } else {
    findings.pass(`${plural(counts.size, 'instance')} answered${expected === undefined ? '' : `, as many as expected`}`)
  }
  if (expected !== undefined && counts.size > expected) {
    findings.info(`${counts.size} instances answered, more than the ${expected} expected`)
  }
}

function judgeEvenness(observed: readonly number[], weights: readonly number[], findings: Findings): Fit {
  const fit = chiSquare(observed, weights)
  const weighted = new Set(weights).size > 1
  const said = `${observed.join(', ')} (${describe(fit)})`
  if (!fit.reliable) findings.skip(`too few requests to judge the shares: ${observed.join(', ')}`, 'raise --requests')
  else if (fit.p >= significance) findings.pass(`shares follow the ${weighted ? 'weights' : 'even split'}: ${said}`)
  else if (weighted && chiSquare(observed).p >= significance) {
    findings.fail(`the load is even though weights differ: ${said}`, 'give the weights to the front too')
  } else {
    findings.fail(
      `the load is uneven: ${said}`,
      'policies that follow latency or the client’s address are uneven by design; else look for slow instances',
    )
  }
  return fit
}

export const describe = ({ statistic, degreesOfFreedom, p }: Fit): string =>
  `χ²(${degreesOfFreedom}) = ${statistic.toFixed(2)}, p = ${p < 0.0001 ? p.toExponential(1) : p.toFixed(4)}`

const weightOf = ({ peers }: CheckContext, id: string): number => peers?.find((peer) => peer.id === id)?.weight ?? 100

/** Nearest rank; 0 when there is nothing to rank. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0
}
