// The states of a fleet that the dashboard must show well: for the tests in a browser and for the pictures in docs/images.
import { instanceOf, type Sample, type SampleEvent, sampleOf } from './sample-fleet.ts'

const minute = 60_000
const indexOf = (sample: Sample, id: string): number => sample.state.instances.findIndex((one) => one.id === id)
const instance = (sample: Sample, id: string): Record<string, unknown> =>
  sample.state.instances[indexOf(sample, id)] ?? {}

/** Adds events, given oldest first. */
function add(sample: Sample, ...events: Omit<SampleEvent, 'id'>[]): void {
  for (const event of events) sample.events.unshift({ id: `late-${sample.events.length}`, ...event })
}

function depart(sample: Sample, id: string, ago: number, reason: string, detail: string): void {
  const { at, departed, instances } = sample.state
  const [gone] = instances.splice(indexOf(sample, id), 1)
  const { load } = sample
  sample.load = (time) => (time > at - ago ? { ...load(time), instances: instances.length } : load(time))
  departed.unshift({ ...gone, reason, detail, at: at - ago, lastSeen: at - ago - 2000 })
  add(sample, { at: at - ago, kind: reason, instance: id, version: '2.3.1', text: detail })
}

function drain(sample: Sample, id: string, ago: number): void {
  Object.assign(instance(sample, id), { state: 'draining', rps: 3.1, loop: 0.04 })
  add(sample, {
    at: sample.state.at - ago,
    kind: 'draining',
    instance: id,
    version: '2.3.1',
    text: 'out of rotation, still serving',
  })
}

/** `fleet deploy canary` of 2.4.0, which runs. */
function deployCanary(sample: Sample): void {
  const { at, instances } = sample.state
  const version = '2.4.0'
  const canary = { version, startedAt: at - 4 * minute, rps: 11, errorRate: 0.012, p95: 31, loop: 0.09, weight: 10 }
  instances.push(instanceOf(instances.length + 1, at, canary))
  add(
    sample,
    { at: at - 5 * minute, kind: 'deploy-started', version, text: '6 steps' },
    { at: at - 4.5 * minute, kind: 'deploy-step', version, text: '1 of 6: start the canary' },
    { at: at - 4 * minute, kind: 'ready', version, instance: `web-${instances.length}`, text: 'after 1.4 s' },
    { at: at - 3.9 * minute, kind: 'deploy-step', version, text: '2 of 6: give the canary its share' },
    { at: at - 3.8 * minute, kind: 'deploy-step', version, text: '3 of 6: compare the canary' },
  )
}

/** A large fleet in which not all is well: three pools, two versions, a failing check, tombstones of a deploy. */
function large(count: number, at: number): Sample {
  const sample = sampleOf(count, at)
  for (const [i, one] of sample.state.instances.entries()) {
    Object.assign(one, { pool: ['web', 'api', 'jobs'][i % 3], version: i % 10 === 0 ? '2.4.0' : '2.3.1' })
  }
  Object.assign(instance(sample, 'web-17'), { failing: ['mail'] })
  drain(sample, 'web-31', 40_000)
  depart(sample, 'web-12', 9 * minute, 'stopped', 'SIGTERM, drained in 5.2 s')
  depart(sample, 'web-23', 12_000, 'lost', 'last seen 12 s before')
  return sample
}

/** @param at what the fleet's clock shows */
export const scenarios: Record<string, (at: number) => Sample> = {
  healthy: (at) => sampleOf(3, at),
  killed(at) {
    const sample = sampleOf(3, at)
    depart(sample, 'web-2', 12_000, 'killed', 'SIGKILL')
    return sample
  },
  draining(at) {
    const sample = sampleOf(3, at)
    drain(sample, 'web-3', 20_000)
    return sample
  },
  'none-serving'(at) {
    const sample = sampleOf(3, at)
    for (const one of sample.state.instances)
      Object.assign(one, { failing: ['database'], state: 'draining', rps: 0, p95: 0 })
    const { load } = sample
    sample.load = (time) =>
      time > at - 90_000 ? { ...load(time), requests: 0, p50: null, p95: null, p99: null } : load(time)
    add(sample, { at: at - 90_000, kind: 'check-failed', instance: 'web-1', text: 'database: connection refused' })
    return sample
  },
  'redis-down'(at) {
    const sample = sampleOf(3, at)
    sample.state.redis = { state: 'down', since: at - 15_000 }
    for (const one of sample.state.instances) one.lastSeen = at - 15_000
    const failing = sample.state.instances.map(({ id }) => id)
    const { checks } = sample.dependencies as { checks: { name: string }[] }
    Object.assign(sample.dependencies, {
      redis: { state: 'down' },
      checks: checks.map((check) => (check.name === 'redis' ? { ...check, failing } : check)),
    })
    for (const path of ['history', 'events']) sample.failing.set(path, 503)
    return sample
  },
  canary(at) {
    const sample = sampleOf(3, at)
    deployCanary(sample)
    return sample
  },
  '200': (at) => large(200, at),
  '1000': (at) => large(1000, at),
  empty(at) {
    const sample = sampleOf(0, at)
    Object.assign(sample, {
      load: () => undefined,
      routes: [],
      dependencies: { redis: null, database: null, checks: [] },
    })
    sample.state.redis.state = 'none'
    return sample
  },
  /** The instance responded once and no longer does. */
  error: (at) => sampleOf(3, at),
}
