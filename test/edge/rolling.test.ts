import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PoolOptions } from '../../src/edge/http/pool-options.ts'
import { createProxy, type ReverseProxy } from '../../src/edge/http/server.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { atEnd } from './at-end.ts'
import { get } from './front.ts'
import { isUnsafe, Load, Replaceable, repeated } from './rolling.ts'

/** Replacements of each instance. */
const rounds = Number(process.env.FLEET_TEST_ROUNDS ?? 3)

const start = async (pool: string): Promise<Replaceable[]> =>
  Promise.all([0, 1].map(async () => new Replaceable(await freePort(), { FLEET_POOL: pool, DRAIN_DELAY: 0 }).start()))

/** A proxy in front of two real instances in each of two pools, under load with every method. */
async function underLoad(ofV2: PoolOptions = {}): Promise<{
  proxy: ReverseProxy
  url: string
  base: Replaceable[]
  v2: Replaceable[]
  loads: { base: Load; v2: Load }
}> {
  const [base, v2] = await Promise.all([start('default'), start('v2')])
  const proxy = createProxy({
    targets: base.map(({ url }) => url),
    pools: { v2: { targets: v2.map(({ url }) => url), ...ofV2 } },
    routes: '/api/v2=v2',
    queue: { timeoutMs: 30_000 },
  })
  atEnd(() => proxy.close())
  const url = await proxy.listen()
  const loads = { base: new Load(url, 'default'), v2: new Load(`${url}/api/v2`, 'v2') }
  atEnd(() => Promise.all(Object.values(loads).map((load) => load.stop())))
  await Promise.all(Object.values(loads).map((load) => load.more()))
  return { proxy, url, base, v2, loads }
}

describe('two pools of real instances behind the proxy', () => {
  it(`lose no request and run none twice while all instances are replaced, ${rounds} times`, async () => {
    const { base, v2, loads } = await underLoad()
    for (let round = 0; round < rounds; round++) {
      for (const i of [0, 1]) {
        await Promise.all([base[i]?.replace('SIGTERM'), v2[i]?.replace('SIGTERM')])
        await Promise.all([loads.base.more(), loads.v2.more()])
      }
    }
    await Promise.all([loads.base.stop(), loads.v2.stop()])
    assert.deepEqual([...loads.base.failures, ...loads.v2.failures], [])
    assert.deepEqual(repeated([...base, ...v2]), [])
  })

  it('lose only unsafe requests that a killed process was running, and none of the other pool', async () => {
    const { v2, loads } = await underLoad()
    for (const instance of v2) {
      await instance.replace('SIGKILL')
      await Promise.all([loads.base.more(), loads.v2.more()])
    }
    await Promise.all([loads.base.stop(), loads.v2.stop()])
    assert.deepEqual(loads.base.failures, [])
    assert.deepEqual(
      loads.v2.failures.filter((failure) => !isUnsafe(failure)),
      [],
    )
    assert.deepEqual(repeated(v2), [])
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
    await Promise.all([loads.base.stop(), loads.v2.stop()])
    assert.deepEqual([...loads.base.failures, ...loads.v2.failures], [])
  })

  it('respond 503 for the paths of a dead pool only, and recover', async () => {
    const { url, base, v2, loads } = await underLoad({ queue: { timeoutMs: 0 } })
    await loads.v2.stop()
    await Promise.all(v2.map((instance) => instance.kill('SIGKILL')))
    const { status, text, headers } = await get(`${url}/api/v2/run/0`, { method: 'POST' })
    assert.deepEqual([status, JSON.parse(text).code, headers['retry-after']], [503, 'FLEET_ERR_NO_TARGET', '1'])
    await loads.base.more()
    await Promise.all(v2.map((instance) => instance.start()))
    await until(async () => (await get(`${url}/api/v2/run/0`)).status === 200)
    const again = new Load(`${url}/api/v2`, 'v2')
    await Promise.all([again.more(), loads.base.more()])
    await Promise.all([again.stop(), loads.base.stop()])
    assert.deepEqual([...loads.base.failures, ...again.failures], [])
    assert.ok(base.every(({ runs }) => !runs.includes('POST 0')))
  })
})
