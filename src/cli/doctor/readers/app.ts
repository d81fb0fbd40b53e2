import {
  type InstanceFacts,
  type Reader,
  type Reading,
  type Source,
  unjudged,
  type Variable,
  violation,
} from '../facts.ts'
import type { AppReport } from '../programs/check-hook.ts'
import { instanceDefaults } from '../timeout-rules.ts'

/** What an app in check mode or a running instance reports of itself. Nothing is read from its code. */
export const readApp: Reader = (sources) => sources.flatMap(readOne)

/** A running instance has the environment of its deployment. */
const isUrl = /^https?:/

function readOne({ file, evaluated }: Source): readonly Reading[] {
  const at = { file, line: 1 }
  const { app, error } = (evaluated ?? {}) as Partial<AppReport>
  if (!app) return [error === undefined ? unjudged(at, 'it was not asked') : violation('DOCTOR_APP_START', at, error)]
  const env = new Map<string, Variable>()
  const set = (name: string, value: string | undefined): void => void env.set(name, { value, ...at })
  const { drainDelayMs, shutdownTimeoutMs, trustProxy, keepAliveTimeoutMs, production, checks } = app
  // Without fleet an app has no drain that is known.
  if (shutdownTimeoutMs === undefined) set('SHUTDOWN_TIMEOUT', undefined)
  else set('SHUTDOWN_TIMEOUT', `${shutdownTimeoutMs}`)
  // Outside production there is no delay unless one is set, so its absence tells nothing about the deployment.
  if (drainDelayMs === undefined) set('DRAIN_DELAY', undefined)
  else if (production || drainDelayMs !== 0) set('DRAIN_DELAY', `${drainDelayMs}`)
  if (trustProxy === 'some') set('TRUST_PROXY', undefined)
  const readings: Reading[] = trustProxy === 'all' ? [violation('DOCTOR_TRUST_EVERYONE', at, 'by the app')] : []
  if (trustProxy === 'all') set('TRUST_PROXY', undefined)
  for (const [name, { status, lastError }] of Object.entries(checks)) {
    const code =
      name === 'redis' ? 'DOCTOR_REDIS_UNREACHABLE' : name === 'database' ? 'DOCTOR_DATABASE_UNREACHABLE' : undefined
    if (code && status === 'down') readings.push(violation(code, at, lastError ?? undefined))
  }
  const instance: InstanceFacts = {
    role: 'instance',
    source: 'app',
    name: file,
    ...at,
    env,
    unseen: 'none',
    assumed: production || isUrl.test(file) ? undefined : 'this shell has the environment of the deployment',
    keepAliveMs: { value: keepAliveTimeoutMs ?? instanceDefaults.keepAliveMs, ...at },
  }
  return [...readings, instance]
}
