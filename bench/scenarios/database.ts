import { fileURLToPath } from 'node:url'
import { startPostgres } from '../../src/cli/up/postgres.ts'
import { migrate } from '../../src/database/migrate.ts'
import type { Machine } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'

const reads = 2_000

interface Servers {
  primary: string
  replica: string
  stop(): Promise<void>
}
let servers: Promise<Servers> | undefined
let users = 0

async function start(): Promise<Servers> {
  const primary = await startPostgres({ durable: false })
  await migrate({ url: primary.url, directory: fileURLToPath(new URL('../../prisma/migrations', import.meta.url)) })
  const { default: pg } = await import('pg')
  const client = new pg.Client({ connectionString: primary.url })
  await client.connect()
  await client.query(
    `INSERT INTO users (id, email, name, password_hash)
       VALUES ('00000000-0000-7000-8000-000000000001', 'a@example.com', 'A', '-')`,
  )
  await client.end()
  const replica = await startPostgres({ replicaOf: primary, durable: false })
  return {
    primary: primary.url,
    replica: replica.url,
    async stop() {
      await replica.stop()
      await primary.stop()
    },
  }
}

/** @param kind as `programs/database.js` knows it */
const subject = (name: string, kind: string): Subject => ({
  name,
  async open(machine: Machine): Promise<Open> {
    users++
    servers ??= start()
    const { primary, replica } = await servers
    const program = await machine.program('database.js', {
      env: {
        SUBJECT: kind,
        PRIMARY_URL: primary,
        REPLICA_URL: replica,
        CLIENT: new URL('../../src/app/generated/prisma/client.ts', import.meta.url).href,
      },
    })
    const send = async (readers: number): Promise<number> => {
      const response = await fetch(`http://127.0.0.1:${program.port}/?reads=${reads}&readers=${readers}`)
      return ((await response.json()) as { cpu: number }).cpu
    }
    return {
      async round(): Promise<Figures> {
        return { alone: await send(1), twenty: await send(20) }
      },
      async close() {
        await program.stop()
        if (--users === 0) await (await servers)?.stop()
      },
    }
  },
})

const ours = 'fastify-fleet, replicas()'
const bare = 'Prisma client of the replica'
const bar = (metric: 'alone' | 'twenty', over: string): Scenario['bars'][number] => ({
  what: `a read by primary key, ${metric === 'alone' ? 'one after the other' : 'twenty at a time'}, over ${over}`,
  subject: ours,
  metric,
  over,
  limit: 1.05,
  missed: { why: 'less than the variation of one program between runs', profile: 'machine.md' },
})

const scenario: Scenario = {
  name: 'database',
  title: 'Routing a read to a replica',
  about:
    `CPU µs of the client's process for one \`findUnique\` by primary key, ${reads} in a round, one after the other and by ` +
    'twenty readers. One replica, so that what Prisma puts together within a tick stays together.',
  metrics: { alone: { title: 'alone, CPU µs' }, twenty: { title: '20 at a time, CPU µs' } },
  subjects: [
    subject(bare, 'bare'),
    subject(ours, 'fleet'),
    subject('fastify-fleet, replicas() and pools()', 'pools'),
    subject('@prisma/extension-read-replicas', 'peer'),
  ],
  bars: [
    bar('alone', bare),
    bar('twenty', bare),
    bar('alone', '@prisma/extension-read-replicas'),
    bar('twenty', '@prisma/extension-read-replicas'),
  ],
}
export default scenario
