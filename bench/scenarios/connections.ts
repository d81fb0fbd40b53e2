import { freePort } from '../../src/cli/services/port.ts'
import type { Machine } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv } from '../servers.ts'
import { type Place, shippedHaproxy, shippedNginx } from '../shipped-fronts.ts'

const starters = { nginx: shippedNginx, HAProxy: shippedHaproxy } as const
type Front = keyof typeof starters

/** The front and its three instances share the server core. */
function subject(front: Front, connections: number): Subject {
  return {
    name: name(front, connections),
    async open(machine: Machine): Promise<Open> {
      const instance = async (): Promise<Place & { stop(): Promise<void> }> => {
        const agent = await freePort()
        const env = { ...fleetEnv, TRUST_PROXY: 'loopback', FLEET_AGENT_PORT: String(agent) }
        const { port, stop } = await machine.program('hello-fleet.js', { env })
        return { port, agent, stop }
      }
      const instances = await Promise.all([instance(), instance(), instance()])
      const { port, stop } = await starters[front](machine, instances)
      const job = { port, connections, rate: 500, poisson: true }
      await machine.load({ ...job, connections: 100, seconds: 2 })
      return {
        async round(seconds): Promise<Figures> {
          const { latency, completed, succeeded, errors } = await machine.load({ ...job, seconds })
          const dropped = completed - succeeded + Object.values(errors).reduce((sum, count) => sum + count, 0)
          return { p50: latency.p50, p95: latency.p95, p99: latency.p99, rps: completed / seconds, dropped }
        },
        close: async () => {
          await stop()
          await Promise.all(instances.map((each) => each.stop()))
        },
      }
    },
  }
}

const name = (front: Front, connections: number): string => `${front}, ${connections.toLocaleString('en')} connections`

const missed = {
  why: 'front and instances share a core that is more than half busy: p95 is the queue for it, and varies with the machine',
  profile: 'connections.md',
}

const fronts: readonly Front[] = ['nginx', 'HAProxy']
const scenario: Scenario = {
  name: 'connections',
  title: 'Ten thousand open connections through a front',
  about:
    'Three instances behind nginx and HAProxy with the files of `nginx/` and `haproxy/`, 500 requests per second at ' +
    'random moments over random ones of the open connections; the same with 100 connections beside it.',
  metrics: {
    p50: { title: 'p50 ms', digits: 2 },
    p95: { title: 'p95 ms', digits: 2 },
    p99: { title: 'p99 ms', digits: 2 },
    rps: { title: 'requests/s', digits: 0 },
    dropped: { title: 'dropped', digits: 0 },
  },
  subjects: fronts.flatMap((front) => [subject(front, 100), subject(front, 10_000)]),
  bars: fronts.flatMap((front) => [
    {
      what: `p95 with 10,000 connections over 100, ${front}`,
      subject: name(front, 10_000),
      metric: 'p95',
      over: name(front, 100),
      limit: 1.2,
      missed,
    },
    { what: `dropped, ${front}`, subject: name(front, 10_000), metric: 'dropped', is: 'exactly' as const, limit: 0 },
  ]),
}
export default scenario
