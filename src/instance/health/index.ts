// Health checks and probes.
//
// - A check is a function that throws or returns false when it fails; checks.ts has the built-in ones.
// - runner.ts runs each check at an interval and keeps its last report: up, down or pending.
// - `readiness` below decides from the reports whether the instance should receive requests, including the panic rule.
// - probes.ts serves `/live`, `/ready` and `/health` from cached reports.

import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { resolveOptions } from '../../base/options.ts'
import { fleetPlugin } from '../compat/index.ts'
import { lifecycle } from '../lifecycle/index.ts'
import { exposeGauge } from '../metrics/expose.ts'
import { load } from '../metrics/load.ts'
import { operators } from '../operators/index.ts'
import { diskCheck, eventLoopCheck, httpCheck, memoryCheck, memoryUse, tcpCheck } from './checks.ts'
import { type HealthOptions, healthOptions } from './options.ts'
import { probes } from './probes.ts'
import { type Check, type CheckOptions, type CheckReport, CheckRunner, checkOptions } from './runner.ts'

export type { HealthOptions } from './options.ts'
export type { Check, CheckOptions, CheckReport } from './runner.ts'

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy'

export interface Readiness {
  ready: boolean
  /** Why the instance is not ready, or is ready in spite of failed checks. */
  reason?: string
}

/** `app.health` */
export interface Health {
  /** Adds a check, which starts when the app is ready. @throws FLEET_ERR_CHECK_EXISTS, FLEET_ERR_OPTION_INVALID */
  add(name: string, check: Check, options?: CheckOptions): void
  /**
   * Reports that a use of a dependency failed. Its check is degraded at once, stays so for a second after the last failure,
   * and runs every second until it passes or is down. Call it as often as you like.
   */
  failed(name: string, error: unknown): void
  /** Runs every check now. Concurrent calls share one run. */
  check(): Promise<Record<string, CheckReport>>
  /** Reports of the last runs. */
  readonly reports: Record<string, CheckReport>
  readonly status: HealthStatus
  readonly readiness: Readiness
}

const checkChannel = channel('fleet:check')
/** Every peer reads the names of an instance's checks, so their total length is bounded. */
const maxNamesLength = 4_096

declare module 'fastify' {
  interface FastifyInstance {
    health: Health
  }
  interface FastifyFleet {
    /** Whether `/ready` responds 200. */
    readonly ready: boolean
  }
}

/**
 * Whether an instance should receive requests.
 *
 * The panic rule: if every serving instance has lost the same dependency, none leaves rotation, because that would take
 * the whole fleet out. Only requests that need the dependency fail.
 */
export function readiness(app: FastifyInstance, unmet: ReturnType<CheckRunner['unmet']>): Readiness {
  const { state } = app.fleet
  if (state !== 'serving') return { ready: false, reason: state }
  if (unmet.pending.length > 0) return { ready: false, reason: `starting: ${unmet.pending.join(', ')}` }
  if (unmet.down.length === 0) return { ready: true }
  const others = app.fleet.peers().filter((peer) => peer.id !== app.fleet.instance.id && peer.state === 'serving')
  const sharedByAll = (name: string): boolean =>
    others.length > 0 && others.every((peer) => peer.failing.includes(name))
  const lost = unmet.down.join(', ')
  return unmet.down.every(sharedByAll)
    ? { ready: true, reason: `panic: every instance has lost ${lost}` }
    : { ready: false, reason: `failed: ${lost}` }
}

/** Of several workers, the shares of one memory limit add up, and the fullest heap counts. */
function addMemoryMetrics(app: FastifyInstance): void {
  const memory = 'Resident set size over the memory limit of the cgroup, else over the memory of the machine'
  exposeGauge(app, 'fleet_memory_utilization', memory, () => {
    const { used, total } = memoryUse()
    return used / total
  })
  const heap = 'Used over the limit of V8’s old generation, where a full heap ends the process'
  const heapShare = (): number => {
    const { heapUsed, heapLimit } = memoryUse()
    return heapUsed / heapLimit
  }
  exposeGauge(app, 'fleet_heap_utilization', heap, heapShare, 'max')
}

const plugin: FastifyPluginAsync<HealthOptions> = async (app, given) => {
  await ensure(app, lifecycle, load, operators)
  const options = resolveOptions('health', healthOptions, given)
  const { checks, memory, eventLoop, disk } = options
  const { fleet } = app
  fleet.configure('health', options)
  const runner = new CheckRunner((check, { status, critical, lastError }) => {
    if (status === 'down') app.log.warn({ check, critical, error: lastError }, 'health check failed')
    else if (status === 'degraded') app.log.warn({ check, critical, error: lastError }, 'health check degraded')
    else app.log.info({ check, critical }, 'health check passes again')
    checkChannel.publish({ instance: fleet.instance.id, check, status, critical, error: lastError })
    // Peers need the change for the panic rule before the next heartbeat.
    if (critical) fleet.announce()
  })

  const add = (name: string, check: Check, own: CheckOptions): void => runner.add(name, check, { ...checks, ...own })
  const health: Health = {
    add(name, fn, own) {
      add(name, fn, resolveOptions(`health.add(${JSON.stringify(name)})`, checkOptions, own))
    },
    failed(name, error) {
      runner.failed(name, error instanceof Error ? error.message : String(error))
    },
    async check() {
      await runner.runAll()
      return runner.reports()
    },
    get reports() {
      return runner.reports()
    },
    get status() {
      const unmet = runner.unmet()
      if (unmet.down.length > 0 && !this.readiness.ready && fleet.state === 'serving') return 'unhealthy'
      return unmet.down.length + unmet.degraded.length > 0 ? 'degraded' : 'healthy'
    },
    get readiness() {
      return readiness(app, runner.unmet())
    },
  }
  app.decorate('health', health)
  Object.defineProperty(fleet, 'ready', { get: () => health.readiness.ready, enumerable: true })
  fleet.contribute(() => {
    const { down, degraded } = runner.unmet()
    return { failing: down, degraded, checks: runner.names(maxNamesLength) }
  })

  addMemoryMetrics(app)
  if (memory) add('memory', memoryCheck(memory), memory)
  if (eventLoop) add('eventLoop', eventLoopCheck(app.load, eventLoop), eventLoop)
  if (disk) add('disk', diskCheck(disk), disk)
  for (const url of options.http) add(`http ${url.replace(/^https?:\/\//, '')}`, httpCheck(url), { critical: false })
  for (const address of options.tcp) add(`tcp ${address}`, tcpCheck(address), { critical: false })

  app.addHook('onReady', async () => runner.start())
  app.addHook('onClose', async () => runner.stop())
  probes(app, options)
}

/** Liveness, readiness and health endpoints that respond from cached reports. */
export const health: FastifyPluginAsync<HealthOptions> = fleetPlugin('health', plugin)
export default health
