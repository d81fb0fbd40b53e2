import { bool, either, int, list, number, object, oneOf, path, type Shapes, text } from '../../base/options.ts'
import type { DiskLimits, EventLoopLimits, MemoryLimits } from './checks.ts'
import { type CheckOptions, checkDefaults } from './runner.ts'

export interface HealthOptions {
  /** Path of each probe; `false` disables one. @default `/live` `/alive` `/ready` `/health` `/health/detailed` */
  paths?: {
    live?: string | false
    alive?: string | false
    ready?: string | false
    health?: string | false
    detailed?: string | false
  }
  /** Defaults of all checks. @default every 5 s, at most 2 s, fall 3, rise 2 */
  checks?: CheckOptions
  /** Heap and cgroup memory; degraded when nearly full. @default {} */
  memory?: (MemoryLimits & CheckOptions) | false
  /** Delay and utilization of the event loop; degraded when blocked. @default {} */
  eventLoop?: (EventLoopLimits & CheckOptions) | false
  /** Free space of a file system. @default false */
  disk?: (DiskLimits & CheckOptions) | false
  /** URLs whose GET must return a status below 400; degraded when one fails. @default [] */
  http?: string[]
  /** `host:port` that must accept connections; degraded when one fails. @default [] */
  tcp?: string[]
  /** `/live` responds 503 if the event loop was blocked for longer, 100 to 3,600,000 ms. @default 10000 */
  maxStuckMs?: number
}

/** Options of one check. */
export const checkShapes: Shapes = {
  critical: bool,
  intervalMs: int(100, 3_600_000, 'milliseconds'),
  timeoutMs: int(1, 600_000, 'milliseconds'),
  rise: int(1, 100),
  fall: int(1, 100),
}
const share = number(0, 1)
const endpoint = either(oneOf(false), path)
const off = oneOf(false)
export const shapes: Shapes = {
  paths: object({ live: endpoint, alive: endpoint, ready: endpoint, health: endpoint, detailed: endpoint }),
  checks: object(checkShapes),
  memory: either(off, object({ ...checkShapes, maxHeapShare: share, maxRssShare: share })),
  eventLoop: either(
    off,
    object({ ...checkShapes, maxDelayMs: int(1, 600_000, 'milliseconds'), maxUtilization: share }),
  ),
  disk: either(
    off,
    object({ ...checkShapes, path: text, minFreeBytes: number(0, Number.MAX_SAFE_INTEGER), minFreeShare: share }),
  ),
  http: list(text),
  tcp: list(text),
  maxStuckMs: int(100, 3_600_000, 'milliseconds'),
}
export const defaults: Required<HealthOptions> = {
  paths: { live: '/live', alive: '/alive', ready: '/ready', health: '/health', detailed: '/health/detailed' },
  checks: checkDefaults,
  memory: {},
  eventLoop: {},
  disk: false,
  http: [],
  tcp: [],
  maxStuckMs: 10_000,
}

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy'
