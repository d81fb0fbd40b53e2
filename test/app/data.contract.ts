import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Data } from '../../src/app/data/index.ts'

/** Contract of every store for the application's records; `open` returns one with the development data. */
export function dataContract(name: string, open: () => Promise<Data>): void {
  const product = () => ({ sku: randomUUID(), name: 'Kettle', priceCents: 100, stock: 2 })
  const userId = async ({ users }: Data): Promise<string> => (await users.account('test@example.com'))?.id ?? ''

  test(`${name}: returns the account for a login, and the user without the password`, async () => {
    const { users } = await open()
    const account = await users.account('test@example.com')
    assert.match(account?.passwordHash ?? '', /^scrypt/)
    const user = await users.get(account?.id ?? '')
    assert.deepEqual(user, { id: account?.id, email: 'test@example.com', name: 'Test User' })
    assert.equal(await users.account('nobody@example.com'), null)
    assert.equal(await users.get(randomUUID()), null)
  })

  test(`${name}: creates, reads, changes and deletes a product`, async () => {
    const data = await open()
    const wanted = product()
    const made = await data.products.create(wanted, await userId(data))
    const { id, createdAt, updatedAt, ...rest } = made
    assert.deepEqual(rest, wanted)
    assert.match(createdAt, /^\d{4}-.*Z$/)
    assert.match(updatedAt, /^\d{4}-.*Z$/)
    assert.deepEqual(await data.products.get(id), made)
    const changed = await data.products.update(id, { stock: 5 })
    assert.deepEqual({ ...changed, updatedAt: '' }, { ...made, stock: 5, updatedAt: '' })
    assert.deepEqual(
      (await data.products.update(id, { sku: wanted.sku })).sku,
      wanted.sku,
      'its own SKU is no conflict',
    )
    await data.products.delete(id)
    assert.equal(await data.products.get(id), null)
    await assert.rejects(data.products.delete(id), { code: 'FLEET_ERR_RECORD_UNKNOWN' })
    await assert.rejects(data.products.update(id, { stock: 1 }), { code: 'FLEET_ERR_RECORD_UNKNOWN' })
  })

  test(`${name}: finds a product by its id in any case`, async () => {
    const { products, ...data } = await open()
    const made = await products.create(product(), await userId({ products, ...data }))
    const next = await products.create(product(), await userId({ products, ...data }))
    const id = made.id.toUpperCase()
    assert.deepEqual(await products.get(id), made)
    assert.deepEqual(
      (await products.list({ after: id, limit: 1 })).map((each) => each.id),
      [next.id],
    )
    assert.equal((await products.update(id, { stock: 5 })).id, made.id)
    await products.delete(id)
    assert.equal(await products.get(made.id), null)
  })

  test(`${name}: rejects a duplicate SKU`, async () => {
    const data = await open()
    const [one, two] = [product(), product()]
    await data.products.create(one, await userId(data))
    const { id } = await data.products.create(two, await userId(data))
    const exists = { code: 'FLEET_ERR_RECORD_EXISTS' }
    await assert.rejects(data.products.create(one, await userId(data)), exists)
    await assert.rejects(data.products.update(id, { sku: one.sku }), exists)
    assert.equal((await data.products.get(id))?.sku, two.sku)
  })

  test(`${name}: pages by creation time, each product once`, async () => {
    const data = await open()
    const made: string[] = []
    for (let i = 0; i < 5; i++) made.push((await data.products.create(product(), await userId(data))).id)
    const seen: string[] = []
    for (let after: string | undefined; ; ) {
      const page = await data.products.list({ after, limit: 2 })
      assert.ok(page.length <= 2)
      seen.push(...page.map(({ id }) => id))
      after = page.at(-1)?.id
      if (page.length < 2) break
    }
    assert.equal(new Set(seen).size, seen.length)
    assert.deepEqual(
      seen.filter((id) => made.includes(id)),
      made,
    )
  })

  test(`${name}: the summary counts all records`, async () => {
    const data = await open()
    const before = await data.products.summary()
    await data.products.create({ ...product(), priceCents: 2_000_000_000, stock: 2_000_000_000 }, await userId(data))
    const after = await data.products.summary()
    assert.equal(after.products, before.products + 1)
    assert.equal(after.stock, before.stock + 2e9)
    assert.ok(Math.abs(after.valueCents - before.valueCents - 4e18) < 1e4, 'no overflow')
  })
}
