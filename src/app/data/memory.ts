import { randomUUID } from 'node:crypto'
import { FleetError } from '../../index.ts'
import { hashPassword } from '../password.ts'
import { products as samples, testUser } from '../samples.ts'
import type { Account, Data, NewProduct, Product } from './data.ts'

/** Records in this process, for development without a database. Every instance has its own. */
export async function memoryData({ seeded }: { seeded: boolean }): Promise<Data> {
  const accounts: Account[] = []
  const products = new Map<string, Product>()

  // As in PostgreSQL, an id is the same in any case.
  const get = (id: string): Product | undefined => products.get(id.toLowerCase())
  const find = (id: string): Product => {
    const product = get(id)
    if (!product) throw new FleetError('FLEET_ERR_RECORD_UNKNOWN')
    return product
  }
  const put = (product: Product): Product => {
    for (const { id, sku } of products.values())
      if (sku === product.sku && id !== product.id) throw new FleetError('FLEET_ERR_RECORD_EXISTS')
    products.set(product.id, product)
    return product
  }
  const create = (product: NewProduct): Product => {
    const now = new Date().toISOString()
    return put({ ...product, id: randomUUID(), createdAt: now, updatedAt: now })
  }

  if (seeded) {
    const { password, ...user } = testUser
    accounts.push({ ...user, id: randomUUID(), passwordHash: await hashPassword(password) })
    for (const product of samples) create(product)
  }
  return {
    users: {
      async account(email) {
        return accounts.find((account) => account.email === email) ?? null
      },
      async get(id) {
        const account = accounts.find((account) => account.id === id)
        return account ? { id, email: account.email, name: account.name } : null
      },
    },
    products: {
      async list({ after, limit }) {
        const all = [...products.values()]
        const last = after === undefined ? undefined : get(after)
        if (after !== undefined && !last) return []
        const start = last ? all.indexOf(last) + 1 : 0
        return all.slice(start, start + limit)
      },
      async get(id) {
        return get(id) ?? null
      },
      async create(product) {
        return create(product)
      },
      async update(id, changes) {
        return put({ ...find(id), ...changes, updatedAt: new Date().toISOString() })
      },
      async delete(id) {
        products.delete(find(id).id)
      },
      async summary() {
        const all = [...products.values()]
        const sum = (of: (product: Product) => number): number => all.reduce((total, product) => total + of(product), 0)
        return {
          products: all.length,
          stock: sum(({ stock }) => stock),
          valueCents: sum(({ stock, priceCents }) => stock * priceCents),
        }
      },
    },
  }
}
