import assert from 'node:assert/strict'
import { request as httpRequest, type IncomingMessage, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { describe, it } from 'node:test'
import { http } from '../../../src/base/internals/node-http.ts'
import { StallGuard } from '../../../src/base/socket-bounds.ts'
import { createProxy, type ProxyOptions } from '../../../src/edge/http/server.ts'
import { until } from '../../helpers/until.ts'
import { open } from '../../instance/lifecycle/sockets.ts'
import { atEnd } from '../at-end.ts'

/** A proxy whose targets are not probed, and requests to its operators' listener. */
async function admin(options: Partial<ProxyOptions> = {}) {
  const proxy = createProxy({
    targets: [{ url: 'http://127.0.0.1:1', id: 'a', weight: 7, region: 'r', zone: 'z' }],
    pools: { v2: { targets: [{ url: 'http://127.0.0.1:2', id: 'b', backup: true }] } },
    probe: { type: 'off' },
    admin: { port: 0 },
    ...options,
  })
  atEnd(() => proxy.close())
  await proxy.listen()
  const ask = (path: string, method = 'GET', headers: Record<string, string> = {}, body?: string) =>
    new Promise<{ status: number; headers: IncomingMessage['headers']; json: unknown }>((resolve, reject) => {
      const sent = method === 'GET' ? headers : { 'content-type': 'application/json', ...headers }
      const request = httpRequest(proxy.adminUrl + path, { method, headers: sent, agent: false }, async (response) => {
        const text = (await response.toArray()).join('')
        const isJson = String(response.headers['content-type']).includes('json')
        resolve({ status: response.statusCode ?? 0, headers: response.headers, json: isJson ? JSON.parse(text) : text })
      })
      request.on('error', reject).end(body)
    })
  return { proxy, ask, post: (path: string) => ask(path, 'POST') }
}

describe('the operators’ listener of a proxy', () => {
  it('describes targets with their pool, state, weight and counts', async () => {
    const { ask } = await admin()
    const { status, headers, json } = await ask('/targets?any')
    assert.deepEqual(
      [status, headers['content-type'], headers['cache-control']],
      [200, 'application/json; charset=utf-8', 'no-store'],
    )
    const idle = { state: 'up', canary: false, inflight: 0, served: 0, failed: 0, latencyMs: 0 }
    assert.deepEqual(json, [
      {
        id: 'a',
        pool: 'default',
        url: 'http://127.0.0.1:1',
        weight: 7,
        backup: false,
        ...idle,
        region: 'r',
        zone: 'z',
      },
      { id: 'b', pool: 'v2', url: 'http://127.0.0.1:2', weight: 100, backup: true, ...idle },
    ])
  })

  it('counts what is in flight, was served and failed, and has the mean latency in hundredths of a millisecond', async (t) => {
    const { proxy, ask } = await admin()
    const [target] = proxy.targets
    assert.ok(target)
    const now = performance.now()
    t.mock.method(performance, 'now', () => now)
    target.latency.observe(12.3456, now)
    Object.assign(target, { inflight: 1, served: 3, failed: 2 })
    const [{ inflight, served, failed, latencyMs } = {}] = (await ask('/targets')).json as Record<string, number>[]
    assert.deepEqual({ inflight, served, failed, latencyMs }, { inflight: 1, served: 3, failed: 2, latencyMs: 12.35 })
    const metrics = String((await ask('/metrics')).json)
    for (const [name, value] of Object.entries({ attempts_total: 3, failures_total: 2, inflight: 1, weight: 7 }))
      assert.ok(metrics.includes(`\nfleet_proxy_target_${name}{target="127.0.0.1:1",pool="default"} ${value}\n`), name)
    target.inflight = 0
  })

  it('watches for clients that do not read their responses, as the proxy itself does', async (t) => {
    const watched: (number | undefined)[] = []
    t.mock.method(StallGuard.prototype, 'add', ({ localPort }: Socket) => void watched.push(localPort))
    const { proxy, ask } = await admin()
    await ask('/live')
    assert.deepEqual(watched, [Number(new URL(String(proxy.adminUrl)).port)])
    watched.length = 0
    const port = Number(proxy.address?.port)
    await new Promise((resolve) => httpRequest({ port, path: '/metrics', agent: false }, resolve).end())
    assert.deepEqual(watched, [port])
  })

  it('has limits of its own, and lets no broken connection end the process', async (t) => {
    const { mock } = t.mock.method(http, 'createServer')
    await admin()
    const server = mock.calls[0]?.result as Server
    const { headersTimeout, requestTimeout, keepAliveTimeout, maxConnections } = server
    assert.deepEqual([headersTimeout, requestTimeout, keepAliveTimeout, maxConnections], [5_000, 10_000, 5_000, 64])
    assert.deepEqual(mock.calls[0]?.arguments[0], {
      ...{ maxHeaderSize: 16_384, connectionsCheckingInterval: 1_000 },
      ...{ headersTimeout, requestTimeout, keepAliveTimeout },
    })
    assert.ok(server.listeners('connection').some(({ name }) => name === 'keepListener'))
  })

  it('closes with the proxy, also connections whose request is not complete', async () => {
    const { proxy } = await admin()
    const socket = await open(Number(new URL(String(proxy.adminUrl)).port), 'GET /live HTTP/1.1\r\n')
    await proxy.close()
    await until(() => socket.closed)
    assert.equal(socket.received(), '')
  })

  it('describes pools, and switches their maintenance and canaries', async () => {
    const { ask, post } = await admin()
    const pool = { name: 'v2', maintenance: false, canaryPercent: 0, targets: 1, up: 1, waiting: 0 }
    assert.deepEqual((await ask('/pools')).json, [{ ...pool, name: 'default' }, pool])
    assert.deepEqual((await post('/pools/v2/maintenance/on')).json, { ...pool, maintenance: true })
    assert.deepEqual((await post('/pools/v2/maintenance/off')).json, pool)
    for (const percent of [0.5, 100, 0])
      assert.deepEqual((await post(`/pools/v2/canary/${percent}`)).json, { ...pool, canaryPercent: percent })
    for (const wrong of [
      'v2/canary/101',
      'v2/canary/-1',
      'v2/canary/1.23456',
      'v2/canary/',
      'v2/maintenance/x',
      'v3/canary/1',
      'v2/drain',
    ])
      assert.equal((await post(`/pools/${wrong}`)).status, 404, wrong)
  })

  it('drains and undrains the target of an id, and no other', async () => {
    const { proxy, post } = await admin()
    const states = (): string[] => proxy.targets.map(({ state }) => state)
    assert.equal(((await post('/targets/b/drain')).json as { state: string }).state, 'draining')
    assert.deepEqual(states(), ['up', 'draining'])
    assert.equal((await post('/targets/b/undrain')).status, 200)
    assert.deepEqual(states(), ['up', 'up'])
    for (const wrong of ['/targets/c/drain', '/targets/a/close', '/targets/a', '/target/a/drain', '/targets/a/drain/x'])
      assert.equal((await post(wrong)).status, 404, wrong)
    assert.deepEqual(states(), ['up', 'up'])
  })

  it('drains and undrains a target in each of its pools', async () => {
    const { proxy, post } = await admin({ pools: { v2: { targets: [{ url: 'http://127.0.0.1:1', id: 'a' }] } } })
    const states = (): string[] => proxy.targets.map(({ state }) => state)
    const { status, json } = await post('/targets/a/drain')
    assert.deepEqual([status, (json as { pool: string }).pool], [200, 'default'])
    assert.deepEqual(states(), ['draining', 'draining'])
    assert.equal((await post('/targets/a/undrain')).status, 200)
    assert.deepEqual(states(), ['up', 'up'])
  })

  it('is ready while any pool has a target', async () => {
    const { ask, post } = await admin()
    assert.deepEqual((await ask('/live')).json, { alive: true })
    assert.deepEqual([(await ask('/ready')).status, (await ask('/ready')).json], [200, { ready: true, targets: 2 }])
    await post('/targets/a/drain')
    assert.deepEqual((await ask('/ready')).json, { ready: true, targets: 1 })
    await post('/targets/b/drain')
    const { status, json } = await ask('/ready')
    assert.deepEqual([status, json], [503, { ready: false, targets: 0 }])
  })

  it('distinguishes methods, and closes the connection of a request with a body', async () => {
    const { ask } = await admin()
    for (const [path, method] of [
      ['/live', 'POST'],
      ['/targets', 'PUT'],
      ['/metrics', 'DELETE'],
      ['/pools/v2/maintenance/on', 'GET'],
    ] as const)
      assert.equal((await ask(path, method)).status, 404, path)
    const keep = { connection: 'keep-alive' }
    assert.equal((await ask('/live', 'GET', keep)).headers.connection, 'keep-alive')
    assert.equal((await ask('/live', 'POST', keep, 'body')).headers.connection, 'close')
    assert.equal((await ask('/live', 'POST', { ...keep, 'transfer-encoding': 'chunked' })).headers.connection, 'close')
  })

  it('is for loopback names without a token: the others do not learn that there is something', async () => {
    const { ask } = await admin()
    const statuses = async (headers: Record<string, string>): Promise<number> =>
      (await ask('/targets', 'GET', headers)).status
    for (const host of ['localhost', 'a.localhost:1', '127.0.0.1', '[::1]:80'])
      assert.equal(await statuses({ host }), 200)
    for (const host of ['evil.example', '10.0.0.1', 'localhost.evil.example', 'a b'])
      assert.equal(await statuses({ host }), 404)
    assert.deepEqual((await ask('/targets', 'GET', { host: 'evil.example' })).json, {
      statusCode: 404,
      error: 'Not Found',
      message: 'not found',
    })
    const { status, json } = await ask('/targets/a/drain', 'POST', { 'content-type': 'text/plain' })
    assert.deepEqual([status, (json as { code: string }).code], [403, 'FLEET_ERR_ORIGIN_UNPROVEN'])
  })
})
