import { PrismaPg } from '@prisma/adapter-pg'
import { databaseError, pools, type ReplicasOptions, replicas } from '../../database/index.ts'
import { PrismaClient } from '../generated/prisma/client.ts'
import type { Data, Product } from './data.ts'

type Changed = NonNullable<ReplicasOptions['onChange']>

/**
 * A primary and the replicas in DATABASE_REPLICA_URLS. Every wait is bounded, so that a database that hangs costs a
 * request at most seconds.
 *
 * @param onChange called when a replica stops or starts responding
 */
export async function open(url: string, onChange: Changed) {
  const pool = await pools()
  const connect = (server: string, name?: string): PrismaClient =>
    new PrismaClient({ adapter: new PrismaPg(pool.open(server, name)) })
  return { client: connect(url).$extends(replicas({ connect, onChange })), pools: pool }
}
export type Database = Awaited<ReturnType<typeof open>>['client']

const publicUser = { id: true, email: true, name: true } as const

interface Row extends Omit<Product, 'createdAt' | 'updatedAt'> {
  createdAt: Date
  updatedAt: Date
}

function toProduct({ id, sku, name, priceCents, stock, createdAt, updatedAt }: Row): Product {
  return {
    ...{ id, sku, name, priceCents, stock },
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  }
}

/** Hides the details of a failure from clients; they go to the log. */
async function clear<T>(work: PromiseLike<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw databaseError(error) ?? error
  }
}

export function prismaData(database: Database): Data {
  // Data for the cache or a login must not come from a lagging replica.
  const primary = database.$primary()
  return {
    users: {
      account: (email) =>
        clear(primary.user.findUnique({ where: { email }, select: { ...publicUser, passwordHash: true } })),
      get: (id) => clear(primary.user.findUnique({ where: { id }, select: publicUser })),
    },
    products: {
      async list({ after, limit }) {
        // UUIDs of version 7 sort by creation time.
        const where = after === undefined ? {} : { id: { gt: after } }
        const rows = await clear(primary.product.findMany({ where, orderBy: { id: 'asc' }, take: limit }))
        return rows.map(toProduct)
      },
      async get(id) {
        const row = await clear(primary.product.findUnique({ where: { id } }))
        return row && toProduct(row)
      },
      async create(product, createdById) {
        return toProduct(await clear(database.product.create({ data: { ...product, createdById } })))
      },
      async update(id, changes) {
        return toProduct(await clear(database.product.update({ where: { id }, data: changes })))
      },
      async delete(id) {
        await clear(database.product.delete({ where: { id } }))
      },
      async summary() {
        const [row] = await clear(
          database.$queryRaw<{ products: number; stock: number; value: number }[]>`
            SELECT count(*)::int AS products, coalesce(sum(stock), 0)::float8 AS stock,
                   coalesce(sum(stock::float8 * price_cents), 0) AS value
              FROM products`,
        )
        return { products: row?.products ?? 0, stock: row?.stock ?? 0, valueCents: row?.value ?? 0 }
      },
    },
  }
}
