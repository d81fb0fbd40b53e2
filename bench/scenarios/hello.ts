import type { Machine } from '../machine.ts'
import { type Open, type Scenario, serverMetrics } from '../scenario.ts'
import { fleetEnv, server, underLoad, type Work } from '../servers.ts'
import { watt } from '../watt.ts'

/** As a reverse proxy sends them: few persistent connections, each reused at once. */
const work: Work = { connections: 50 }

const scenario: Scenario = {
  name: 'hello',
  title: 'The cost of the umbrella plugin',
  about:
    'One route that returns `{"hello":"world"}`, 50 persistent connections. The floor is bare Fastify with the same headers, ' +
    'an id and a histogram written by hand; the stack is the usual combination of plugins for the same purpose: helmet, cors, ' +
    'under-pressure, fastify-metrics, ids, graceful shutdown.',
  slices: 4,
  metrics: serverMetrics,
  subjects: [
    server('node:http', { file: 'hello-node.js' }, work),
    server('bare Fastify', { file: 'hello-bare.js' }, work),
    server('the same by hand (floor)', { file: 'hello-floor.js' }, work),
    server('fastify-fleet', { file: 'hello-fleet.js', env: fleetEnv }, work),
    server('Fastify, assembled stack', { file: 'hello-stack.js' }, work),
    {
      name: 'Watt, one worker, with metrics',
      open: async (machine: Machine): Promise<Open> => underLoad(machine, await watt(machine), work),
    },
    server('Express, assembled stack', { file: 'hello-express.js' }, work),
  ],
  bars: [
    {
      what: 'umbrella plugin over bare Fastify, CPU per request',
      subject: 'fastify-fleet',
      metric: 'cpu',
      over: 'bare Fastify',
      limit: 1.4,
      missed: {
        why: 'about forty small costs below a microsecond each, which exceed the cache that bare Fastify just fits into; written by hand they cost more',
        profile: 'machine.md',
      },
    },
    {
      what: 'umbrella plugin over the same by hand, CPU per request',
      subject: 'fastify-fleet',
      metric: 'cpu',
      over: 'the same by hand (floor)',
      limit: 1,
    },
    {
      what: 'umbrella plugin over bare Fastify, memory',
      subject: 'fastify-fleet',
      metric: 'rss',
      over: 'bare Fastify',
      limit: 1.3,
      missed: {
        why: 'loading the modules makes V8 grow the young part of the heap to 2 × 8 MiB or, near a threshold, 2 × 16; that of bare Fastify to 2 × 4',
        profile: 'memory.md',
      },
    },
  ],
}
export default scenario
