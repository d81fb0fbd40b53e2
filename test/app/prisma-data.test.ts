import assert from 'node:assert/strict'
import { it } from 'node:test'
import { type Database, prismaData } from '../../src/app/data/prisma.ts'

/** A client that notes each call with the server that it goes to: `primary`, or whatever the routing chooses. */
function database(): { client: Database; calls: string[] } {
  const calls: string[] = []
  const at = new Date(0)
  const row = { id: 'id', sku: 's', name: 'n', priceCents: 1, stock: 1, createdAt: at, updatedAt: at }
  const client = (server: string): object => {
    const model = (name: string): object =>
      new Proxy(
        {},
        {
          get: (_, operation: string) => async () => {
            calls.push(`${name}.${operation} ${server}`)
            return operation === 'findMany' ? [row] : row
          },
        },
      )
    return { user: model('user'), product: model('product') }
  }
  const routed = { ...client('routed'), $primary: () => client('primary') }
  return { client: routed as unknown as Database, calls }
}

it('what is cached or decides a login comes from the primary, whose data is never stale', async () => {
  const { client, calls } = database()
  const { users, products } = prismaData(client)
  await users.account('a@example.com')
  await users.get('id')
  await products.list({ after: undefined, limit: 1 })
  await products.get('id')
  assert.deepEqual(calls, [
    'user.findUnique primary',
    'user.findUnique primary',
    'product.findMany primary',
    'product.findUnique primary',
  ])
  calls.length = 0
  await products.create({ sku: 's', name: 'n', priceCents: 1, stock: 1 }, 'user')
  await products.update('id', {})
  await products.delete('id')
  assert.deepEqual(calls, ['product.create routed', 'product.update routed', 'product.delete routed'])
})
