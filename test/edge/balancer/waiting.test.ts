import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { until } from '../../helpers/until.ts'
import { atEnd } from '../at-end.ts'
import { quickProbe } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

import { balance, executions, get, nameOf } from './balance.ts'

describe('a full target', () => {
  const slow = (upstream: Upstream): (() => void)[] => {
    const open: (() => void)[] = []
    upstream.handler = (request, response) => open.push(() => upstream.response(request, response))
    return open
  }

  it('receives no more than maxConnections; further requests queue in order', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    const open = slow(upstream)
    const balancer = new Balancer([{ url: upstream.url, maxConnections: 2 }], { probe: quickProbe })
    atEnd(() => balancer.close())
    await balancer.ready()
    const responses = Array.from({ length: 6 }, (_, i) => get(balancer, `/${i}`))
    for (let done = 0; done < 6; done++) {
      await until(() => open.length > 0)
      assert.ok(upstream.seen.length <= done + 2)
      open.shift()?.()
      await until(() => upstream.seen.length === Math.min(6, done + 3))
    }
    assert.ok((await Promise.all(responses)).every(({ status }) => status === 200))
    assert.deepEqual(
      upstream.seen,
      [0, 1, 2, 3, 4, 5].map((i) => `GET /${i}`),
    )
  })

  it('causes 503 when the queue is full or the wait too long', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    const open = slow(upstream)
    const queue = { size: 1, timeoutMs: 100 }
    const balancer = new Balancer([{ url: upstream.url, maxConnections: 1 }], { probe: quickProbe, queue })
    atEnd(() => balancer.close())
    await balancer.ready()
    const first = get(balancer)
    await until(() => open.length === 1)
    const second = get(balancer)
    await assert.rejects(get(balancer), {
      code: 'FLEET_ERR_QUEUE_FULL',
      statusCode: 503,
      headers: { 'retry-after': '1' },
    })
    await assert.rejects(second, { code: 'FLEET_ERR_NO_TARGET', statusCode: 503 })
    open[0]?.()
    assert.equal((await first).status, 200)
  })
})

describe('with no target left', () => {
  it('makes requests wait for a target that comes back', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams, { queue: { timeoutMs: 60_000 } })
    for (const upstream of upstreams) upstream.kill()
    await until(() => balancer.targets.every(({ state }) => state === 'down'))
    const responses = ['GET', 'POST'].map((method) =>
      get(balancer, '/', { method: method as 'GET', body: method === 'POST' ? 'x' : undefined }),
    )
    await upstreams[1]?.start()
    assert.deepEqual(
      (await Promise.all(responses)).map(({ status }) => status),
      [200, 200],
    )
  })

  it('rejects requests at once after a long outage', async () => {
    const upstreams = await startUpstreams(1)
    const balancer = await balance(upstreams, { queue: { timeoutMs: 50 } })
    upstreams[0]?.kill()
    await until(() => balancer.targets.every(({ state }) => state === 'down'))
    await assert.rejects(get(balancer), { code: 'FLEET_ERR_NO_TARGET' })
    await assert.rejects(get(balancer), { code: 'FLEET_ERR_NO_TARGET' })
  })

  it('still uses a target whose probe fails wrongly', async () => {
    const upstreams = await startUpstreams(1)
    const balancer = await balance(upstreams, { probe: { ...quickProbe, path: '/nowhere' } })
    ;(upstreams[0] as Upstream).handler = (request, response) =>
      request.url === '/nowhere' ? response.writeHead(404).end() : upstreams[0]?.response(request, response)
    await until(() => balancer.targets[0]?.state === 'down')
    assert.equal((await get(balancer, '/here')).status, 200)
  })
})

describe('hedging', () => {
  it('sends to a second target when the first is late, uses the first response, and cancels the other', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams, { retry: { hedgeMs: 30 } })
    const [late] = upstreams as [Upstream]
    let cancelled = 0
    late.handler = (request) => request.socket.on('close', () => cancelled++)
    for (let i = 0; i < 4; i++) assert.equal(nameOf(await get(balancer)), 'u1')
    await until(() => cancelled === late.seen.length && balancer.targets.every(({ inflight }) => inflight === 0))
    const posts = [0, 1].map(() => get(balancer, '/', { method: 'POST', body: 'x', headersTimeout: 200 }))
    await Promise.allSettled(posts)
    const executed = (): number => executions(upstreams).filter((line) => line.startsWith('POST')).length
    await until(() => executed() >= 2)
    assert.equal(executed(), 2)
  })

  it('respects the retry budget', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams, { retry: { hedgeMs: 1, budget: 0, minPerSecond: 0 } })
    for (const upstream of upstreams) {
      upstream.handler = (request, response) => setTimeout(() => upstream.response(request, response), 20)
    }
    for (let i = 0; i < 5; i++) await get(balancer)
    assert.equal(executions(upstreams).length, 5)
  })
})
