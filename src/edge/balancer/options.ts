import {
  bool,
  either,
  fn,
  int,
  list,
  number,
  object,
  oneOf,
  path,
  type Shapes,
  shape,
  text,
} from '../../base/options.ts'
import type { Source } from './discovery.ts'
import type { OutlierOptions } from './outliers.ts'
import { type Policy, type PolicyName, type PolicySettings, policyNames, policySettings } from './policies/index.ts'
import type { ProbeOptions } from './probe.ts'
import type { RetryOptions } from './retry-rules.ts'
import type { ConnectionOptions } from './target.ts'

export interface QueueOptions {
  /** Requests that may wait for a target at once. @default 1024 */
  size: number
  /**
   * Longest wait in milliseconds, for a target below its `maxConnections` or, when no target is up, for one that comes
   * back. Once an outage has lasted this long, requests are rejected at once. @default 5000
   */
  timeoutMs: number
}

export interface BalancerOptions {
  /** A name, or an object with a `pick` method. @default 'round-robin' */
  policy?: PolicyName | Policy
  probe?: Partial<ProbeOptions>
  outliers?: Partial<OutlierOptions>
  retry?: Partial<RetryOptions>
  connections?: Partial<ConnectionOptions>
  queue?: Partial<QueueOptions>
  /** Slow start: how long a returning target takes to reach its full share while others are up, in ms. @default 0 */
  slowStartMs?: number
  /**
   * Below this share of targets up, 0 to 1, health is ignored and all targets that are not draining are used. With 0,
   * only when no target is up. @default 0
   */
  panicThreshold?: number
  /** A source that adds and removes targets. @default none */
  discover?: Source
  prequal?: Partial<PolicySettings['prequal']>
  sticky?: Partial<PolicySettings['sticky']>
}

export interface ResolvedBalancerOptions extends PolicySettings {
  policy: PolicyName | Policy
  probe: ProbeOptions
  outliers: OutlierOptions
  retry: RetryOptions
  connections: ConnectionOptions
  queue: QueueOptions
  slowStartMs: number
  panicThreshold: number
  discover?: Source
}

const ms = int(1, 3_600_000, 'milliseconds')
const msOrNever = int(0, 3_600_000, 'milliseconds')
const share = number(0, 1)
const isPolicy = shape<Policy>(
  'an object with a method `pick`',
  (value) => typeof (value as Policy | null)?.pick === 'function',
)

export const balancerShapes: Shapes = {
  policy: either(oneOf(...policyNames), isPolicy),
  probe: object({
    type: oneOf('http', 'tcp', 'off'),
    path,
    intervalMs: ms,
    timeoutMs: ms,
    rise: int(1, 100),
    fall: int(1, 100),
  }),
  outliers: object({
    consecutive: int(0, 10_000),
    errorShare: share,
    latencyFactor: number(0, 1000),
    latencyFloorMs: msOrNever,
    minRequests: int(1, 1_000_000),
    intervalMs: ms,
    ejectMs: ms,
    maxEjectedShare: share,
  }),
  retry: object({
    attempts: int(1, 100),
    statuses: list(int(400, 599)),
    suspects: bool,
    idempotencyKey: bool,
    budget: share,
    minPerSecond: number(0, 1_000_000),
    hedgeMs: msOrNever,
  }),
  connections: object({
    connectTimeoutMs: ms,
    responseTimeoutMs: ms,
    bodyTimeoutMs: msOrNever,
    keepAliveMs: ms,
    unsafeKeepAliveMs: ms,
    maxHeaderBytes: int(1024, 1024 * 1024, 'bytes'),
  }),
  queue: object({ size: int(0, 1_000_000), timeoutMs: msOrNever }),
  slowStartMs: msOrNever,
  panicThreshold: share,
  discover: fn(),
  prequal: object({
    probesPerRequest: number(0.1, 10),
    poolSize: int(2, 64),
    maxAgeMs: ms,
    reuse: int(1, 100),
    hotQuantile: share,
  }),
  sticky: object({
    secret: text,
    cookie: text,
    maxAge: int(0, 31_536_000, 'seconds'),
    secure: bool,
    fallback: oneOf(...policyNames),
  }),
}

export const balancerDefaults: ResolvedBalancerOptions = {
  policy: 'round-robin',
  probe: { type: 'http', path: '/ready', intervalMs: 1000, timeoutMs: 1000, rise: 2, fall: 2 },
  outliers: {
    consecutive: 5,
    errorShare: 0.5,
    latencyFactor: 5,
    latencyFloorMs: 100,
    minRequests: 20,
    intervalMs: 1000,
    ejectMs: 10_000,
    maxEjectedShare: 0.5,
  },
  retry: {
    attempts: 3,
    statuses: [502, 503],
    suspects: true,
    idempotencyKey: false,
    budget: 0.2,
    minPerSecond: 10,
    hedgeMs: 0,
  },
  connections: {
    connectTimeoutMs: 2000,
    responseTimeoutMs: 60_000,
    bodyTimeoutMs: 300_000,
    keepAliveMs: 4000,
    unsafeKeepAliveMs: 150,
    maxHeaderBytes: 32_768,
  },
  queue: { size: 1024, timeoutMs: 5000 },
  slowStartMs: 0,
  panicThreshold: 0,
  ...policySettings,
}

export const targetShapes: Shapes = {
  url: text,
  weight: int(0, 1000),
  backup: bool,
  maxConnections: int(0, 1_000_000),
  id: text,
  serverName: text,
  region: text,
  zone: text,
}
