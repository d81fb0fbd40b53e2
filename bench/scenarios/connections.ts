import { freePort } from '../../src/cli/up/port.ts'
import type { Machine, Program } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv } from '../servers.ts'
import { type Place, shippedHaproxy, shippedNginx } from '../shipped-fronts.ts'

const starters = { nginx: shippedNginx, HAProxy: shippedHaproxy } as const
const programs = { 'fastify-fleet': 'hello-fleet.js', 'plain Fastify': 'hello-ready.js' } as const
type Front = keyof typeof starters
type Behind = keyof typeof programs

const rate = 500
/** Not counted: the proxy is still accepting the connections, or closing those of the previous round. */
const leadSeconds = 1

/** A resource shared by several subjects: the first starts it, the last stops it. */
class Shared<T> {
  #users = 0
  #started: Promise<T> | undefined
  readonly #start: (machine: Machine) => Promise<T>
  readonly #stop: (started: T) => Promise<void>

  constructor(start: (machine: Machine) => Promise<T>, stop: (started: T) => Promise<void>) {
    this.#start = start
    this.#stop = stop
  }

  take(machine: Machine): Promise<T> {
    this.#users++
    this.#started ??= this.#start(machine)
    return this.#started
  }

  async leave(): Promise<void> {
    if (--this.#users > 0 || !this.#started) return
    const started = await this.#started
    this.#started = undefined
    await this.#stop(started)
  }
}

type Instance = Program & Place

/** Three instances behind both proxies, because idle ones beside them would disturb the measurement. */
function threeOf(behind: Behind): Shared<readonly Instance[]> {
  const instance = async (machine: Machine): Promise<Instance> => {
    const agent = await freePort()
    const env = { ...fleetEnv, TRUST_PROXY: 'loopback', FLEET_AGENT_PORT: String(agent) }
    return { ...(await machine.program(programs[behind], { env })), agent }
  }
  return new Shared<readonly Instance[]>(
    (machine) => Promise.all([instance(machine), instance(machine), instance(machine)]),
    async (instances) => void (await Promise.all(instances.map((each) => each.stop()))),
  )
}

/** A front with its instances, the same ones with few connections and with many. */
function site(front: Front, three: Shared<readonly Instance[]>): Shared<Program> {
  return new Shared(
    async (machine) => {
      const instances = await three.take(machine)
      const started = await starters[front](machine, instances)
      // At full speed until the code is compiled: a request to an instance that has seen a few hundred costs several
      // times as much as it does later.
      await machine.load({ port: started.port, connections: 30, seconds: 5 })
      return started
    },
    async (started) => {
      await started.stop()
      await three.leave()
    },
  )
}

function subject(name: string, shared: Shared<Program>, connections: number): Subject {
  return {
    name,
    async open(machine): Promise<Open> {
      const front = await shared.take(machine)
      const job = { port: front.port, connections, rate, poisson: true, greet: true, lead: leadSeconds }
      return {
        async round(seconds): Promise<Figures> {
          const { latency, completed, succeeded, errors } = await machine.load({ ...job, seconds })
          const dropped = completed - succeeded + Object.values(errors).reduce((sum, count) => sum + count, 0)
          return { p50: latency.p50, p95: latency.p95, p99: latency.p99, rps: completed / seconds, dropped }
        },
        close: () => shared.leave(),
      }
    },
  }
}

const name = (front: Front, behind: Behind, connections: number): string =>
  `${front}, ${behind === 'fastify-fleet' ? '' : `${behind}, `}${connections.toLocaleString('en')} connections`

const fronts: readonly Front[] = ['nginx', 'HAProxy']
const subjects = (Object.keys(programs) as Behind[]).flatMap((behind) => {
  const three = threeOf(behind)
  return fronts.flatMap((front) => {
    const shared = site(front, three)
    return [100, 10_000].map((connections) => subject(name(front, behind, connections), shared, connections))
  })
})

const missed = {
  why: 'proxy and instances share a core: p95 is the queue for it, also with plain Fastify behind the same proxy',
  profile: 'connections.md',
}

const scenario: Scenario = {
  name: 'connections',
  title: 'Ten thousand open connections through a reverse proxy',
  about:
    'Three instances behind nginx and HAProxy with the files of `nginx/` and `haproxy/`, 500 requests per second at ' +
    'random times over random open connections; the same with 100 connections beside it, and with plain ' +
    'Fastify behind the same fronts, which shows what is theirs.',
  metrics: {
    p50: { title: 'p50 ms', digits: 2 },
    p95: { title: 'p95 ms', digits: 2 },
    p99: { title: 'p99 ms', digits: 2 },
    rps: { title: 'requests/s', digits: 0 },
    dropped: { title: 'dropped', digits: 0 },
  },
  subjects,
  bars: fronts.flatMap((front) => [
    {
      what: `p95 with 10,000 connections over 100, ${front}`,
      subject: name(front, 'fastify-fleet', 10_000),
      metric: 'p95',
      over: name(front, 'fastify-fleet', 100),
      limit: 1.2,
      missed,
    },
    {
      what: `dropped, ${front}`,
      subject: name(front, 'fastify-fleet', 10_000),
      metric: 'dropped',
      is: 'exactly' as const,
      limit: 0,
    },
  ]),
}
export default scenario
