import { usageError } from '../args.ts'
import { Operators, unreachable } from '../operators.ts'
import { member, Target, type TargetResponse } from '../target.ts'
import type { Sample } from './compare.ts'

/** What an instance reports; `version` and `color` are absent when it does not respond. */
export interface InstanceStatus {
  readonly ready: boolean
  readonly version?: string
  readonly color?: string
  /** Human-readable: version and color, or why it is not ready. */
  readonly summary: string
  /** `/ready` responds 404. */
  readonly lacksReadiness?: true
}

const timeoutMs = 2_000

export async function readStatus(url: string): Promise<InstanceStatus> {
  const target = new Target(url, { timeoutMs })
  const ready = await target.request('/ready')
  const version = text(member(ready.json, 'version'))
  if (ready.status === 404) return { ready: false, summary: describeResponse(ready), lacksReadiness: true }
  if (ready.status !== 200) return { ready: false, version, summary: describeResponse(ready) }
  const color = text(member((await target.request('/health')).json, 'color'))
  return { ready: true, version, color, summary: [version && `version ${version}`, color].filter(Boolean).join(', ') }
}

/**
 * The status before a deploy.
 *
 * @throws FLEET_ERR_USAGE if the instance has no `/ready`, so that neither the deploy nor its rollback could succeed
 */
export async function initialStatus(url: string): Promise<InstanceStatus> {
  const found = await readStatus(url)
  if (!found.lacksReadiness) return found
  throw usageError(
    `${url}/ready responds 404, so a deploy cannot tell when an instance there is ready, and nothing was replaced; start the ` +
      'instances with FLEET_PUBLIC_PROBES=on if they have FLEET_ADMIN_PORT, else let `health.paths.ready` be /ready',
  )
}

/** @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR */
export async function sample(url: string, token: string | undefined): Promise<Sample> {
  const target = new Target(url, { timeoutMs })
  const instance = await new Operators(target, token).metrics()
  const [totals, p95] = [member(instance, 'totals'), member(instance, 'p95')]
  const [requests, errors] = [member(totals, 'requests'), member(totals, 'errors')]
  if (typeof requests === 'number' && typeof errors === 'number' && typeof p95 === 'number') {
    return { requests, errors, p95 }
  }
  throw unreachable(target, 'not an instance of a fleet')
}

const describeResponse = ({ error, status, json }: TargetResponse): string =>
  error ?? [status, text(member(json, 'reason')) ?? text(member(json, 'message'))].filter(Boolean).join(' ')

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
