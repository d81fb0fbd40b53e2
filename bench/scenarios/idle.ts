import { setTimeout as sleep } from 'node:timers/promises'
import type { Machine } from '../machine.ts'
import { family, residentMemory } from '../processes.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv, type ServerOptions } from '../servers.ts'

const connections = 10_000

/** Each round uses a new process, because used memory is not returned to the system. */
function subject(name: string, options: ServerOptions): Subject {
  return {
    name,
    async open(machine: Machine): Promise<Open> {
      return {
        async round(): Promise<Figures> {
          const env = { ...options.env, NODE_OPTIONS: '--expose-gc' }
          const { port, pid, child, stop } = await machine.program(options.file, { ...options, env })
          const memory = async (): Promise<number> => {
            // Garbage is not part of the cost of a connection.
            await child.kill('SIGUSR2')
            await sleep(2_000)
            return residentMemory(family(pid))
          }
          await machine.load({ port, connections: 50, seconds: 2 })
          const before = await memory()
          const release = await machine.hold({ port, connections })
          const after = await memory()
          await release()
          await stop()
          return { each: ((after - before) * 1024) / connections, rss: after }
        },
        close: async () => undefined,
      }
    },
  }
}

const scenario: Scenario = {
  name: 'idle',
  title: 'Ten thousand idle connections',
  about: `${connections} persistent connections after one request each and a garbage collection: resident memory for each of them.`,
  metrics: { each: { title: 'KiB per connection' }, rss: { title: 'memory MiB', digits: 0 } },
  subjects: [
    subject('bare Fastify', { file: 'hello-bare.js' }),
    subject('fastify-fleet', { file: 'hello-fleet.js', env: fleetEnv }),
    subject('Fastify, assembled stack', { file: 'hello-stack.js' }),
  ],
  bars: [
    {
      what: 'KiB per idle connection at 10,000',
      subject: 'fastify-fleet',
      metric: 'each',
      limit: 13.5,
      missed: {
        why: 'the live heap has 0.45 KiB more than bare Fastify, which is itself near the bar',
        profile: 'idle.md',
      },
    },
  ],
}
export default scenario
