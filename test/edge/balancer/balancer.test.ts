import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import { fetch as undiciFetch } from 'undici'
import { Balancer, type BalancerOptions } from '../../../src/edge/balancer/balancer.ts'
import { until } from '../../helpers/until.ts'
import { atEnd } from '../at-end.ts'
import { quickProbe } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

async function balance(upstreams: readonly Upstream[], options: BalancerOptions = {}): Promise<Balancer> {
  const balancer = new Balancer(
    upstreams.map(({ url }) => url),
    { probe: quickProbe, ...options },
  )
  atEnd(() => balancer.close())
  await balancer.ready()
  return balancer
}

const get = async (balancer: Balancer, path = '/', init: Parameters<Balancer['request']>[1] = {}) => {
  const { statusCode, headers, body } = await balancer.request(path, init)
  return { status: statusCode, headers, text: await body.text() }
}
const nameOf = ({ text }: { text: string }): string => JSON.parse(text).name
const executions = (upstreams: readonly Upstream[]): string[] => upstreams.flatMap(({ seen }) => seen)

describe('a balancer', async () => {
  const upstreams = await startUpstreams(3)
  const balancer = await balance(upstreams)

  it('spreads requests over its targets', async () => {
    const names = await Promise.all(Array.from({ length: 9 }, () => get(balancer).then(nameOf)))
    assert.deepEqual(names.toSorted(), ['u0', 'u0', 'u0', 'u1', 'u1', 'u1', 'u2', 'u2', 'u2'])
  })

  it('is a dispatcher for Node’s fetch and for undici’s', async () => {
    const init = { method: 'POST', body: 'hello', dispatcher: balancer.dispatcher } as never
    for (const send of [fetch, undiciFetch as unknown as typeof fetch]) {
      const response = await send('http://shop.example/path?q=1', init)
      const seen = (await response.json()) as { url: string; body: string }
      assert.deepEqual([seen.url, seen.body], ['/path?q=1', 'hello'])
    }
  })

  it('forwards a path unchanged, even one that looks like another host', async () => {
    for (const path of ['//evil.example/x', '/%2e./x?a=//b', '//evil.example?q', '/:80/x']) {
      const seen = JSON.parse((await get(balancer, path)).text)
      assert.equal(seen.url, path === '/%2e./x?a=//b' ? '/x?a=//b' : path)
    }
  })

  it('sends bodies of every kind, and aborts on a signal', async () => {
    for (const body of ['text', Buffer.from('text'), Readable.from(['te', 'xt'])]) {
      assert.equal(JSON.parse((await get(balancer, '/', { method: 'PUT', body })).text).body, 'text')
    }
    const abort = AbortSignal.abort()
    await assert.rejects(get(balancer, '/', { signal: abort }), { name: 'AbortError' })
  })

  it('releases every in-flight slot it took', async () => {
    await until(() => balancer.targets.every(({ inflight }) => inflight === 0))
  })
})

describe('a draining target', () => {
  it('is asked to reject safe requests when another target is up', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams)
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'DELETE', 'PATCH'] as const) {
      let requested: unknown
      for (const upstream of upstreams) {
        upstream.handler = (request, response) => {
          requested = request.headers['x-fleet-retry']
          response.end()
        }
      }
      await get(balancer, '/', { method })
      assert.equal(requested, ['GET', 'HEAD', 'OPTIONS'].includes(method) ? '1' : undefined, method)
    }
    await balancer.remove(balancer.targets[1] as never)
    let sent: unknown = 'nothing'
    ;(upstreams[0] as Upstream).handler = (request, response) => {
      sent = request.headers['x-fleet-retry']
      response.end()
    }
    await get(balancer)
    assert.equal(sent, undefined)
  })

  it('leaves rotation with its first response that reports draining, without a failed request', async () => {
    const upstreams = await startUpstreams(3)
    const balancer = await balance(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    ;(upstreams[1] as Upstream).draining = true
    const names = []
    for (let i = 0; i < 9; i++) names.push(nameOf(await get(balancer)))
    assert.ok(!names.includes('u1'))
    assert.deepEqual(
      balancer.targets.map(({ state }) => state),
      ['up', 'draining', 'up'],
    )
    assert.equal(upstreams[1]?.seen.length, 0)
  })

  it('still serves requests that cannot go to another target', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    for (const upstream of upstreams) upstream.draining = true
    for (let i = 0; i < 6; i++) {
      const { status } = await get(balancer, '/', { method: i % 2 ? 'POST' : 'GET', body: i % 2 ? 'x' : undefined })
      assert.equal(status, 200)
    }
    assert.deepEqual(
      balancer.targets.map(({ state }) => state),
      ['draining', 'draining'],
    )
  })

  it('returns to rotation when it is ready again', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams)
    const [first] = upstreams as [Upstream]
    first.draining = true
    await until(() => balancer.targets[0]?.state === 'draining')
    first.draining = false
    await until(() => balancer.targets[0]?.state === 'up')
  })
})

