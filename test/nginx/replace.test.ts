import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { type Member, startPool } from '../haproxy/fleet.ts'
import { startRedis } from '../helpers/redis.ts'
import { type Kill, Traffic } from '../helpers/traffic.ts'
import { startFront } from './front.ts'

// Rounds of each fault, with one pool and another policy, are in test/prove/nginx.prove.ts.

const orders = join(temporaryFolder('orders'), 'orders')
const redis = await startRedis()
const env = { REDIS_URL: redis.url, ORDERS: orders, DRAIN_DELAY: 1_000, TRUST_PROXY: '127.0.0.1' }
const targets = (of: readonly Member[]): string => of.map(({ port }) => `127.0.0.1:${port}`).join()

describe('two pools of real instances behind nginx, with the policy sticky', async () => {
  const [base, v2] = await Promise.all([startPool('default', 3, env), startPool('v2', 2, env)])
  const front = await startFront({
    FLEET_POLICY: 'sticky',
    FLEET_TARGETS: targets(base),
    FLEET_POOLS: 'v2',
    FLEET_POOL_V2_TARGETS: targets(v2),
    FLEET_ROUTES: '/api/v2=v2',
    // Longer than DRAIN_DELAY.
    FLEET_FAIL_TIMEOUT: '2s',
  })
  const startTraffic = (): { base: Traffic; v2: Traffic; more(): Promise<unknown> } => {
    // Slow unsafe requests, so that every instance always has some in flight.
    const options = { slowMs: 20, repeats: ['PUT', 'DELETE'] as const }
    const traffic = new Traffic(front.port, 4, 'mixed', options)
    const ofV2 = new Traffic(front.port, 4, 'mixed', { ...options, prefix: '/api/v2' })
    return { base: traffic, v2: ofV2, more: () => Promise.all([traffic.more(), ofV2.more()]) }
  }
  /** Asserts that instances of the pool served all of it. */
  const from = (traffic: Traffic, members: readonly Member[]): void =>
    assert.deepEqual([...traffic.byInstance.keys()].sort(), members.map(({ id }) => id).sort())

  test('loses no request and executes none twice while every instance is replaced', async () => {
    const loads = startTraffic()
    await loads.more()
    await Promise.all(
      [base, v2].map(async (pool) => {
        for (const member of pool) await member.replace()
      }),
    )
    await loads.more()
    await Promise.all([loads.base.stop(orders), loads.v2.stop(orders)])
    from(loads.base, base)
    from(loads.v2, v2)
  })

  test('loses only POSTs and PATCHes that a killed instance was serving, and none of the other pool', async () => {
    const loads = startTraffic()
    const kills: Kill[] = []
    for (const member of v2) {
      await loads.more()
      kills.push(await loads.v2.kill(() => member.end('SIGKILL')))
      await loads.more()
      await member.start()
    }
    await Promise.all([loads.base.stop(orders), loads.v2.stop(orders, kills)])
    // nginx logs each request that it lost.
    const lost = front.log().filter(({ status }) => status !== 200)
    for (const { method, status } of lost) assert.match(`${method} ${status}`, /^(?:POST|PATCH) 502$/)
    assert.equal(lost.length, loads.v2.failed.length)
  })
})
