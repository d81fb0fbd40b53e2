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
}

const timeoutMs = 2_000

export async function readStatus(url: string): Promise<InstanceStatus> {
  const target = new Target(url, { timeoutMs })
  const ready = await target.request('/ready')
  const version = text(member(ready.json, 'version'))
  if (ready.status !== 200) return { ready: false, version, summary: describeResponse(ready) }
  const color = text(member((await target.request('/health')).json, 'color'))
  return { ready: true, version, color, summary: [version && `version ${version}`, color].filter(Boolean).join(', ') }
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