describe('a target that dies', () => {
  it('fails no GET, neither in flight nor later', async () => {
    const upstreams = await startUpstreams(3)
    const balancer = await balance(upstreams)
    const [victim] = upstreams as [Upstream]
    victim.handler = () => {}
    const waiting = Array.from({ length: 30 }, () => get(balancer))
    await until(() => victim.seen.length === 10)
    victim.kill()
    const responses = await Promise.all([...waiting, ...Array.from({ length: 30 }, () => get(balancer))])
    assert.ok(responses.every(({ status, text }) => status === 200 && JSON.parse(text).name !== 'u0'))
  })

  it('never causes a POST to run twice', async () => {
    const upstreams = await startUpstreams(3)
    const balancer = await balance(upstreams)
    const [victim] = upstreams as [Upstream]
    victim.handler = () => {}
    const posts = Array.from({ length: 30 }, (_, i) => get(balancer, `/${i}`, { method: 'POST', body: 'x' }))
    await until(() => victim.seen.length === 10)
    victim.kill()
    const settled = await Promise.allSettled(posts)
    assert.equal(settled.filter(({ status }) => status === 'rejected').length, 10)
    const seen = executions(upstreams)
    assert.equal(seen.length, 30)
    assert.equal(new Set(seen).size, 30)
  })

  it('does not fail a POST whose connection it refused', async () => {
    const upstreams = await startUpstreams(3)
    const balancer = await balance(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    upstreams[0]?.kill()
    const bodies = ['x', () => Readable.from(['y']), 'z', () => Readable.from(['v']), 'w', 'u'] as const
    const responses = await Promise.all(
      bodies.map((body) => get(balancer, '/', { method: 'POST', body: typeof body === 'string' ? body : body() })),
    )
    assert.deepEqual(responses.map(({ text }) => JSON.parse(text).body).join(''), 'xyzvwu')
    assert.equal(executions(upstreams).length, 6)
    assert.equal(balancer.targets[0]?.state, 'down')
  })

  it('fails no GET when the next target dies too and the third one is not known to be back', async () => {
    const upstreams = await startUpstreams(3)
    const balancer = await balance(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    const [first, second, third] = upstreams as [Upstream, Upstream, Upstream]
    third.kill()
    await assert.doesNotReject(Promise.all(Array.from({ length: 6 }, () => get(balancer))))
    assert.equal(balancer.targets[2]?.state, 'down')
    await third.start()
    for (const upstream of [first, second]) upstream.handler = () => {}
    const waiting = Array.from({ length: 10 }, () => get(balancer))
    await until(() => first.seen.length + second.seen.length >= 16)
    first.kill()
    await until(() => executions([second]).length >= 13)
    second.kill()
    const responses = await Promise.all(waiting)
    assert.ok(responses.every((response) => response.status === 200 && nameOf(response) === 'u2'))
  })

  it('fails no GET when it is the only target and comes back', async () => {
    const [only] = (await startUpstreams(1)) as [Upstream]
    const balancer = await balance([only], { queue: { timeoutMs: 60_000 } })
    only.handler = () => {}
    const waiting = Array.from({ length: 5 }, () => get(balancer))
    const post = get(balancer, '/', { method: 'POST', body: 'x' })
    const lost = assert.rejects(post)
    await until(() => only.seen.length === 6)
    only.kill()
    await lost
    await until(() => balancer.targets[0]?.state === 'down')
    only.handler = (request, response) => only.response(request, response)
    await only.start()
    assert.ok((await Promise.all(waiting)).every(({ status }) => status === 200))
    assert.equal(executions([only]).filter((line) => line.startsWith('POST')).length, 1)
  })

  it('receives a request that kills it at most three times', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams)
    for (const upstream of upstreams) upstream.handler = (request) => request.socket.destroy()
    await assert.rejects(get(balancer), { code: 'UND_ERR_SOCKET' })
    assert.equal(executions(upstreams).length, 3)
  })

  it('differs from a slow target: a timed-out request is not retried', async () => {
    const upstreams = await startUpstreams(1)
    const balancer = await balance(upstreams, { connections: { responseTimeoutMs: 50 } })
    ;(upstreams[0] as Upstream).handler = () => {}
    await assert.rejects(get(balancer), { code: 'UND_ERR_HEADERS_TIMEOUT' })
    await until(() => executions(upstreams).length > 0)
    assert.equal(executions(upstreams).length, 1)
  })

  it('has a POST with an idempotency key retried elsewhere if the option is on', async () => {
    for (const idempotencyKey of [true, false]) {
      const upstreams = await startUpstreams(2)
      const balancer = await balance(upstreams, { retry: { idempotencyKey } })
      const [bad] = upstreams as [Upstream]
      bad.handler = (request) => request.socket.destroy()
      const sent = Array.from({ length: 4 }, (_, i) =>
        get(balancer, '/', { method: 'POST', body: 'x', headers: { 'Idempotency-Key': `k${i}` } }),
      )
      const settled = await Promise.allSettled(sent)
      assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, idempotencyKey ? 4 : 2)
    }
  })
})

