import type { Machine } from '../machine.ts'
import { family, residentMemory, scheduled } from '../processes.ts'
import { type Figures, type Open, type Scenario, type Subject, serverMetrics } from '../scenario.ts'
import { fleetEnv, underLoad } from '../servers.ts'

/** In the order in which `fleet` registers them. */
const plugins = [
  ...[
    'identity',
    'overload',
    'lifecycle',
    'operators',
    'errorResponses',
    'headers',
    'metrics',
    'health',
    'loadBalancer',
  ],
  ...[
    'agentCheck',
    'geo',
    'redis',
    'broadcast',
    'registry',
    'locks',
    'rateLimit',
    'session',
    'jwt',
    'cache',
    'httpCache',
  ],
  ...['idempotency', 'dashboard'],
]

function subject(name: string, program: string): Subject {
  const options = { args: [program], env: fleetEnv }
  const start = (machine: Machine): ReturnType<Machine['program']> => machine.program('plugins.js', options)
  return {
    name,
    async open(machine: Machine): Promise<Open> {
      const { round, close } = await underLoad(machine, await start(machine), { connections: 50 })
      return {
        async round(seconds): Promise<Figures> {
          // Another process, because a process boots once.
          const { pid, stop } = await start(machine)
          const boot = (scheduled(pid)?.ran ?? Number.NaN) * 1_000
          const idle = residentMemory(family(pid))
          await stop()
          // After a minute without requests, V8 has given up much of what it had compiled.
          await round(1)
          return { ...(await round(seconds)), boot, idle }
        },
        close,
      }
    },
  }
}

const modules = { why: 'loading modules, of which there are up to twice as many', profile: 'boot.md' }
const bar = (what: string, name: string, metric: string, limit: number): Scenario['bars'][number] => ({
  what: `${what} over bare Fastify`,
  subject: name,
  metric,
  over: 'bare Fastify',
  limit,
  ...(metric !== 'cpu' && { missed: modules }),
})

const scenario: Scenario = {
  name: 'plugins',
  title: 'What each plugin costs',
  about:
    'One route that returns `{"hello":"world"}`, 50 persistent connections. Each plugin is registered alone, together with those ' +
    'that it requires; no request uses it otherwise, and state is in memory. `boot` is the CPU time of a process until it listens, ' +
    'and `idle` its memory then; `memory` is that under load.',
  slices: 3,
  metrics: {
    cpu: serverMetrics.cpu,
    boot: { title: 'boot ms', digits: 0 },
    idle: { title: 'idle MiB', digits: 0 },
    rss: serverMetrics.rss,
    failed: serverMetrics.failed,
  },
  subjects: [
    subject('bare Fastify', 'bare'),
    subject('`preset: core`', 'core'),
    subject('`preset: full`', 'full'),
    ...plugins.map((name) => subject(`\`${name}\``, name)),
  ],
  bars: [
    bar('preset core, CPU per request', '`preset: core`', 'cpu', 1.2),
    bar('preset core, memory', '`preset: core`', 'rss', 1.15),
    bar('preset core, boot', '`preset: core`', 'boot', 1.5),
    bar('preset full, boot', '`preset: full`', 'boot', 1.5),
    bar('preset full, memory of an idle app', '`preset: full`', 'idle', 1.2),
  ],
  page: { file: 'docs/compatibility.md', over: 'bare Fastify' },
}
export default scenario
