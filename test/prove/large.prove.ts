import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { CrowdedFleet } from './crowd.ts'
import { type Proof, prove } from './prove.ts'
import { type RedisFigures, redisFigures } from './redis-figures.ts'

const secret = 's'.repeat(40)

interface Idle {
  /** Of Redis per instance and second: CPU time in µs, bytes received and sent, commands. */
  readonly cpu: number
  readonly bytes: number
  readonly commands: number
  /** CPU of an instance, in percent of one core. */
  readonly own: number
}

/** What an idle fleet costs. Each instance beats every six seconds, and signs its facts again every five minutes: that is later. */
async function idle(fleet: CrowdedFleet, client: Redis, instances: number, ms: number): Promise<Idle> {
  const own = async (): Promise<number> => (await fleet.all('cpu')).reduce((sum, cpu) => sum + cpu, 0)
  const began = performance.now()
  const [before, ownBefore] = [await redisFigures(client), await own()]
  await sleep(ms)
  const [after, ownAfter] = [await redisFigures(client), await own()]
  const seconds = (performance.now() - began) / 1000
  const each = (name: keyof RedisFigures): number => (after[name] - before[name]) / seconds / instances
  const [cpu, bytes, commands] = [each('cpu'), each('bytes'), each('commands')]
  return { cpu, bytes, commands, own: (ownAfter - ownBefore) / seconds / instances / 1e4 }
}

async function registryBytes(client: Redis): Promise<number> {
  const keys = await client.keys('fleet:registry-*')
  const sizes = await Promise.all(keys.map((key) => client.memory('USAGE', key, 'SAMPLES', 0)))
  return sizes.reduce<number>((sum, size) => sum + Number(size), 0)
}

/** Messages to all instances: each arrives once. */
async function broadcasts(proof: Proof, fleet: CrowdedFleet, instances: number, from: number): Promise<void> {
  const messages = proof.pick(5, 50)
  for (let message = from; message < from + messages; message++) {
    await proof.random.pick(fleet.crowds).ask('publish', message)
    const received = (): Promise<number[][]> => fleet.all('received', message)
    await until(async () => (await received()).reduce((sum, [once = 0]) => sum + once, 0) === instances, {
      what: `message ${message} at ${instances} instances`,
    })
    const twice = (await received()).reduce((sum, [, more = 0]) => sum + more, 0)
    proof.count({ messages: instances, twice })
  }
}

prove(
  'the cost of an instance does not grow with its fleet',
  'fleet-size',
  async (proof) => {
    const [small, large] = proof.pick([20, 100], [100, 1000])
    const limit = large / 2
    const redis = await startRedis()
    const client = new Redis(redis.port)
    proof.t.after(() => client.disconnect())
    const secrets = { SESSION_SECRET: secret, JWT_SECRET: secret }
    const env = { REDIS_URL: redis.url, REDIS_COMMAND_TIMEOUT: 10_000, ...secrets, CROWD_LIMIT: limit }
    const fleet = new CrowdedFleet(proof.pick(2, 4), env)
    const leaders = async (): Promise<number> => (await fleet.all('leading')).reduce((sum, count) => sum + count, 0)

    const figures: Idle[] = []
    const stored: number[] = []
    let joined = 0
    for (const instances of [small, large]) {
      await fleet.join(instances - joined)
      joined = instances
      await fleet.knows(instances)
      await until(async () => (await leaders()) === 1, { what: 'a leader' })
      const one = await idle(fleet, client, instances, proof.pick(4000, 30_000))
      figures.push(one)
      stored.push((await registryBytes(client)) / instances)
      proof.note(
        `${instances} instances, each: Redis ${one.cpu.toFixed(0)} µs CPU, ${one.commands.toFixed(1)} commands, ${one.bytes.toFixed(0)} ` +
          `bytes per second, ${stored.at(-1)?.toFixed(0)} bytes stored; own CPU ${one.own.toFixed(2)} %`,
      )
    }
    const [few, many] = figures as [Idle, Idle]
    for (const what of ['cpu', 'bytes', 'commands'] as const) {
      const ratio = many[what] / few[what]
      proof.note(`${what} ×${ratio.toFixed(2)}`)
      assert.ok(ratio < 1.25, `${what} per instance: ${ratio.toFixed(2)} times as much with ${large} instances`)
    }
    assert.ok(Math.max(...stored) < 1024, `bytes stored per instance: ${stored}`)
    assert.ok(many.own < 1, `an idle instance uses ${many.own} % of a core`)

    await broadcasts(proof, fleet, large, 1)
    const statuses = (await fleet.all('limited')).flat()
    assert.equal(statuses.filter((status) => status === 200).length, limit)
    assert.equal(statuses.filter((status) => status === 429).length, large - limit)
    const [shown, bytes] = (await proof.random.pick(fleet.crowds).ask('dashboard')) as [number, number]
    assert.equal(shown, large)
    proof.note(`dashboard: ${bytes} bytes`)
    proof.count({ instances: large, requests: large + 1, failed: 0 })

    // A host with its share of the instances dies.
    const dead = fleet.crowds.shift()
    await dead?.app.kill()
    const left = (large / (fleet.crowds.length + 1)) * fleet.crowds.length
    await fleet.knows(left)
    await until(async () => (await leaders()) === 1, { what: 'one leader' })
    await broadcasts(proof, fleet, left, 1000)
  },
  { fullOnly: true, timeoutMs: 1_800_000 },
)
