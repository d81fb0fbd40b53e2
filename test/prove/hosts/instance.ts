/** An instance on one of several hosts. The prover speaks to it over a Unix domain socket, whatever the network does. */

import { appendFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { PrismaPg } from '@prisma/adapter-pg'
import Fastify, { type InjectOptions } from 'fastify'
import { PrismaClient } from '../../../src/app/generated/prisma/client.ts'
import { pools } from '../../../src/database/index.ts'
import { fleet, serverOptions } from '../../../src/index.ts'
import type { Leadership } from '../../../src/state/locks/index.ts'
import { serveOrders } from '../../helpers/ledger.ts'

const { PORT, CONTROL = '', ORDERS = '', LEADERS = '', DATABASE_URL } = process.env

const pool = await pools({ max: 3, connectTimeoutMs: 1000, statementTimeoutMs: 2000 })
const prisma = DATABASE_URL
  ? new PrismaClient({ adapter: new PrismaPg(pool.open(DATABASE_URL, 'primary')) })
  : undefined

const app = Fastify({ ...serverOptions(), logger: { level: 'warn' } })
await app.register(fleet, {
  // Defaults, except that health is decided in seconds and not in half a minute, and without what no proof uses.
  health: { checks: { intervalMs: 500, timeoutMs: 2000, fall: 2 } },
  database: prisma ? { client: () => prisma, pools: pool } : false,
  agentCheck: { host: '0.0.0.0' },
  session: { cookie: { secure: false } },
  locks: { ttlMs: 3000 },
  registry: { leaseMs: 3000 },
  ...{ jwt: false, cache: false, rateLimit: false, idempotency: false, dashboard: false, overload: false },
})
const { id } = app.fleet.instance

app.get('/', async () => ({ id }))
serveOrders(app, ORDERS, () => ({ id }))

declare module 'fastify' {
  interface Session {
    user?: string
  }
}
app.post<{ Querystring: { user: string } }>('/session', async ({ session, query }) => {
  session.user = query.user
  return { id }
})
app.get('/session', async ({ session }) => ({ id, user: session.user ?? null }))

/** Monotonic time, the same for all processes of a machine. */
const now = (): string => String(process.hrtime.bigint())
let leadership: Leadership | undefined
/** Takes part in the election, and leaves it. */
app.post('/leader', async () => {
  leadership ??= app.fleet.leader('job', (signal) => {
    appendFileSync(LEADERS, `${now()} ${id} begins\n`)
    signal.addEventListener('abort', () => appendFileSync(LEADERS, `${now()} ${id} ends\n`), { once: true })
  })
  return {}
})
app.delete('/leader', async () => {
  await leadership?.stop()
  leadership = undefined
  return {}
})
app.get('/leader', async () => ({ leading: leadership?.leading ?? false }))

/** The lock that this instance holds until it is lost or released. */
let held: { token: number; lost: boolean; release: () => void } | undefined
app.post('/lock', async (_request, reply) => {
  const taken = Promise.withResolvers<void>()
  app.fleet
    .lock(
      'report',
      (token, signal) => {
        const { promise, resolve } = Promise.withResolvers<void>()
        const mine = { token, lost: false, release: resolve }
        held = mine
        signal.addEventListener('abort', () => {
          mine.lost = true
        })
        taken.resolve()
        // The holder does not stop at the signal: it is the late writer that fencing is for.
        return promise
      },
      { waitMs: 100 },
    )
    .catch((error) => taken.reject(error))
  await taken.promise.catch((error) => void reply.code(error.statusCode ?? 500))
  return held ? { token: held.token, lost: held.lost } : {}
})
app.get('/lock', async () => (held ? { token: held.token, lost: held.lost } : {}))
app.delete('/lock', async () => {
  held?.release()
  held = undefined
  return {}
})
/** Writes the report with the token of the lock, if no later holder has written it. */
app.post('/report', async () => {
  const token = held?.token ?? 0
  const write = prisma?.$executeRawUnsafe('UPDATE report SET token = $1, body = $2 WHERE token <= $1', token, id)
  return { rows: await write }
})
app.get('/report', async () => prisma?.$queryRawUnsafe('SELECT token::text, body FROM report'))

app.get('/peers', async () => app.fleet.peers().map((peer) => peer.id))
const received: string[] = []
app.fleet.subscribe<string>('news', (message) => void received.push(message))
app.post<{ Querystring: { message: string } }>('/news', async ({ query }) => {
  await app.fleet.publish('news', query.message)
  return {}
})
app.get('/news', async () => received)

await app.listen({ port: Number(PORT), host: '0.0.0.0' })
// A process that was killed leaves its socket behind.
rmSync(CONTROL, { force: true })
createServer(async (request, response) => {
  const { method, url, headers } = request
  const reply = await app.inject({ method, url, headers, payload: await text(request) } as InjectOptions)
  response.writeHead(reply.statusCode, reply.headers as Record<string, string>).end(reply.payload)
}).listen(CONTROL)
