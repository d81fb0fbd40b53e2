import type { Peer } from '../../instance/identity.ts'
import { usageError } from '../args.ts'
import { Operators, unreachable } from '../operators.ts'
import { type Output, type Progress, plural } from '../output.ts'
import { repeat, type Target, type TargetResponse } from '../target.ts'
import type { CheckContext } from './context.ts'
import { failover } from './failover.ts'
import { headers } from './headers.ts'
import { health } from './health.ts'
import { kill } from './kill.ts'
import { load } from './load.ts'
import { operatorPaths } from './operator-paths.ts'
import { type CheckResult, type CheckResults, type Report, resultsOf, type Timeline } from './report.ts'
import { type Login, sessions } from './sessions.ts'
import { sticky } from './sticky.ts'
import { visits } from './visits.ts'

export type Part = 'health' | 'load' | 'sessions' | 'failover' | 'kill'

export interface TestPlan {
  readonly front: Target
  readonly direct: readonly Target[]
  /** The selected parts; empty: all but `failover` and `kill`, which change the fleet. */
  readonly parts: ReadonlySet<Part>
  readonly requests: number
  readonly concurrency: number
  readonly path: string
  readonly token?: string
  readonly instances?: number
  readonly login: Login
  /** A route that counts visits, instead of the login. */
  readonly sessionPath?: string
  /** The command that ends an instance. */
  readonly kill?: string
  readonly maxP95?: number
  readonly maxErrorRate?: number
}

/**
 * Tests a fleet from outside.
 *
 * @throws FLEET_ERR_UNREACHABLE when the front does not respond, FLEET_ERR_NOT_OPERATOR when `failover` needs operators’ paths
 *   and they reject this client
 */
export async function testFleet(plan: TestPlan, out: Output): Promise<Report> {
  const begin = performance.now()
  const startedAt = new Date().toISOString()
  const wants = (part: Part): boolean =>
    plan.parts.has(part) || (plan.parts.size === 0 && part !== 'failover' && part !== 'kill')
  await reach(plan.front)

  const operators = await findOperators(plan, wants('failover'))
  const peers = operators?.peers.filter(({ state }) => state === 'serving')
  const expected = plan.instances ?? peers?.length
  const sample = await take(plan, wants('load') ? plan.requests : Math.min(plan.requests, 12 * (expected ?? 3)), out)
  const context: CheckContext = { ...plan, expected, peers, sample }

  const findings: CheckResult[] = []
  const results = (check: string): CheckResults => resultsOf(check, findings)
  if (wants('health')) {
    await out.during('health paths', () => health(context, results('health')))
    await out.during('operators’ paths', () => operatorPaths(context, results('operators')))
    headers(context, results('headers'))
  }
  const distribution = wants('load') ? load(context, results('load')) : undefined
  if (wants('load')) await out.during('sticky behaviour', () => sticky(context, results('sticky')))
  if (wants('sessions')) {
    const required = plan.parts.has('sessions')
    const { login, sessionPath } = plan
    await out.during('sessions and tokens', () =>
      sessionPath === undefined
        ? sessions(context, login, required, results('sessions'))
        : visits(context, sessionPath, results('sessions')),
    )
  }
  const timelines: (Timeline | undefined)[] = []
  if (wants('failover') && operators) {
    const label = 'failover: one instance leaves and returns under load'
    timelines.push(await out.during(label, () => failover(context, operators.operators, results('failover'))))
  }
  const command = plan.kill
  if (wants('kill') && command !== undefined)
    timelines.push(
      await out.during('kill: one instance ends under load', () => kill(context, command, results('kill'))),
    )
  return {
    url: plan.front.url,
    startedAt,
    durationMs: Math.round(performance.now() - begin),
    verdict: findings.some(({ status }) => status === 'fail') ? 'fail' : 'pass',
    expectedInstances: expected,
    findings,
    distribution,
    ...(timelines.length > 0 && { timelines: timelines.filter((each) => each !== undefined) }),
  }
}

async function reach(front: Target): Promise<void> {
  const response = await front.request('/live')
  if (response.error) throw unreachable(front, response.error)
  if (response.status >= 300 && response.status < 400) {
    throw unreachable(front, `it redirects to ${response.headers.location}; test that URL`)
  }
}

/** The first direct address that serves operators' paths, else the front if it forwards them. */
async function findOperators(
  { front, direct, token }: TestPlan,
  needed: boolean,
): Promise<{ operators: Operators; peers: readonly Peer[] } | undefined> {
  let rejection: unknown
  // Without a token, the check of operators' paths covers the front.
  for (const target of [...direct, ...(token ? [front] : [])]) {
    const operators = new Operators(target, token)
    try {
      return { operators, peers: await operators.instances() }
    } catch (error) {
      rejection = error
    }
  }
  if (!needed) return undefined
  throw rejection ?? usageError('--failover needs --instance or --token')
}

function take({ front, path, concurrency }: TestPlan, count: number, out: Output): Promise<TargetResponse[]> {
  const ask = async (progress: Progress): Promise<TargetResponse> => {
    const response = await front.request(path)
    progress.step()
    return response
  }
  const label = `${plural(count, 'request')} to ${path}`
  return out.during(label, (progress) => repeat(count, concurrency, () => ask(progress)), count)
}
