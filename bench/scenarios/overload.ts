import type { Result } from '../generator.ts'
import type { Machine } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv, warmUpSeconds } from '../servers.ts'

/** Requests sent, as a multiple of the capacity. */
const times = 10
/** Overload is detected in the first seconds: half a second without idle time is not overload yet. */
const onset = 2
/** Longer than any response that still counts may take. */
const tail = 0.25
/** Time until the rejecting code is compiled too: about 20,000 requests. */
const compiling = 8

/**
 * Each round finds out the capacity of the moment, with few enough clients that none waits long, before and after. Where
 * the processor is what is short, seconds are those that the server had for itself: what others take of its core at one of
 * these moments and not at the other would be taken for a gain or a loss.
 */
function subject(name: string, work: 'cpu' | 'pool', shield: string): Subject {
  return {
    name,
    async open(machine: Machine): Promise<Open> {
      const program = await machine.program('overload.js', { env: { ...fleetEnv, WORK: work, SHIELD: shield } })
      const { port, pid } = program
      const peak = (seconds: number): Promise<Result> =>
        machine.load({ port, pid, connections: work === 'cpu' ? 4 : 12, seconds })
      const flood = (rate: number, seconds: number, lead = 0): Promise<Result> =>
        machine.load({
          ...{ port, pid, connections: 1_000, rate, poisson: true, tally: 'retry-after' },
          ...{ seconds, lead, tail },
        })
      /** So that the next measurement does not start with the backlog of the last. */
      const quiet = async (): Promise<void> => void (await machine.load({ port, connections: 1, seconds: 1 }))
      const { succeeded, seconds: took } = await peak(warmUpSeconds)
      await flood((succeeded / took) * times, compiling)
      await quiet()
      return {
        async round(seconds): Promise<Figures> {
          const before = await peak(Math.max(1, seconds / 2))
          const result = await flood((before.succeeded / before.seconds) * times, seconds, onset)
          await quiet()
          const after = await peak(Math.max(1, seconds / 2))
          const time = ({ own, seconds }: Result): number => (work === 'cpu' ? own : seconds)
          const capacity = (before.succeeded + after.succeeded) / (time(before) + time(after))
          const goodput = result.succeeded / time(result)
          const refused = result.statuses[503] ?? 0
          const lost = Object.values(result.errors).reduce((sum, count) => sum + count, 0)
          return {
            first: result.leadLatency.p95,
            capacity,
            goodput,
            share: goodput / capacity,
            p50: result.latency.p50,
            p95: result.latency.p95,
            refused: refused / time(result),
            own: result.own / result.seconds,
            bad: result.completed - result.succeeded - (result.tally['1'] ?? 0) + lost,
          }
        },
        close: () => program.stop(),
      }
    },
  }
}

const cpu = 'processor: fastify-fleet'
const pool = 'pool: fastify-fleet, latency: true'
const missed = {
  why: 'nine rejections for each served request, each as expensive as the smallest response of node:http, use part of the core',
  profile: 'overload.md',
}
const bars = (name: string, what: string): Scenario['bars'] => [
  { what: `goodput at 10 × capacity, ${what}`, subject: name, metric: 'share', is: 'at least', limit: 0.9, missed },
  { what: `p95 ms of accepted requests, ${what}`, subject: name, metric: 'p95', limit: 100, missed },
  {
    what: `neither served nor rejected with Retry-After, ${what}`,
    subject: name,
    metric: 'bad',
    is: 'exactly',
    limit: 0,
  },
]

const scenario: Scenario = {
  name: 'overload',
  title: 'Ten times the capacity',
  about:
    'An open loop: requests arrive at random times, ten times as many per second as the capacity, whether or ' +
    'not there are responses. Goodput counts responses with 200, as a share of the capacity. Latency counts from the time a ' +
    `request is due. The first ${onset} s, in which overload is detected, have their own column. ` +
    '`own` is the share of the time that the server had for itself, running or idle; with `processor`, rates are by that. ' +
    '`processor`: about 6 ms of it per request, in two pieces; `pool`: ten places, 20 ms each.',
  metrics: {
    capacity: { title: 'capacity/s', digits: 0 },
    goodput: { title: 'goodput/s', digits: 0 },
    share: { title: 'share', digits: 2 },
    p50: { title: 'p50 ms', digits: 0 },
    p95: { title: 'p95 ms', digits: 0 },
    first: { title: `p95 ms, first ${onset} s`, digits: 0 },
    refused: { title: 'rejected/s', digits: 0 },
    own: { title: 'own', digits: 2 },
    bad: { title: 'lost or without Retry-After', digits: 0 },
  },
  subjects: [
    subject(cpu, 'cpu', 'fleet'),
    subject('processor: overload switched off', 'cpu', 'fleet-off'),
    subject('processor: @fastify/under-pressure', 'cpu', 'under-pressure'),
    subject(pool, 'pool', 'fleet'),
    subject('pool: overload switched off', 'pool', 'fleet-off'),
    subject('pool: @fastify/under-pressure', 'pool', 'under-pressure'),
  ],
  bars: [...bars(cpu, 'processor'), ...bars(pool, 'pool')],
}
export default scenario
