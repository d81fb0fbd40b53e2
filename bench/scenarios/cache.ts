import { Redis } from 'ioredis'
import { startRedis } from '../../src/cli/up/redis.ts'
import type { Machine } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv } from '../servers.ts'

const program = (file: string): string => new URL(`../programs/${file}`, import.meta.url).pathname
const processes = 4

/** @param sharing whether it can keep values in Redis too, and so serve several processes */
const subject = (name: string, sharing: boolean): Subject => ({
  name,
  async open(machine: Machine): Promise<Open> {
    const server = sharing ? await startRedis({ appendonly: false }) : undefined
    const redis = server && new Redis(server.url)
    let rounds = 0

    async function hit(): Promise<number> {
      const child = machine.run(process.execPath, [program('cache-hit.js'), name], { env: fleetEnv })
      const { code } = await child.exit
      if (code !== 0) throw new Error(child.stderr.trim().slice(-300))
      return (JSON.parse(child.stdout) as { hit: number }).hit
    }

    async function loads(): Promise<number> {
      const key = `cold${++rounds}`
      const env = { ...fleetEnv, REDIS_URL: server?.url }
      const children = Array.from({ length: processes }, () =>
        machine.run(process.execPath, [program('cache-cold.js'), name, key], { env }),
      )
      await Promise.all(children.map((child) => child.waitFor(/ready/, 60_000)))
      await redis?.rpush(`start ${key}`, ...children.map(() => 1))
      for (const { code } of await Promise.all(children.map((child) => child.exit)))
        if (code !== 0) throw new Error(children.map(({ stderr }) => stderr.trim().slice(-200)).join(' '))
      return Number(await redis?.get(`loads of ${key}`))
    }

    return {
      async round(): Promise<Figures> {
        return { hit: await hit(), ...(sharing && { loads: await loads() }) }
      },
      async close() {
        redis?.disconnect()
        await server?.stop()
      },
    }
  },
})

const ours = 'fastify-fleet'

const scenario: Scenario = {
  name: 'cache',
  title: 'Cache hits, and a cold key',
  about:
    `CPU µs for a hit in this process, a thousand keys in rotation. Loader calls for one cold key that 250 callers in each of ` +
    `${processes} processes request at the same moment; the loader takes 100 ms.`,
  metrics: {
    hit: { title: 'hit, CPU µs', digits: 2 },
    loads: { title: 'loader calls', digits: 0 },
  },
  subjects: [
    subject('Map', false),
    subject(ours, true),
    subject('async-cache-dedupe', true),
    subject('bentocache', true),
    subject('bentocache, unserialised', false),
    subject('cache-manager', false),
  ],
  bars: [
    { what: 'hit in process, CPU µs', subject: ours, metric: 'hit', limit: 0.6 },
    { what: 'loader calls for a cold key', subject: ours, metric: 'loads', limit: 1, is: 'exactly' },
  ],
}
export default scenario
