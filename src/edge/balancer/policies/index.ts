import { FleetError } from '../../../base/errors.ts'
import { IpHash } from './ip-hash.ts'
import { LeastConnections } from './least-connections.ts'
import { LeastResponseTime } from './least-response-time.ts'
import type { Policy } from './policy.ts'
import { type LoadProbe, Prequal, type PrequalOptions } from './prequal.ts'
import { Random } from './random.ts'
import { RoundRobin } from './round-robin.ts'
import { StickyCookie, type StickyOptions } from './sticky-cookie.ts'
import { TwoChoices } from './two-choices.ts'
import { Weighted } from './weighted.ts'

export type { PickInput, Policy } from './policy.ts'
export type { Load, LoadProbe, PrequalOptions } from './prequal.ts'
export type { StickyOptions } from './sticky-cookie.ts'

/** Settings of individual policies. */
export interface PolicySettings {
  prequal: PrequalOptions
  sticky: Omit<StickyOptions, 'secret'> & {
    /** Required by `sticky-cookie`. @default none */
    secret?: string
    /** Policy for clients without a cookie. @default 'least-connections' */
    fallback: PolicyName
  }
}

export const policySettings: PolicySettings = {
  prequal: { probesPerRequest: 1, poolSize: 16, maxAgeMs: 1000, reuse: 3, hotQuantile: 0.84 },
  sticky: { cookie: 'fleet_target', maxAge: 0, secure: false, fallback: 'least-connections' },
}

export type PolicyName =
  | 'round-robin'
  | 'weighted'
  | 'least-connections'
  | 'least-response-time'
  | 'ip-hash'
  | 'random'
  | 'two-choices'
  | 'prequal'
  | 'sticky-cookie'

const table: Record<PolicyName, (settings: PolicySettings, probe: LoadProbe) => Policy> = {
  'round-robin': () => new RoundRobin(),
  weighted: () => new Weighted(),
  'least-connections': () => new LeastConnections(),
  'least-response-time': () => new LeastResponseTime(),
  'ip-hash': () => new IpHash(),
  random: () => new Random(),
  'two-choices': () => new TwoChoices(),
  prequal: ({ prequal }, probe) => new Prequal(prequal, probe),
  'sticky-cookie': (settings, probe) => sticky(settings, probe),
}

export const policyNames: readonly PolicyName[] = Object.keys(table) as PolicyName[]

/**
 * @param probe asks a target for its load
 * @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK, FLEET_ERR_OPTION_INVALID
 */
export const createPolicy = (name: PolicyName, settings: PolicySettings, probe: LoadProbe): Policy =>
  table[name](settings, probe)

function sticky(settings: PolicySettings, probe: LoadProbe): Policy {
  const { secret, fallback, ...options } = settings.sticky
  if (fallback === 'sticky-cookie') {
    throw new FleetError('FLEET_ERR_OPTION_INVALID', '`balancer.sticky.fallback` must be another policy')
  }
  if (secret === undefined) {
    throw new FleetError(
      'FLEET_ERR_SECRET_MISSING',
      'the policy sticky-cookie needs `sticky.secret`, at least 32 bytes long',
    )
  }
  return new StickyCookie({ ...options, secret }, createPolicy(fallback, settings, probe))
}
