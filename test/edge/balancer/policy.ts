import { createPolicy, type PickInput, type PolicyName } from '../../../src/edge/balancer/policies/index.ts'
import type { Policy } from '../../../src/edge/balancer/policies/policy.ts'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { balancerDefaults } from './stub.ts'

export const from = (client: string, cookie?: string): PickInput => ({ client, headers: { cookie } })
export const noClient = from('')
/** Chi-square with 9 degrees of freedom is above this once in a million. */
export const limit9 = 45
export const secret = 'a secret of at least thirty-two bytes'

export const load = (policy: Policy, targets: readonly Target[], loads: readonly number[]): void =>
  targets.forEach((target, i) => {
    for (const step = Math.sign((loads[i] as number) - target.inflight); target.inflight !== loads[i]; ) {
      target.inflight += step
      policy.loaded?.(target)
    }
  })

export const one = (name: PolicyName): Policy =>
  createPolicy(name, { ...balancerDefaults, sticky: { ...balancerDefaults.sticky, secret } }, async (target) => ({
    inflight: target.inflight,
    latencyMs: 1,
  }))
