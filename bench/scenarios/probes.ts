import { setTimeout as sleep } from 'node:timers/promises'
import { type RedisServer, startRedis } from '../../src/cli/up/redis.ts'
import type { Machine, Program } from '../machine.ts'
import type { Figures, Open, Scenario } from '../scenario.ts'
import { fleetEnv } from '../servers.ts'

/** How often the check has run. */
async function checkRuns({ port }: Pick<Program, 'port'>): Promise<number> {
  const { runs } = (await (await fetch(`http://127.0.0.1:${port}/runs`)).json()) as { runs: number }
  return runs
}

/** `INFO` over a connection of its own, which is not counted among the app's. */
async function redisCommands(machine: Machine, redis: RedisServer): Promise<number> {
  const child = machine.run('redis-cli', ['-u', redis.url, 'info', 'stats'], { side: 'generator' })
  await child.exit
  return Number(/total_commands_processed:(\d+)/.exec(child.stdout)?.[1])
}

const rate = 10_000

const scenario: Scenario = {
  name: 'probes',
  title: 'A storm of probes',
  about:
    `${rate} \`GET /ready\` per second (or as many as one core can serve) to an instance with Redis and a check that runs once ` +
    'per second. How often the check ran and how many commands Redis got is compared with an idle period of the same length.',
  metrics: {
    rps: { title: 'probes/s', digits: 0 },
    checks: { title: 'checks/s, storm', digits: 2 },
    checksQuiet: { title: 'quiet', digits: 2 },
    redis: { title: 'Redis commands/s, storm' },
    redisQuiet: { title: 'quiet' },
    perProbe: { title: 'Redis commands/probe', digits: 4 },
    cpu: { title: 'CPU µs/request' },
    p99: { title: 'p99 ms', digits: 2 },
    failed: { title: 'failed', digits: 0 },
  },
  subjects: [
    {
      name: 'fastify-fleet',
      async open(machine: Machine): Promise<Open> {
        const redis = await startRedis({ appendonly: false })
        const program = await machine.program('probed.js', { env: { ...fleetEnv, REDIS_URL: redis.url } })
        const job = { port: program.port, connections: 50, requests: [{ path: '/ready' }], rate }
        const during = async <T>(task: () => Promise<T>): Promise<{ checks: number; redis: number; result: T }> => {
          const before = [await checkRuns(program), await redisCommands(machine, redis)] as const
          const begin = performance.now()
          const result = await task()
          const seconds = (performance.now() - begin) / 1000
          const checks = ((await checkRuns(program)) - before[0]) / seconds
          // One of them is the INFO that counts.
          return { checks, redis: ((await redisCommands(machine, redis)) - before[1] - 1) / seconds, result }
        }
        await machine.load({ ...job, seconds: 2 })
        return {
          async round(seconds): Promise<Figures> {
            const length = Math.max(seconds, 3)
            const quiet = await during(() => sleep(length * 1000))
            const storm = await during(() => machine.measure({ ...job, seconds: length }, [program.pid]))
            const { rps, cpu, p99, failed } = storm.result
            return {
              ...{ rps, cpu, p99, failed, checks: storm.checks, checksQuiet: quiet.checks },
              ...{ redis: storm.redis, redisQuiet: quiet.redis, perProbe: (storm.redis - quiet.redis) / rps },
            }
          },
          close: async () => {
            await program.stop()
            await redis.stop()
          },
        }
      },
    },
  ],
  bars: [
    { what: 'checks per second under a storm of probes', subject: 'fastify-fleet', metric: 'checks', limit: 1.1 },
    // Heartbeats cause a difference of a few commands per second.
    { what: 'Redis commands per probe', subject: 'fastify-fleet', metric: 'perProbe', limit: 0.005 },
    { what: 'probes that failed', subject: 'fastify-fleet', metric: 'failed', is: 'exactly', limit: 0 },
  ],
}
export default scenario
