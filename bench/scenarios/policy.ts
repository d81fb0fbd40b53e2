import { haproxy, nginx, upstreams } from '../fronts.ts'
import type { Job } from '../generator.ts'
import type { Machine, Program } from '../machine.ts'
import type { Open, Scenario, Subject } from '../scenario.ts'

type Start = (machine: Machine, ports: readonly number[]) => Promise<Program>

const nine = Array.from({ length: 9 }, () => '5/1')
const healthy = upstreams([...nine, '5/1'])
const oneSlow = upstreams([...nine, '50/1'])

/** A p99 needs a thousand requests. */
const leastSeconds = 6
const warmUpSeconds = 3

/** Two proxies of the same kind, loaded at the same time, so that a disturbance affects both. */
function subject(name: string, start: Start): Subject {
  return {
    name,
    async open(machine: Machine): Promise<Open> {
      const fronts = await Promise.all([healthy, oneSlow].map(async (behind) => start(machine, await behind(machine))))
      const send = (seconds: number) =>
        Promise.all(
          fronts.map(({ port }) => {
            const job: Job = { port, seconds, connections: 100, rate: 200, poisson: true, tally: 'x-upstream' }
            return machine.load(job)
          }),
        )
      await send(warmUpSeconds)
      return {
        async round(seconds) {
          const [calm, slow] = await send(Math.max(seconds, leastSeconds))
          if (!calm || !slow) throw new Error('no responses')
          const failed = (result: typeof slow): number =>
            result.completed - result.succeeded + Object.values(result.errors).reduce((sum, count) => sum + count, 0)
          return {
            calm: calm.latency.p99,
            p50: slow.latency.p50,
            p99: slow.latency.p99,
            share: ((slow.tally['9'] ?? 0) / slow.completed) * 100,
            failed: failed(calm) + failed(slow),
          }
        },
        close: async () => void (await Promise.all(fronts.map((front) => front.stop()))),
      }
    },
  }
}

const ours = (policy: string): Subject =>
  subject(`fastify-fleet ${policy}`, (machine, ports) =>
    machine.program('proxy-fleet.js', {
      env: { POLICY: policy },
      args: ports.map((port) => `http://127.0.0.1:${port}`),
    }),
  )

const barsOf = (policy: string): Scenario['bars'] => {
  const name = `fastify-fleet ${policy}`
  return [
    {
      what: `${policy}: p99 over that with all healthy`,
      subject: name,
      metric: 'p99',
      over: name,
      overMetric: 'calm',
      limit: 1.2,
      missed: {
        why: 'a pause of 50 ms on a shared machine delays ten of the 1,200 requests of a round, with any proxy',
        profile: 'machine.md',
      },
    },
    { what: `${policy}: share sent to the slow one, %`, subject: name, metric: 'share', limit: 1 },
    { what: `${policy}: requests that failed`, subject: name, metric: 'failed', limit: 0 },
  ]
}

const scenario: Scenario = {
  name: 'policy',
  title: 'Ten upstreams, one of them ten times slower',
  about:
    '200 requests per second at random (Poisson) intervals, ten upstreams that serve one request at a time: nine for 5 ms, ' +
    'one for 50 ms. Beside each proxy runs another of its kind in front of ten healthy upstreams, at the same rate and time. ' +
    'What a front has to find out first is not counted: three seconds of the same load come before the first round.',
  metrics: {
    calm: { title: 'p99 ms, all healthy' },
    p99: { title: 'p99 ms, one slow' },
    p50: { title: 'p50 ms, one slow' },
    share: { title: '% to the slow one', digits: 2 },
    failed: { title: 'failed', digits: 0 },
  },
  subjects: [
    ours('round-robin'),
    ours('least-connections'),
    ours('two-choices'),
    ours('least-response-time'),
    ours('prequal'),
    subject('nginx round robin', (machine, ports) => nginx(machine, ports, '')),
    subject('nginx least_conn', (machine, ports) => nginx(machine, ports, 'least_conn;')),
    subject('nginx random two', (machine, ports) => nginx(machine, ports, 'random two least_conn;')),
    subject('HAProxy roundrobin', (machine, ports) => haproxy(machine, ports, 'roundrobin')),
    subject('HAProxy leastconn', (machine, ports) => haproxy(machine, ports, 'leastconn')),
    subject('HAProxy random(2)', (machine, ports) => haproxy(machine, ports, 'random(2)')),
  ],
  bars: ['least-response-time', 'prequal'].flatMap(barsOf),
}
export default scenario
