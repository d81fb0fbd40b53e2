import type { Machine } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv, warmUpSeconds } from '../servers.ts'

/** How many times as many requests are sent as are done at best. */
const times = 10
/** In the first seconds the process finds out: half a second without an idle moment is not overload yet. */
const onset = 2

/** Each round finds out the capacity of the moment first, with few enough clients that none waits long. */
function subject(name: string, work: 'cpu' | 'pool', shield: string): Subject {
  return {
    name,
    async open(machine: Machine): Promise<Open> {
      const program = await machine.program('overload.js', { env: { ...fleetEnv, WORK: work, SHIELD: shield } })
      const { port } = program
      const peak = async (seconds: number): Promise<number> => {
        const { succeeded, seconds: took } = await machine.load({ port, connections: work === 'cpu' ? 4 : 12, seconds })
        return succeeded / took
      }
      /** So that what comes next does not begin with what the last has left. */
      const quiet = async (): Promise<void> => void (await machine.load({ port, connections: 1, seconds: 1 }))
      await peak(warmUpSeconds)
      return {
        async round(seconds): Promise<Figures> {
          const capacity = await peak(Math.max(1, seconds / 2))
          const job = { port, connections: 1_000, rate: capacity * times, poisson: true, tally: 'retry-after' }
          const result = await machine.load({ ...job, seconds, lead: onset })
          const refused = result.statuses[503] ?? 0
          const lost = Object.values(result.errors).reduce((sum, count) => sum + count, 0)
          await quiet()
          return {
            first: result.leadLatency.p95,
            capacity,
            goodput: result.succeeded / result.seconds,
            share: result.succeeded / result.seconds / capacity,
            p50: result.latency.p50,
            p95: result.latency.p95,
            refused: refused / result.seconds,
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
const missed = { why: 'nine refusals for each answer take their share of the same core', profile: 'overload.md' }
const bars = (name: string, what: string): Scenario['bars'] => [
  { what: `goodput at 10 × capacity, ${what}`, subject: name, metric: 'share', is: 'at least', limit: 0.9, missed },
  { what: `p95 ms of what is accepted, ${what}`, subject: name, metric: 'p95', limit: 100, missed },
  {
    what: `neither answered nor refused with Retry-After, ${what}`,
    subject: name,
    metric: 'bad',
    is: 'exactly',
    limit: 0,
  },
]

const scenario: Scenario = {
  name: 'overload',
  title: 'Ten times as many requests as can be done',
  about:
    'An open loop: requests come at random moments, ten times as many per second as the server does at best, whether or ' +
    'not it answers. Goodput is what is answered with 200, as a share of that best. Latency counts from the moment a ' +
    `request is due. The first ${onset} s, in which the process finds out, stand in a column of their own. ` +
    '`processor`: about 6 ms of it per request, in two pieces; `pool`: ten places, 20 ms each.',
  metrics: {
    capacity: { title: 'capacity/s', digits: 0 },
    goodput: { title: 'goodput/s', digits: 0 },
    share: { title: 'share', digits: 2 },
    p50: { title: 'p50 ms', digits: 0 },
    p95: { title: 'p95 ms', digits: 0 },
    first: { title: `p95 ms, first ${onset} s`, digits: 0 },
    refused: { title: 'refused/s', digits: 0 },
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
