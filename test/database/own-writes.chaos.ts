import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ReadCounts } from '../../src/database/router.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { until } from '../helpers/until.ts'
import { startCluster } from './cluster.ts'
import { Visitor } from './shop.ts'

const users = 40
const pairsEach = 250
/** Reads of other data per write, besides the one of the written data. */
const otherReads = 3

test(`${users * pairsEach} writes, each read at once from another of three processes, cause no stale read`, async (t) => {
  const { primary, one, two } = await startCluster({ recovery_min_apply_delay: '200ms' })
  const ports = await Promise.all(
    [1, 2, 3].map(async () => {
      const child = forkApp(new URL('own-writes.fixture.ts', import.meta.url), {
        args: [primary.url, one.url, two.url],
      })
      return (await child.waitFor(/listening on (\d+)/, 30_000))[1]
    }),
  )
  const url = (index: number): string => `http://127.0.0.1:${ports[index % ports.length]}`
  for (const index of [0, 1, 2]) await until(async () => (await (await fetch(`${url(index)}/fit`)).json()) === 2)

  let stale = 0
  let pairs = 0
  async function send<T>(visitor: Visitor, index: number, path: string, body?: object): Promise<T> {
    const response = await fetch(url(index) + path, {
      headers: { cookie: visitor.header, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { method: 'POST', body: JSON.stringify(body) }),
    })
    assert.equal(response.status, 200, path)
    visitor.learn(response.headers.getSetCookie())
    return (await response.json()) as T
  }
  async function user(number: number): Promise<void> {
    const visitor = new Visitor()
    const reader = new Visitor()
    const sku = `user-${number}`
    for (let price = 1; price <= pairsEach; price++) {
      await send(visitor, price, price % 2 || price === 1 ? '/items' : '/batch', { sku, price })
      const read = await send<{ price: number }>(visitor, price + 1, `/items/${sku}`)
      pairs++
      if (read.price !== price) stale++
      // A client that has written nothing.
      for (let i = 0; i < otherReads; i++) await send(reader, price + i, '/items/a')
    }
  }
  await Promise.all(Array.from({ length: users }, (_, number) => user(number)))

  const reads = await Promise.all([0, 1, 2].map((index) => send<ReadCounts>(new Visitor(), index, '/reads')))
  const primaryReads = reads.reduce((sum, { primary: count }) => sum + count, 0)
  const replicaReads = reads.flatMap(({ replicas }) => replicas).reduce((sum, count) => sum + count, 0)
  const share = (100 * replicaReads) / (primaryReads + replicaReads)
  t.diagnostic(
    `pairs: ${pairs}, stale: ${stale}; reads on replicas: ${replicaReads} of ${primaryReads + replicaReads} (${share.toFixed(1)} %)`,
  )
  assert.deepEqual([pairs, stale], [users * pairsEach, 0])
  assert.ok(share > 50)
})
