import { either, fn, type OptionsOf, object, oneOf, type Resolved, shape } from '../../base/options.ts'
import { probeOptions } from '../probe.ts'
import type { Source } from './discovery.ts'
import { outlierOptions } from './outliers.ts'
import { type Policy, policyNames, policyOptions } from './policies/index.ts'
import { retryOptions } from './retry-rules.ts'
import { rotationOptions } from './rotation.ts'
import { connectionOptions } from './target.ts'
import { queueOptions } from './waiting-room.ts'

const isPolicy = (value: unknown): boolean => typeof (value as Policy | null)?.pick === 'function'

/** @internal */
export const balancerOptions = {
  /** The name of a policy, or an object with a `pick` method. */
  policy: either(oneOf(...policyNames), shape<Policy>('an object with a method `pick`', isPolicy)).default(
    'round-robin',
  ),
  /** Active health checks. */
  probe: object(probeOptions).default({}),
  /** Passive health checks: the circuit breaker of each target. */
  outliers: object(outlierOptions).default({}),
  /** Retries and hedging. */
  retry: object(retryOptions).default({}),
  /** Bounds of the upstream connections. */
  connections: object(connectionOptions).default({}),
  /** Requests that wait for a target. */
  queue: object(queueOptions).default({}),
  ...rotationOptions,
  /** A source that adds and removes targets. */
  discover: fn<Source>(),
  ...policyOptions,
}
export type BalancerOptions = OptionsOf<typeof balancerOptions>
export type ResolvedBalancerOptions = Resolved<typeof balancerOptions>
