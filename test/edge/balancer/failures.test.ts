import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, it } from 'node:test'
import { until } from '../../helpers/until.ts'
import { quickProbe } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

import { balance, executions, get, nameOf } from './balance.ts'

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
