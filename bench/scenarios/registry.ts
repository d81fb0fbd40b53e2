import { type RedisServer, startRedis } from '../../src/cli/up/redis.ts'
import type { Machine } from '../machine.ts'
import { cpuTime } from '../processes.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'

let redis: Promise<RedisServer> | undefined

async function inputOutput(machine: Machine, url: string): Promise<{ commands: number; bytes: number }> {
  const child = machine.run('redis-cli', ['-u', url, 'info', 'stats'], { side: 'generator' })
  await child.exit
  const figure = (name: string): number => Number(new RegExp(`${name}:(\\d+)`).exec(child.stdout)?.[1])
  return { commands: figure('total_commands_processed'), bytes: figure('total_net_output_bytes') }
}

const subject = (instances: number): Subject => ({
  name: name(instances),
  async open(machine: Machine): Promise<Open> {
    redis ??= startRedis({ appendonly: false })
    const { url, pid } = await redis
    const program = await machine.program('registry.js', { env: { REDIS_URL: url, INSTANCES: String(instances) } })
    const beats = async (seconds: number): Promise<number> => {
      const response = await fetch(`http://127.0.0.1:${program.port}/?seconds=${seconds}`)
      return ((await response.json()) as { beats: number }).beats
    }
    await beats(1)
    return {
      async round(seconds): Promise<Figures> {
        const before = { redis: cpuTime([pid]), own: cpuTime([program.pid]), ...(await inputOutput(machine, url)) }
        const count = await beats(seconds)
        const after = { redis: cpuTime([pid]), own: cpuTime([program.pid]), ...(await inputOutput(machine, url)) }
        return {
          beats: count / seconds,
          redis: (after.redis - before.redis) / count,
          own: (after.own - before.own) / count,
          commands: (after.commands - before.commands) / count,
          bytes: (after.bytes - before.bytes) / count,
        }
      },
      close: () => program.stop(),
    }
  },
})

const name = (instances: number): string => `${instances.toLocaleString('en')} instances`

const scenario: Scenario = {
  name: 'registry',
  title: 'The cost of a heartbeat',
  about:
    'Ten registrars, one as in each instance, each with its list of all peers, send heartbeats over one connection to one Redis, which ' +
    'holds the entries of the others. The commands include those that the script of a beat runs. An instance beats every ' +
    'two seconds.',
  metrics: {
    redis: { title: 'Redis, CPU µs/beat' },
    own: { title: 'instance, CPU µs/beat' },
    commands: { title: 'commands/beat', digits: 2 },
    bytes: { title: 'bytes read/beat', digits: 0 },
    beats: { title: 'beats/s', digits: 0 },
  },
  subjects: [10, 100, 1_000].map(subject),
  bars: [
    { what: 'CPU of Redis per heartbeat', metric: 'redis' },
    { what: 'CPU of an instance per heartbeat', metric: 'own' },
    { what: 'bytes read per heartbeat', metric: 'bytes' },
  ].map(({ what, metric }) => ({
    what: `${what}, 1,000 instances over 10`,
    subject: name(1_000),
    metric,
    over: name(10),
    // A look-up in a sorted set of a thousand takes a few steps more than in one of ten.
    limit: 1.25,
  })),
}
export default scenario
