// Locks and leader election. Concepts:
//   LockStore (store.ts)     who holds which lock; memory-store.ts, redis-store.ts
//   Lease (lease.ts)         a lock and its holder: renewed until it is released or lost
//   Locks (lock.ts)          `app.fleet.lock()`: runs a function under a lease
//   Candidate (election.ts)  `app.fleet.leader()`: campaigns for a lease and leads while it has it

import { channel as diagnosticsChannel } from 'node:diagnostics_channel'
import type { FastifyFleet, FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { FleetError } from '../../base/errors.ts'
import { int, type OptionsOf, resolveOptions } from '../../base/options.ts'
import { rejectRenamed } from '../../base/renamed-options.ts'
import { within } from '../../base/within.ts'
import { extendFleet, fleetPlugin } from '../../instance/compat/index.ts'
import { lifecycle } from '../../instance/lifecycle/index.ts'
import { expose, exposeGauge } from '../../instance/metrics/expose.ts'
import { broadcast } from '../broadcast/index.ts'
import { isOutage, redisOf } from '../redis/index.ts'
import { Candidate, type Leadership } from './election.ts'
import { type LockOptions, Locks, lockOptions } from './lock.ts'
import { MemoryLockStore } from './memory-store.ts'
import { RedisLockStore } from './redis-store.ts'

export type { Leadership } from './election.ts'
export type { LockOptions } from './lock.ts'

/** @internal */
export const locksOptions = {
  ...lockOptions,
  /** How long `app.close()` waits for functions that run under a lock or lead. */
  closeGraceMs: int(0, 600_000, 'milliseconds').default(2000),
}
/** Defaults of all locks of the app. */
export type LocksOptions = OptionsOf<typeof locksOptions>

const leaderOptions = { ttlMs: lockOptions.ttlMs }
/** Former names, see docs/migration.md. */
const renamed = { ttl: 'ttlMs' }

declare module 'fastify' {
  interface FastifyFleet {
    /**
     * Runs `fn` while no other caller in the fleet runs one under the same name. Not re-entrant. Rejects while a configured Redis is down.
     *
     * @param fn gets a fencing token, which rises with each holder, and a signal that aborts when the lock is lost
     * @throws FLEET_ERR_LOCK_BUSY after `waitMs` or when the app closes, FLEET_ERR_LOCK_LOST if another holder may have run at
     *   the same time, FLEET_ERR_STATE_UNAVAILABLE, and the errors of `fn`
     */
    lock<T>(name: string, fn: (token: number, signal: AbortSignal) => T | Promise<T>, options?: LockOptions): Promise<T>
    /**
     * Runs `fn` on exactly one instance, from when the app is ready. The instance leads until its signal aborts, even if `fn`
     * has returned: when the lease is lost, or the instance drains or closes. If it dies, another one takes over within `ttlMs`.
     *
     * If `fn` throws, the error is logged, and the instance stops leading. Another one may lead at once. This one takes part again
     * after 0.5 to 1 s, twice that after the next failure, and so on up to 15 to 30 s. A run that lasted longer than the last pause
     * starts over at the first one.
     */
    leader(name: string, fn: (signal: AbortSignal) => unknown, options?: Pick<LockOptions, 'ttlMs'>): Leadership
  }
}

const channel = 'fleet:leader'
/** As `fleet:state` of the lifecycle plugin: a message when this instance becomes the leader of a job. */
const leaderChannel = diagnosticsChannel('fleet:leader')

const plugin: FastifyPluginAsync<LocksOptions> = async (app, given) => {
  rejectRenamed('locks', given, renamed)
  const options = resolveOptions('locks', locksOptions, given)
  await ensure(app, lifecycle, broadcast)
  const { fleet } = app
  const redis = redisOf(app)
  fleet.configure('locks', options)
  const store = redis ? new RedisLockStore(redis, app.redisKey) : new MemoryLockStore()
  const lockDefaults = { ttlMs: options.ttlMs, waitMs: options.waitMs }

  const locks = new Locks(store)
  const counts = { acquired: 0, busy: 0, lost: 0, unavailable: 0 }
  expose(app, 'fleet_locks_total', 'Lock requests by result, and locks that were lost', 'result', counts)
  const lock: FastifyFleet['lock'] = async (name, fn, more) => {
    rejectRenamed('lock', more, renamed)
    const resolved = resolveOptions('lock', lockOptions, lockDefaults, more)
    let isAcquired = false
    const run: typeof fn = (token, signal) => {
      isAcquired = true
      counts.acquired++
      signal.addEventListener('abort', () => isLost(signal) && counts.lost++, { once: true })
      return fn(token, signal)
    }
    return locks.run(named('lock', name), run, resolved).catch((error: FleetError) => {
      if (!isAcquired && error.code === 'FLEET_ERR_LOCK_BUSY') counts.busy++
      if (!isAcquired && isOutage(error)) counts.unavailable++
      throw error
    })
  }

  const candidates = new Map<Candidate, string>()
  const leading = (): number => [...candidates.keys()].filter((candidate) => candidate.leading).length
  exposeGauge(app, 'fleet_leaderships', 'Jobs that this instance leads', leading)
  let isReady = false
  const eligible = (): boolean => isReady && (fleet.state === 'starting' || fleet.state === 'serving')
  const leader: FastifyFleet['leader'] = (job, fn, more) => {
    const name = named('leader', job)
    rejectRenamed('leader', more, renamed)
    const resolved = resolveOptions('leader', leaderOptions, { ttlMs: options.ttlMs }, more)
    const announce = (): Promise<void> => fleet.publish(channel, { name, by: fleet.instance.id }).catch(() => {})
    const leads = (token: number): void => leaderChannel.publish({ instance: fleet.instance.id, job, token })
    const candidate = new Candidate({ store, name, fn, ...resolved, log: app.log, eligible, announce, leads })
    candidates.set(candidate, name)
    candidate.ended.then(() => candidates.delete(candidate))
    return candidate
  }
  extendFleet(app, { lock, leader })
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
    await Promise.all([locks.close(options.closeGraceMs), within(options.closeGraceMs, Promise.all(stopped))])
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
export const locks: FastifyPluginAsync<LocksOptions> = fleetPlugin('locks', plugin)
export default locks