describe('a failed response', () => {
  it('of 502 or 503 is retried for safe requests only', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams, { outliers: { consecutive: 0 } })
    const [bad] = upstreams as [Upstream]
    for (const status of [502, 503]) {
      bad.handler = (_, response) => response.writeHead(status).end('x'.repeat(1000))
      const safe = await Promise.all(Array.from({ length: 10 }, () => get(balancer)))
      assert.ok(safe.every((response) => response.status === 200))
      const posts = await Promise.all(
        Array.from({ length: 10 }, () => get(balancer, '/', { method: 'POST', body: 'x' })),
      )
      assert.equal(posts.filter((response) => response.status === status).length, 5)
    }
  })

  it('of 500 is forwarded, because the request may be the cause', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams)
    for (const upstream of upstreams) upstream.handler = (_, response) => response.writeHead(500).end()
    assert.equal((await get(balancer)).status, 500)
    assert.equal(executions(upstreams).length, 1)
  })

  it('of 500 is retried elsewhere for a safe request once the target is the likely cause', async () => {
    for (const [method, suspects, failures] of [
      ['GET', true, 1],
      ['POST', true, 4],
      ['GET', false, 4],
    ] as const) {
      const upstreams = await startUpstreams(3)
      const balancer = await balance(upstreams, { retry: { suspects } })
      const [bad] = upstreams as [Upstream]
      bad.handler = (_, response) => response.writeHead(500).end()
      const statuses: number[] = []
      for (let i = 0; i < 12; i++) {
        statuses.push((await get(balancer, '/', { method, body: method === 'POST' ? 'x' : undefined })).status)
      }
      assert.equal(statuses.filter((status) => status === 500).length, failures, `${method} ${suspects}`)
      assert.equal(balancer.context.stats.retries, bad.seen.length - failures)
    }
  })

  it('of 500 is not retried when all targets respond with it', async () => {
    const upstreams = await startUpstreams(3)
    const balancer = await balance(upstreams)
    for (const upstream of upstreams) upstream.handler = (_, response) => response.writeHead(500).end()
    for (let i = 0; i < 30; i++) assert.equal((await get(balancer)).status, 500)
    assert.equal(executions(upstreams).length, 30)
  })

  it('is forwarded once the retry budget is used up', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams, { outliers: { consecutive: 0 }, retry: { budget: 0, minPerSecond: 0 } })
    for (const upstream of upstreams) upstream.handler = (_, response) => response.writeHead(503).end()
    for (let i = 0; i < 10; i++) assert.equal((await get(balancer)).status, 503)
    assert.equal(executions(upstreams).length, 10)
  })

  it('does not attract requests by failing fast', async () => {
    for (const policy of [
      'least-response-time',
      'least-connections',
      'two-choices',
      'prequal',
      'round-robin',
    ] as const) {
      const upstreams = await startUpstreams(5)
      const balancer = await balance(upstreams, { policy, retry: { statuses: [] } })
      const [bad] = upstreams as [Upstream]
      bad.handler = (_, response) => response.writeHead(500).end()
      for (let i = 0; i < 200; i++) await get(balancer)
      assert.ok(bad.seen.length <= 10, `${policy}: ${bad.seen.length} of 200 failed`)
      for (const upstream of upstreams) upstream.kill()
      await balancer.close()
    }
  })
})

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
