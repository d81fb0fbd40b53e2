import { FleetError } from '../../base/errors.ts'
import { type Answer, member, Target } from '../target.ts'
import type { Sample } from './judge.ts'

/** What an instance says of itself; nothing when nobody is there. */
export interface Found {
  readonly ready: boolean
  readonly version?: string
  readonly color?: string
  /** For people. */
  readonly words: string
}

const patienceMs = 2_000

export async function look(url: string): Promise<Found> {
  const target = new Target(url, { timeoutMs: patienceMs })
  const ready = await target.ask('/ready')
  const version = text(member(ready.json, 'version'))
  if (ready.status !== 200) return { ready: false, version, words: words(ready) }
  const color = text(member((await target.ask('/health')).json, 'color'))
  return { ready: true, version, color, words: [version && `version ${version}`, color].filter(Boolean).join(', ') }
}

/** @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR */
export async function sample(url: string, token: string | undefined): Promise<Sample> {
  const headers = token === undefined ? undefined : { authorization: `Bearer ${token}` }
  const answer = await new Target(url, { timeoutMs: patienceMs }).ask('/api/v1/load-balancer/metrics', { headers })
  const instance = member(answer.json, 'instance')
  const [totals, p95] = [member(instance, 'totals'), member(instance, 'p95')]
  const [requests, errors] = [member(totals, 'requests'), member(totals, 'errors')]
  if (typeof requests === 'number' && typeof errors === 'number' && typeof p95 === 'number') {
    return { requests, errors, p95 }
  }
  if ([401, 403, 404].includes(answer.status)) {
    throw new FleetError(
      'FLEET_ERR_NOT_OPERATOR',
      `${url} answers ${answer.status}; give its FLEET_ADMIN_TOKEN (--token)`,
    )
  }
  throw new FleetError('FLEET_ERR_UNREACHABLE', `${url}: ${words(answer)}`)
}

const words = ({ error, status, json }: Answer): string =>
  error ?? [status, text(member(json, 'reason')) ?? text(member(json, 'message'))].filter(Boolean).join(' ')

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
