import { bucketCount, percentile } from '../../instance/metrics/latency-scale.ts'
import { addCounts, type Counts, type HistoryStore, maxRoutes, minuteMs, routesMs, startOf, stepMs } from './store.ts'

export const ranges = { '15m': 900_000, '1h': 3_600_000, '24h': 86_400_000 } as const
export type Range = keyof typeof ranges
export const isRange = (text: unknown): text is Range => typeof text === 'string' && Object.hasOwn(ranges, text)

/** Figures of the fleet in one step. Counts are those of the whole step. */
export interface HistoryPoint extends Latency {
  /** Start of the step, Unix time in ms. */
  readonly at: number
  readonly instances: number
  readonly requests: number
  readonly clientErrors: number
  /** Including `shed`. */
  readonly serverErrors: number
  readonly shed: number
  /** Mean of the event-loop utilization of all instances, 0 to 1. */
  readonly loop: number
  /** Sum of the memory of all instances in bytes. */
  readonly memory: number
}

/** In ms; `null` without requests. */
interface Latency {
  readonly p50: number | null
  readonly p95: number | null
  readonly p99: number | null
}

export interface RouteFigures extends Latency {
  readonly method: string
  readonly route: string
  readonly requests: number
  readonly rps: number
  readonly clientErrors: number
  readonly serverErrors: number
}

export interface RouteReport {
  readonly windowMs: number
  readonly routes: readonly RouteFigures[]
  /** Number of routes that were counted, but are not listed. */
  readonly omitted: number
}

/** Instances write a step after its end, within this time, ms. */
const lateMs = 4_000
const routesWindowMs = ranges['15m']

function latencyOf(counts: Counts): Latency {
  const latency = new Float64Array(bucketCount)
  let sum = 0
  for (let i = 0; i < bucketCount; i++) {
    const count = counts.get(String(i)) ?? 0
    latency[i] = count
    sum += count
  }
  if (sum === 0) return { p50: null, p95: null, p99: null }
  const time = (share: number): number => percentile(latency, sum, share)
  return { p50: time(0.5), p95: time(0.95), p99: time(0.99) }
}

const errorsOf = (counts: Counts): { requests: number; clientErrors: number; serverErrors: number } => ({
  requests: counts.get('r') ?? 0,
  clientErrors: counts.get('c') ?? 0,
  serverErrors: counts.get('s') ?? 0,
})

/** @param instances largest number of instances in a step of the bucket */
function pointOf(counts: Counts, at: number, instances: number): HistoryPoint {
  const reports = Math.max(1, counts.get('n') ?? 0)
  return {
    at,
    instances,
    ...errorsOf(counts),
    shed: counts.get('x') ?? 0,
    ...latencyOf(counts),
    loop: Math.round((counts.get('u') ?? 0) / reports) / 1_000,
    memory: Math.round(((counts.get('k') ?? 0) * 1_024 * instances) / reports),
  }
}

/**
 * The points of a range that are complete, oldest first. A step in which no instance reported has none.
 *
 * @param since only later ones
 * @throws FLEET_ERR_STATE_UNAVAILABLE
 */
export async function pointsOf(
  store: HistoryStore,
  now: number,
  range: Range,
  since: number,
): Promise<{ stepMs: number; points: HistoryPoint[] }> {
  const isDay = range === '24h'
  const step = isDay ? minuteMs : stepMs
  const end = startOf(now, step)
  const starts: number[] = []
  for (let at = end - ranges[range]; at + step + lateMs <= now; at += step) if (at > since) starts.push(at)
  const found = await store.counts(isDay ? 'minute' : 'step', starts)
  const points = found.flatMap((counts, i) =>
    counts ? pointOf(counts, starts[i] as number, counts.get(isDay ? 'i' : 'n') ?? 0) : [],
  )
  return { stepMs: step, points }
}

/** @throws FLEET_ERR_STATE_UNAVAILABLE */
export async function routesOf(store: HistoryStore, now: number): Promise<RouteReport> {
  const starts: number[] = []
  for (let at = startOf(now, routesMs); at > now - routesWindowMs; at -= routesMs) starts.push(at)
  const sums = new Map<string, Counts>()
  let first = now
  for (const [i, routes] of (await store.routes(starts)).entries()) {
    if (!routes) continue
    first = starts[i] as number
    for (const [name, counts] of routes) {
      const sum = sums.get(name) ?? new Map<string, number>()
      sums.set(name, sum)
      addCounts(sum, counts)
    }
  }
  const omitted = sums.get('')?.get('m') ?? 0
  sums.delete('')
  const seconds = Math.max(1, (now - first) / 1_000)
  const all = Array.from(sums, ([name, counts]) => routeOf(name, counts, seconds))
  all.sort((a, b) => b.requests - a.requests)
  return {
    windowMs: routesWindowMs,
    routes: all.slice(0, maxRoutes),
    omitted: omitted + Math.max(0, all.length - maxRoutes),
  }
}

function routeOf(name: string, counts: Counts, seconds: number): RouteFigures {
  const space = name.indexOf(' ')
  const errors = errorsOf(counts)
  return {
    method: name.slice(0, space),
    route: name.slice(space + 1),
    ...errors,
    rps: Math.round((errors.requests / seconds) * 100) / 100,
    ...latencyOf(counts),
  }
}
