// The history of the fleet: what the dashboard shows of the past, the same on every instance. Concepts:
//   HistoryStore (store.ts)      counts by step, minute and route, and events; memory-store.ts, redis-store.ts
//   ResponseCounters (counters.ts)  counts responses of this instance, in memory
//   Recorder (recorder.ts)       adds these counts to the store once per step
//   Outbox (outbox.ts)           events that this instance records: OwnEvents (own-events.ts), LostPeers (gone.ts)
//   points.ts, departed.ts       what readers get: points of a chart, figures of routes, instances that are gone
// The dashboard registers it. Requests cost no command of Redis, and an outage of Redis leaves a gap.

import { performance } from 'node:perf_hooks'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { residentMemory } from '../../base/resident-memory.ts'
import { within } from '../../base/within.ts'
import { fleetPlugin } from '../../instance/compat/index.ts'
import { lifecycle } from '../../instance/lifecycle/index.ts'
import { expose } from '../../instance/metrics/expose.ts'
import { load } from '../../instance/metrics/load.ts'
import { redisOf } from '../redis/index.ts'
import { ResponseCounters } from './counters.ts'
import { type Departure, Departures } from './departed.ts'
import type { NewEvent, StoredEvent } from './events.ts'
import { LostPeers } from './gone.ts'
import { MemoryHistoryStore } from './memory-store.ts'
import { Outbox } from './outbox.ts'
import { lastEntryOf, OwnEvents, processOf } from './own-events.ts'
import { type HistoryPoint, pointsOf, type Range, type RouteReport, routesOf } from './points.ts'
import { Recorder } from './recorder.ts'
import { RedisHistoryStore } from './redis-store.ts'
import { type Counts, type EventQuery, stepMs } from './store.ts'

/** `app.fleet.history`. The reads throw FLEET_ERR_STATE_UNAVAILABLE, except for `departed`. */
export interface History {
  /** By the clock of Redis, Unix time in ms. */
  now(): number
  points(range: Range, since: number): Promise<{ stepMs: number; points: HistoryPoint[] }>
  routes(): Promise<RouteReport>
  events(query: EventQuery): Promise<StoredEvent[]>
  /** Instances that are gone, newest first; those that were read before while Redis is unavailable. */
  departed(): Promise<readonly Departure[]>
  /** Records an event that another program reports. */
  post(event: NewEvent): Promise<void>
}

declare module 'fastify' {
  interface FastifyFleet {
    /** @internal */
    history?: History
  }
}

/** How long a shutdown waits for the last event, ms. */
const lastEventMs = 500
/** How long figures of routes are valid, ms. */
const routesMs = 10_000

/** Counts of this instance since the last call, apart from its responses. */
function figures(app: FastifyInstance): () => Counts {
  let utilization = performance.eventLoopUtilization()
  let shedBefore = 0
  return () => {
    const now = performance.eventLoopUtilization()
    const share = performance.eventLoopUtilization(now, utilization).utilization
    utilization = now
    const { turn, concurrency } = app.hasDecorator('overload') ? app.overload.refused : { turn: 0, concurrency: 0 }
    const shed = turn + concurrency
    const counts: Counts = new Map([
      ['n', 1],
      ['u', Math.round(share * 1_000)],
      ['k', Math.round(residentMemory() / 1_024)],
      ['x', shed - shedBefore],
    ])
    shedBefore = shed
    for (const [name, count] of counts) if (count === 0) counts.delete(name)
    return counts
  }
}

const plugin: FastifyPluginAsync = async (app) => {
  await ensure(app, lifecycle, load)
  const { fleet } = app
  const redis = redisOf(app)
  const store = redis ? new RedisHistoryStore(redis, app.redisKey) : new MemoryHistoryStore()
  const responses = new ResponseCounters()
  const read = figures(app)
  const writes = { written: 0, failed: 0 }
  const now = (): number => recorder.now()
  const outbox = new Outbox(store, now)
  // Before the last event: an instance that writes after its end would count as back.
  fleet.onState((state) => void (state === 'closed' && recorder.stop()))
  const own = new OwnEvents(app, outbox, () => recorder.start())
  const recorder = new Recorder({
    store,
    counts: () => {
      const counts = read()
      own.shed(counts.get('x') ?? 0, stepMs)
      for (const [name, count] of responses.takeStep()) counts.set(name, count)
      return counts
    },
    routes: () => responses.takeRoutes(),
    peers: () => fleet.peers().length,
    process: processOf(fleet.instance),
    back: own.back(),
    done: (isWritten) => {
      writes[isWritten ? 'written' : 'failed']++
      void outbox.send()
    },
  })
  const lost = new LostPeers(store, now)
  fleet.onGone?.((peer, isSeen) => lost.vanished(peer, isSeen))
  expose(app, 'fleet_history_writes_total', 'Writes of the history by result', 'result', writes)

  const departures = new Departures(store)
  let routes: { readonly until: number; readonly report: Promise<RouteReport> } | undefined
  fleet.history = {
    now,
    points: (range, since) => pointsOf(store, now(), range, since),
    routes: () => {
      if (!routes || performance.now() > routes.until) {
        const report = routesOf(store, now())
        routes = { until: performance.now() + routesMs, report }
        report.catch(() => {
          routes = undefined
        })
      }
      return routes.report
    },
    events: (query) => store.events(query),
    departed: () => departures.list(now()),
    post: async (event) => {
      if (event.kind !== 'killed') return void (await store.record(event))
      departures.refresh()
      const ended = await departures.list(now())
      // It has said why it ends, and its supervisor only saw the exit code.
      if (ended.some(({ id, reason }) => id === event.instance && reason === 'stopped')) return
      const peer = fleet.peers().find(({ id }) => id === event.instance)
      const { version = peer?.version, pool = peer?.pool } = event
      const reported: NewEvent = peer ? { ...event, version, pool, entry: lastEntryOf(peer) } : event
      const isFirst = peer && (await store.record(reported, { process: processOf(peer) }))
      if (!isFirst) await store.record(reported)
      departures.refresh()
    },
  }
  app.load.listener = (request, status, ms) => responses.observe(request, status, ms)
  app.addHook('onClose', async () => {
    own.close()
    lost.close()
    await within(lastEventMs, Promise.all([recorder.stop(), outbox.send()]))
  })
}

/** Keeps the history of the fleet in `app.fleet.history`: figures over time, events, and instances that are gone. */
export const history: FastifyPluginAsync = fleetPlugin('history', plugin)
export default history
