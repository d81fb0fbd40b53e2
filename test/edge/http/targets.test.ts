import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { after, describe, it } from 'node:test'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { createProxy } from '../../../src/edge/http/server.ts'
import { until } from '../../helpers/until.ts'
import { front, get, quickProbe } from '../front.ts'
import { raw } from '../raw.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

const executions = (upstreams: readonly Upstream[], method: string): string[] =>
  upstreams.flatMap(({ seen }) => seen).filter((line) => line.startsWith(method))

describe('requests through the proxy', () => {
  it('are repeated when their target dies, if the method is safe', async () => {
    const upstreams = await startUpstreams(3)
    const { url } = await front(upstreams)
    const [victim] = upstreams as [Upstream]
    victim.handler = () => {}
    const gets = Array.from({ length: 9 }, (_, i) => get(`${url}/${i}`))
    const posts = Array.from({ length: 9 }, (_, i) => get(`${url}/${i}`, { method: 'POST', body: 'x' }))
    await until(() => victim.seen.length === 6)
    victim.kill()
    assert.ok((await Promise.all(gets)).every(({ status }) => status === 200))
    const statuses = (await Promise.all(posts)).map(({ status }) => status)
    const lost = executions([victim], 'POST').length
    assert.ok(lost > 0)
    assert.equal(statuses.filter((status) => status === 502).length, lost)
    assert.equal(executions(upstreams, 'POST').length, 9)
  })

  it('are repeated with an idempotency key, if retry.idempotencyKey is set', async () => {
    for (const idempotencyKey of [true, false]) {
      const upstreams = await startUpstreams(2)
      const { url } = await front(upstreams, { retry: { idempotencyKey } })
      const [bad] = upstreams as [Upstream]
      bad.handler = (request) => request.socket.destroy()
      const sent = Array.from({ length: 4 }, (_, i) =>
        get(url, { method: 'POST', body: 'x', headers: { 'Idempotency-Key': `k${i}` } }),
      )
      const statuses = (await Promise.all(sent)).map(({ status }) => status)
      assert.equal(statuses.filter((status) => status === 200).length, idempotencyKey ? 4 : 2)
    }
  })

  it('are hedged, and only the first response is forwarded', async () => {
    const upstreams = await startUpstreams(2)
    const { url, proxy } = await front(upstreams, { retry: { hedgeMs: 30 } })
    const [late] = upstreams as [Upstream]
    let cancelled = 0
    late.handler = (request) => request.socket.on('close', () => cancelled++)
    for (let i = 0; i < 4; i++) assert.equal(JSON.parse((await get(url)).text).name, 'u1')
    assert.ok(late.seen.length > 0)
    await until(() => cancelled === late.seen.length && proxy.targets.every(({ inflight }) => inflight === 0))
    assert.match(proxy.metrics(), new RegExp(`fleet_proxy_hedges_total ${late.seen.length}\n`))
  })

  it('ask a draining target to reject them, while another one is up', async () => {
    const upstreams = await startUpstreams(2)
    const { url, proxy } = await front(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    const requested = async (method: 'GET' | 'POST') =>
      JSON.parse((await get(url, { method })).text).headers['x-fleet-retry']
    assert.deepEqual([await requested('GET'), await requested('POST')], ['1', undefined])
    for (const upstream of upstreams) upstream.draining = true
    for (let i = 0; i < 6; i++) assert.equal((await get(url)).status, 200)
    assert.ok(proxy.targets.every(({ state }) => state === 'draining'))
    assert.equal(await requested('GET'), undefined)
  })

  it('stick to their target by a cookie', async () => {
    const upstreams = await startUpstreams(3)
    const { url } = await front(upstreams, { policy: 'sticky-cookie', sticky: { secret: 's'.repeat(32) } })
    for (let i = 0; i < 3; i++) {
      const first = await get(url)
      const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''
      const again = await Promise.all(Array.from({ length: 5 }, () => get(url, { headers: { cookie } })))
      for (const { text, headers } of again) {
        assert.equal(JSON.parse(text).name, JSON.parse(first.text).name)
        assert.equal(headers['set-cookie'], undefined)
      }
    }
  })
})

describe('a target with TLS', () => {
  const file = (name: string): string => readFileSync(new URL(`../fixtures/localhost.${name}`, import.meta.url), 'utf8')

  it('must have a certificate for its name, also for the probe', async () => {
    setDefaultCACertificates([...getCACertificates('default'), file('crt')])
    const server = createServer({ key: file('key'), cert: file('crt') }, (request, response) => {
      response.end(`${request.method} ${request.url}`)
    }).listen(0, '127.0.0.1')
    after(() => server.close().closeAllConnections())
    await once(server, 'listening')
    const target = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    const send = async (serverName?: string) => {
      const proxy = createProxy({
        targets: [{ url: target, serverName }],
        probe: { ...quickProbe, fall: 1 },
        queue: { timeoutMs: 0 },
      })
      after(() => proxy.close())
      const url = await proxy.listen()
      return { url, response: await get(`${url}/x`), state: proxy.targets[0]?.state }
    }
    const right = await send('localhost')
    assert.deepEqual([right.response.status, right.response.text, right.state], [200, 'GET /x', 'up'])
    const named = await get(`${right.url}/x`, { headers: { host: 'shop.example' } })
    assert.equal(named.status, 200, 'the Host of a request is not the name of the target')
    const upgrade = 'GET /x HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'
    assert.match(await raw(right.url, upgrade), /^HTTP\/1\.1 200 /, 'also of an upgrade')
    const wrong = await send('shop.example')
    assert.deepEqual([wrong.response.status, wrong.state], [503, 'down'])
  })
})
