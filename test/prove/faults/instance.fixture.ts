// An instance of a shop for the proofs about faults: sessions, orders with idempotency keys, notes without a key, and reads
// through a replica. It prints `ran ID` when a handler runs and `sent ID STATUS` before its response is sent.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import Fastify from 'fastify'
import { PrismaClient } from '../../../src/app/generated/prisma/client.ts'
import { pools, replicas } from '../../../src/database/index.ts'
import { fleet, serverOptions } from '../../../src/index.ts'
import { heapUse } from '../../../src/instance/health/heap.ts'

declare module 'fastify' {
  interface Session {
    userId?: string
    n?: number
  }
}

/** What the test tells an instance to do. */
export type Command = { block: number } | { fillHeap: boolean }

const { DATABASE_URL, LOG_LEVEL } = process.env
const pool = DATABASE_URL ? await pools({ max: 8 }) : undefined
const connect = (url: string, name?: string): PrismaClient =>
  new PrismaClient({ adapter: new PrismaPg(pool?.open(url, name) as never) })
const prisma = pool && connect(DATABASE_URL as string).$extends(replicas({ connect }))

const app = Fastify({ ...serverOptions(), logger: LOG_LEVEL ? { level: LOG_LEVEL } : false })
await app.register(fleet, {
  errorResponses: true,
  // A busy machine must not look like a busy instance.
  health: { eventLoop: { maxUtilization: 1 } },
  ...(prisma && { database: { client: () => prisma as never, pools: pool } }),
})

const ran = (id: string): unknown => process.stdout.write(`ran ${id}\n`)

app.post<{ Body: { user: string } }>('/login', async ({ session, body: { user } }) => {
  session.userId = user
  session.n = 0
  return { user, n: 0 }
})
app.get('/me', async ({ session }) => ({ user: session.userId ?? null, n: session.n ?? 0 }))
app.post<{ Body: { n: number } }>('/visits', async ({ session, body: { n } }) => {
  if (session.userId !== undefined) session.n = n
  return { user: session.userId ?? null, n }
})
app.post<{ Body: { id: string; n: number } }>(
  '/orders',
  {
    config: { idempotency: { required: true } },
    // Without a body, the request was rejected before it was read.
    onSend: async ({ body }, reply) => void (body && process.stdout.write(`sent ${body.id} ${reply.statusCode}\n`)),
  },
  async ({ session, body: { id, n } }) => {
    ran(id)
    const user = session.userId ?? null
    // The number is unique, because a client may repeat an order after a 503.
    if (user !== null && prisma)
      await prisma.$executeRaw`INSERT INTO shop_orders VALUES (${id}, ${user}, ${n}) ON CONFLICT (id) DO NOTHING`
    return { user, n }
  },
)
app.get('/orders', async ({ session }) => {
  const user = session.userId ?? null
  if (!prisma) return { user, n: 0 }
  const rows = await prisma.$queryRaw<{ n: number }[]>`SELECT max(n) AS n FROM shop_orders WHERE customer = ${user}`
  return { user, n: rows[0]?.n ?? 0 }
})
app.post<{ Body: { id: string } }>('/notes', { config: { session: false } }, async ({ body: { id } }) => {
  ran(id)
  return {}
})

let hoard: object[] | undefined
async function fillHeap(): Promise<void> {
  const share = (): number => heapUse().used / heapUse().limit
  hoard = []
  // On a busy machine the order to stop may come before the heap is full.
  for (let i = 0; i < 10_000 && hoard && share() < 0.88; i++) {
    hoard.push(Array.from({ length: 5_000 }, (_, n) => ({ n })))
    await nextTurn()
  }
}
process.on('message', (command: Command) => {
  if ('block' in command) for (const end = performance.now() + command.block; performance.now() < end; );
  else if (command.fillHeap) void fillHeap()
  else hoard = undefined
})

await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
