import assert from 'node:assert/strict'
import { join } from 'node:path'
import { beforeEach, describe, it } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import type { PoolOptions } from '../../src/edge/http/pool-options.ts'
import { createProxy, type ReverseProxy } from '../../src/edge/http/server.ts'
import { type Member, startPool } from '../haproxy/fleet.ts'
import { executions } from '../helpers/ledger.ts'
import { type Kill, Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { atEnd } from './at-end.ts'
import { get } from './front.ts'

// Replacements one after the other of a single pool are in test/prove/built-in.prove.ts.

/** Of unsafe requests, so that every instance always has some in flight. */
const slowMs = 20

const orders = join(temporaryFolder('orders'), 'orders')
const env = { DRAIN_DELAY: 0, ORDERS: orders }
const [base, v2] = await Promise.all([startPool('default', 2, env), startPool('v2', 2, env)])

/** A proxy in front of the two real instances in each pool, under load with every method. */
async function underLoad(ofV2: PoolOptions = {}): Promise<{
  proxy: ReverseProxy
  url: string
  loads: { base: Traffic; v2: Traffic }
  more(): Promise<unknown>
}> {
  const proxy = createProxy({
    targets: base.map(({ url }) => url),
    pools: { v2: { targets: v2.map(({ url }) => url), ...ofV2 } },
    routes: '/api/v2=v2',
    queue: { timeoutMs: 30_000 },
  })
  atEnd(() => proxy.close())
  const url = await proxy.listen()
  const port = Number(new URL(url).port)
  const loads = {
    base: new Traffic(port, 4, 'mixed', { slowMs }),
    v2: new Traffic(port, 4, 'mixed', { slowMs, prefix: '/api/v2' }),
  }
  atEnd(() => Promise.all(Object.values(loads).map((load) => load.halt())))
  const more = (): Promise<unknown> => Promise.all([loads.base.more(), loads.v2.more()])
  await more()
  return { proxy, url, loads, more }
}

/** Asserts that instances of the pool served all of it. */
function from(load: Traffic, members: readonly Member[]): void {
  assert.deepEqual([...load.byInstance.keys()].sort(), members.map(({ id }) => id).sort())
}

describe('two pools of real instances behind the proxy', () => {
  // A test that failed may have left an instance without a process.
  beforeEach(() => Promise.all([...base, ...v2].filter(({ running }) => !running).map((member) => member.start())))

  for (const how of ['one after the other', 'all at once'])
    it(`lose no request and run none twice while all instances are replaced ${how}`, async () => {
      const { loads, more } = await underLoad()
      if (how === 'all at once') await Promise.all([...base, ...v2].map((member) => member.replace()))
      else {
        for (const i of [0, 1]) {
          await Promise.all([base[i]?.replace(), v2[i]?.replace()])
          await more()
        }
      }
      await more()
      await Promise.all([loads.base.stop(orders), loads.v2.stop(orders)])
      from(loads.base, base)
      from(loads.v2, v2)
    })

  it('lose only unsafe requests that a killed process was running, and none of the other pool', async () => {
    const { loads, more } = await underLoad()
    const kills: Kill[] = []
    for (const member of v2) {
      kills.push(await loads.v2.kill(() => member.end('SIGKILL')))
      await member.start()
      await more()
    }
    await Promise.all([loads.base.stop(orders), loads.v2.stop(orders, kills)])
  })

  it('lose no request while instances of one are drained and undrained', async () => {
    const { proxy, loads } = await underLoad()
    const { balancer } = proxy.pools.get('v2') ?? proxy
    for (const target of balancer.targets) {
      balancer.drain(target)
      await loads.v2.more()
      balancer.undrain(target)
      await until(() => target.state === 'up')
    }
    await Promise.all([loads.base.stop(orders), loads.v2.stop(orders)])
  })

  it('respond 503 for the paths of a dead pool only, and recover', async () => {
    const { url, loads } = await underLoad({ queue: { timeoutMs: 0 } })
    await loads.v2.stop(orders)
    await Promise.all(v2.map((member) => member.end('SIGKILL')))
    const { status, text, headers } = await get(`${url}/api/v2/orders?id=lost`, { method: 'POST' })
    assert.deepEqual([status, JSON.parse(text).code, headers['retry-after']], [503, 'FLEET_ERR_NO_TARGET', '1'])
    await loads.base.more()
    await Promise.all(v2.map((member) => member.start()))
    await until(async () => (await get(`${url}/api/v2/`)).status === 200)
    const again = new Traffic(Number(new URL(url).port), 4, 'mixed', { slowMs, prefix: '/api/v2' })
    await Promise.all([again.more(), loads.base.more()])
    await Promise.all([again.stop(orders), loads.base.stop(orders)])
    assert.equal(executions(orders, 'lost').size, 0)
  })
})
