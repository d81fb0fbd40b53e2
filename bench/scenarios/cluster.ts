import { freePort } from '../../src/cli/up/port.ts'
import type { Machine, Program } from '../machine.ts'
import { type Open, type Scenario, type Subject, serverMetrics } from '../scenario.ts'
import { fleetEnv, server, underLoad, type Work } from '../servers.ts'

const work: Work = { connections: 50, reconnect: true }

/** `fleet start`, supervisor and workers together. */
async function started(machine: Machine, workers: number): Promise<Program> {
  const port = await freePort()
  const at = (path: string): string => new URL(`../${path}`, import.meta.url).pathname
  const main = at('node_modules/fastify-fleet/dist/cli/main.js')
  const args = [main, 'start', at('programs/hello-fleet.js'), '--workers', String(workers)]
  const child = machine.run(process.execPath, args, { env: { ...fleetEnv, PORT: String(port) } })
  for (let tries = 0; ; tries++) {
    const responses = await fetch(`http://127.0.0.1:${port}/ready`).then(
      ({ ok }) => ok,
      () => false,
    )
    if (responses) break
    if (child.ended || tries > 300) throw new Error(`Error: fleet start does not serve: ${child.stderr.slice(-200)}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return { port, pid: child.pid, child, stop: () => child.stop(5_000) }
}

const fleetStart = (name: string, workers: number): Subject => ({
  name,
  open: async (machine: Machine): Promise<Open> => underLoad(machine, await started(machine, workers), work),
})

const scenario: Scenario = {
  name: 'cluster',
  title: 'Several processes, a new connection for every request',
  about:
    'The worst case for a cluster: each connection carries one request, as from clients without keep-alive. All processes ' +
    'share one core, so that rates do not add up and what is compared is the cost; supervisors count with their workers.',
  slices: 4,
  metrics: serverMetrics,
  subjects: [
    server('bare Fastify, one process', { file: 'hello-bare.js' }, work),
    server('node:cluster, round robin, 2 workers', { file: 'cluster.js', env: { SCHED: 'rr', WORKERS: '2' } }, work),
    server('node:cluster, SCHED_NONE, 2 workers', { file: 'cluster.js', env: { SCHED: 'none', WORKERS: '2' } }, work),
    server('fastify-fleet, one process', { file: 'hello-fleet.js', env: fleetEnv }, work),
    fleetStart('fleet start, 1 worker', 1),
    fleetStart('fleet start, 2 workers', 2),
  ],
  bars: [
    {
      what: 'fleet start, 2 workers, over a single process, connection per request',
      subject: 'fleet start, 2 workers',
      metric: 'cpu',
      over: 'fastify-fleet, one process',
      limit: 1.4,
      missed: {
        why: 'two processes share the caches of one core; they make the same system calls for a request as one',
        profile: 'machine.md',
      },
    },
    {
      what: 'connections lost by fleet start',
      subject: 'fleet start, 2 workers',
      metric: 'failed',
      is: 'exactly',
      limit: 0,
    },
  ],
}
export default scenario
