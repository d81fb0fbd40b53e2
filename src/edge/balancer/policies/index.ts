// Policies: which target of a list gets a request. Concepts:
//   Policy (policy.ts)                the contract: `pick(targets, input)`; one file and one class per policy
//   table (below)                     the policies by name
//   perList (per-list.ts)             caches what a policy derives from a list of targets
//   Sampler (sample.ts)               a random target in proportion to the weights
//   VirtualTime, Heap (virtual-time.ts, heap.ts)  weighted order in O(log n)
// A policy does not know why a target is in its list: `../rotation.ts` makes the lists from the targets' states.
import { FleetError } from '../../../base/errors.ts'
import { object, oneOf, type Resolved } from '../../../base/options.ts'
import { IpHash } from './ip-hash.ts'
import { LeastConnections } from './least-connections.ts'
import { LeastResponseTime } from './least-response-time.ts'
import type { Policy } from './policy.ts'
import { type LoadProbe, Prequal, prequalOptions } from './prequal.ts'
import { Random } from './random.ts'
import { RoundRobin } from './round-robin.ts'
import { StickyCookie, stickyOptions } from './sticky-cookie.ts'
import { TwoChoices } from './two-choices.ts'
import { Weighted } from './weighted.ts'

export type { PickInput, Policy } from './policy.ts'
export type { Load, LoadProbe, PrequalOptions } from './prequal.ts'
export type { StickyOptions } from './sticky-cookie.ts'

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

/** Options of individual policies. */
export const policyOptions = {
  /** Options of the policy `prequal`. */
  prequal: object(prequalOptions).default({}),
  /** Options of the policy `sticky-cookie`. */
  sticky: object({
    ...stickyOptions,
    /** Policy for clients without a cookie. */
    fallback: oneOf(...policyNames).default('least-connections'),
  }).default({}),
}
export type PolicySettings = Resolved<typeof policyOptions>

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
