import { either, int, list, type OptionsOf, object, oneOf, path, text } from '../../base/options.ts'
import { diskLimits, eventLoopLimits, memoryLimits } from './checks.ts'
import { checkOptions } from './runner.ts'

const off = oneOf(false)
const pathOrOff = either(off, path)
/** Options of the built-in checks, which only degrade the instance. */
const builtIn = { ...checkOptions, critical: checkOptions.critical.default(false) }

/** @internal */
export const healthOptions = {
  /** Path of each probe; `false` disables one. */
  paths: object({
    /** Liveness. */
    live: pathOrOff.default('/live'),
    /** Liveness, under another name. */
    alive: pathOrOff.default('/alive'),
    /** Readiness. */
    ready: pathOrOff.default('/ready'),
    /** Status, without details. */
    health: pathOrOff.default('/health'),
    /** Every check, for operators. */
    detailed: pathOrOff.default('/health/detailed'),
  }).default({}),
  /** Defaults of all checks, including those below. */
  checks: object({
    ...checkOptions,
    critical: checkOptions.critical.default(true),
    intervalMs: checkOptions.intervalMs.default(5_000),
    timeoutMs: checkOptions.timeoutMs.default(2_000),
    rise: checkOptions.rise.default(2),
    fall: checkOptions.fall.default(3),
  }).default({}),
  /** Heap and cgroup memory; degraded when nearly full. `false` disables the check. */
  memory: either(off, object({ ...builtIn, ...memoryLimits })).default({}),
  /** Delay and utilization of the event loop; degraded when blocked. `false` disables the check. */
  eventLoop: either(off, object({ ...builtIn, ...eventLoopLimits })).default({}),
  /** Free space of a file system; degraded when nearly full. */
  disk: either(off, object({ ...builtIn, ...diskLimits })).default(false),
  /** URLs whose GET must return a status below 400; degraded when one fails. */
  http: list(text).default([]),
  /** `host:port` that must accept connections; degraded when one fails. */
  tcp: list(text).default([]),
  /** `/live` responds 503 if the event loop was blocked for longer. */
  maxStuckMs: int(100, 3_600_000, 'milliseconds').default(10_000),
}
export type HealthOptions = OptionsOf<typeof healthOptions>
