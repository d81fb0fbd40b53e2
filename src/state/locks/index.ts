import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../../base/errors.ts'
import { int, resolveOptions, type Shapes } from '../../base/options.ts'
import { lifecycle } from '../../instance/lifecycle/index.ts'
import { broadcast } from '../broadcast/index.ts'
import { expose, exposeGauge } from '../metrics.ts'
import { isOutage } from '../redis/index.ts'
import { Candidate, type Leadership } from './election.ts'
import { settles } from './lease.ts'
import { type LockOptions, Locks } from './lock.ts'
import { MemoryLocks, RedisLocks } from './store.ts'

export type { Leadership } from './election.ts'
export type { LockOptions } from './lock.ts'

/** Defaults for every lock of this app. */
export interface LocksOptions extends LockOptions {
  /** How long a close waits for what runs under a lock, or leads, to heed its signal, 0 to 600,000 ms. @default 2000 */
  closeGraceMs?: number
}

const ttl = int(100, 3_600_000, 'milliseconds')
const lockShapes: Shapes = { ttl, waitMs: int(0, 3_600_000, 'milliseconds') }
const shapes: Shapes = { ...lockShapes, closeGraceMs: int(0, 600_000, 'milliseconds') }
const defaults = { ttl: 10_000, waitMs: 10_000, closeGraceMs: 2000 } satisfies LocksOptions

declare module 'fastify' {
  interface FastifyFleet {
    /**
     * Runs `fn` while no other caller in the fleet runs under the same name. Not re-entrant.
     *
     * @param fn gets a fencing token, which rises with each holder, and a signal that is aborted when the lock is lost
     * @throws FLEET_ERR_LOCK_BUSY after `waitMs`, FLEET_ERR_LOCK_LOST when another may have run at the same time,
     *   FLEET_ERR_STATE_UNAVAILABLE, and whatever `fn` throws
     */
    lock<T>(name: string, fn: (token: number, signal: AbortSignal) => T | Promise<T>, options?: LockOptions): Promise<T>
    /**
     * Runs `fn` on exactly one instance from when the app is ready. It leads until its signal is aborted, though `fn` may have
     * returned: when the lease is lost, and when the instance drains or closes. When it dies another one takes over within `ttl`.
     */
    leader(name: string, fn: (signal: AbortSignal) => unknown, options?: Pick<LockOptions, 'ttl'>): Leadership
  }
}

const channel = 'fleet:leader'

const plugin: FastifyPluginAsync<LocksOptions> = async (app, given) => {
  const options = resolveOptions<Required<LocksOptions>>('locks', shapes, defaults, given)
  if (!app.hasPlugin('fleet-lifecycle')) await app.register(lifecycle)
  if (!app.hasPlugin('fleet-broadcast')) await app.register(broadcast)
  const { fleet, redis } = app
  fleet.configure('locks', options)
  const store = redis ? new RedisLocks(redis, app.redisKey) : new MemoryLocks()
  const own = { ttl: options.ttl, waitMs: options.waitMs }

  const locks = new Locks(store)
  const counts = { acquired: 0, busy: 0, lost: 0, unavailable: 0 }
  expose(app, 'fleet_locks_total', 'Locks that were asked for, and those that were lost', 'result', counts)
  fleet.lock = async (name, fn, more) => {
    const resolved = resolveOptions<Required<LockOptions>>('lock', lockShapes, own, more)
    let held = false
    const run: typeof fn = (token, signal) => {
      held = true
      counts.acquired++
      signal.addEventListener('abort', () => isLost(signal) && counts.lost++, { once: true })
      return fn(token, signal)
    }
    return locks.run(named('lock', name), run, resolved).catch((error: FleetError) => {
      if (!held && error.code === 'FLEET_ERR_LOCK_BUSY') counts.busy++
      if (!held && isOutage(error)) counts.unavailable++
      throw error
    })
  }

  const candidates = new Map<Candidate, string>()
  const leading = (): number => [...candidates.keys()].filter((candidate) => candidate.leading).length
  exposeGauge(app, 'fleet_leaderships', 'Jobs that this instance is in charge of', leading)
  let isReady = false
  const eligible = (): boolean => isReady && (fleet.state === 'starting' || fleet.state === 'serving')
  fleet.leader = (job, fn, more) => {
    const name = named('leader', job)
    const { ttl: ttlMs } = resolveOptions<{ ttl: number }>('leader', { ttl }, { ttl: own.ttl }, more)
    const announce = (): Promise<void> => fleet.publish(channel, { name, by: fleet.instance.id }).catch(() => {})
    const candidate = new Candidate({ store, name, fn, ttlMs, log: app.log, eligible, announce })
    candidates.set(candidate, name)
    candidate.ended.then(() => candidates.delete(candidate))
    return candidate
  }
  const reconsider = (): void => {
    for (const candidate of candidates.keys()) candidate.reconsider()
  }
  fleet.subscribe<{ name: string; by: string }>(channel, ({ name, by }) => {
    if (by === fleet.instance.id) return
    for (const [candidate, campaign] of candidates) if (campaign === name) candidate.reconsider()
  })
  fleet.onState(reconsider)
  app.addHook('onReady', async () => {
    isReady = true
    reconsider()
  })
  app.addHook('onClose', async () => {
    const stopped = Array.from(candidates.keys(), (candidate) => candidate.stop())
    await Promise.all([locks.close(options.closeGraceMs), settles(Promise.all(stopped), options.closeGraceMs)])
  })
}

const isLost = ({ reason }: AbortSignal): boolean =>
  reason instanceof FleetError && reason.code === 'FLEET_ERR_LOCK_LOST'

/** @throws FLEET_ERR_OPTION_INVALID */
function named(kind: string, name: string): string {
  if (typeof name === 'string' && name !== '' && name.length <= 512 && name.isWellFormed()) return `${kind} ${name}`
  throw new FleetError('FLEET_ERR_OPTION_INVALID', `the name of a ${kind} must be a string of 1 to 512 characters`)
}

/** Adds `app.fleet.lock()` and `app.fleet.leader()`. */
export const locks: FastifyPluginAsync<LocksOptions> = fp(plugin, { name: 'fleet-locks', fastify: '5.x' })
export default locks
