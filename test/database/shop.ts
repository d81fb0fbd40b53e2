import { PrismaPg } from '@prisma/adapter-pg'
import Fastify, { type FastifyInstance } from 'fastify'
import { PrismaClient } from '../../src/app/generated/prisma/client.ts'
import { database, pools, type ReplicasOptions, replicas } from '../../src/database/index.ts'
import { type SessionOptions, session } from '../../src/state/session/index.ts'

export interface ShopOptions extends ReplicasOptions {
  primary: string
  replicas: readonly string[]
  /** Register the session before or after the database. @default no session */
  session?: 'before' | 'after'
  /** Option of the session. */
  store?: SessionOptions['store']
  /** Option of the session. */
  anonymous?: SessionOptions['anonymous']
  ownWrites?: false
}

const fails = (): never => {
  throw new Error('it cannot be serialized')
}

export const secret = 'a secret of the shop that is long enough for anybody'

/** One instance of an application that writes in one request and reads in the next, with bounded pools. */
export async function shop(options: ShopOptions): Promise<FastifyInstance> {
  const { primary, replicas: urls, session: place, store, anonymous, ownWrites, ...routing } = options
  // A busy machine must not look like a full pool.
  const pool = await pools({ max: 5, connectTimeoutMs: 20_000 })
  const connect = (url: string, name?: string): PrismaClient =>
    new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
  const prisma = connect(primary).$extends(replicas({ connect, urls, ...routing }))
  const app = Fastify()
  const keep = (): unknown => app.register(session, { secret, store, anonymous })
  if (place === 'before') await keep()
  await app.register(database, {
    client: () => prisma,
    pools: pool,
    ownWrites: ownWrites ?? { secret },
    check: { intervalMs: 200, rise: 1 },
  })
  if (place === 'after') await keep()

  const { id } = { id: '00000000-0000-7000-8000-000000000001' }
  app.post('/login', async (request) => {
    request.session.userId = id
    return {}
  })
  app.post<{ Body: { sku: string; price: number } }>('/items', async ({ body: { sku, price: priceCents } }) => {
    await prisma.product.upsert({
      where: { sku },
      create: { sku, name: sku, priceCents },
      update: { priceCents },
    })
    return {}
  })
  // In a transaction, and not read back by Prisma.
  app.post<{ Body: { sku: string; price: number } }>('/batch', async ({ body: { sku, price } }) => {
    await prisma.$transaction(
      async (tx) => {
        await tx.$executeRaw`UPDATE products SET price_cents = ${price} WHERE sku = ${sku}`
      },
      { maxWait: 20_000, timeout: 20_000 },
    )
    return {}
  })
  app.get<{ Params: { sku: string } }>('/items/:sku', async ({ params }) => {
    const item = await prisma.product.findUnique({ where: params })
    return { price: item?.priceCents ?? null }
  })
  app.post<{ Body: { sku: string; price: number } }>('/same', async ({ body: { sku, price: priceCents } }) => {
    await prisma.$primary().product.update({ where: { sku }, data: { priceCents } })
    const item = await prisma.product.findUnique({ where: { sku } })
    return { price: item?.priceCents ?? null }
  })
  // Changes the session, writes, and responds with JSON, text or a 500.
  app.post<{ Body: { sku: string; price: number; as: 'json' | 'text' | 'failure' } }>(
    '/visit',
    async (request, reply) => {
      const { sku, price, as } = request.body
      request.session.visits = (request.session.visits ?? 0) + 1
      await prisma.$executeRaw`UPDATE products SET price_cents = ${price} WHERE sku = ${sku}`
      if (as === 'failure') reply.serializer(fails)
      return as === 'text' ? '{}' : {}
    },
  )
  app.get('/reads', async () => prisma.$routing().reads)
  app.get('/fit', async () => prisma.$routing().set.replicas.filter(({ healthy }) => healthy).length)
  return app
}

/** A client that stores cookies. */
export class Visitor {
  readonly #cookies = new Map<string, string>()

  get cookies(): readonly string[] {
    return [...this.#cookies.keys()]
  }

  get header(): string {
    return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ')
  }

  learn(sent: string | readonly string[] | undefined): void {
    for (const line of typeof sent === 'string' ? [sent] : (sent ?? [])) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      this.#cookies.set(name, value)
    }
  }

  async send<T>(app: FastifyInstance, method: 'GET' | 'POST', url: string, body?: object): Promise<T> {
    const response = await app.inject({ method, url, headers: { cookie: this.header }, ...(body && { payload: body }) })
    if (response.statusCode !== 200) throw new Error(`${method} ${url}: ${response.statusCode} ${response.body}`)
    this.learn(response.headers['set-cookie'])
    return response.json()
  }
}
