import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'
import type { Duplex } from 'node:stream'
import { after, describe, it } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'
import { createProxy, type ProxyOptions } from '../../../src/edge/http/server.ts'
import { until } from '../../helpers/until.ts'
import { type Front, front, get } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

const file = (name: string): string => readFileSync(new URL(`../fixtures/localhost.${name}`, import.meta.url), 'utf8')
const tls = { key: file('key'), cert: file('crt') }
const post = { method: 'POST', headers: { 'content-type': 'application/json' } } as const
const json = async (url: string, options: Parameters<typeof get>[1] = {}) => JSON.parse((await get(url, options)).text)

interface Pooled extends Front {
  /** The pool of the upstream that responds. */
  poolOf(path: string, headers?: Record<string, string>): Promise<string>
  base: [Upstream, Upstream]
  v2: [Upstream, Upstream]
  heavy: [Upstream, Upstream]
}

const routes = '/api/v2=v2 /api/v2/heavy=heavy //heavy.example.com=heavy x-version:2=v2'

/** Two upstreams in each of the pools `default`, `v2` and `heavy`. */
async function pooled(options: Partial<ProxyOptions> = {}): Promise<Pooled> {
  const upstreams = await startUpstreams(6)
  const group = (i: number) => upstreams.slice(2 * i, 2 * i + 2) as [Upstream, Upstream]
  const [base, v2, heavy] = [group(0), group(1), group(2)]
  const { pools, ...others } = options
  const targets = (group: readonly Upstream[]): string[] => group.map(({ url }) => url)
  const started = await front(base, {
    admin: { port: 0 },
    queue: { timeoutMs: 0 },
    routes,
    ...others,
    pools: { v2: { targets: targets(v2), ...pools?.v2 }, heavy: { targets: targets(heavy), ...pools?.heavy } },
  })
  const names = new Map(
    Object.entries({ base, v2, heavy }).flatMap(([name, all]) => all.map((each) => [each.name, name])),
  )
  const poolOf = async (path: string, headers = {}): Promise<string> =>
    String(names.get((await json(started.url + path, { headers })).name))
  return { ...started, poolOf, base, v2, heavy }
}

describe('pools of a proxy', () => {
  it('receive the requests of their routes', async () => {
    const { poolOf } = await pooled()
    for (const [path, headers, pool] of [
      ['/', {}, 'base'],
      ['/api/v20', {}, 'base'],
      ['/api/v2', {}, 'v2'],
      ['/%61pi//v2/x?y', {}, 'v2'],
      ['/api/v2/heavy/x', {}, 'heavy'],
      ['/api/v2', { host: 'HEAVY.example.com:81' }, 'heavy'],
      ['/', { 'X-Version': '2', host: 'heavy.example.com' }, 'v2'],
      ['/', { 'x-version': '20' }, 'base'],
    ] as const) {
      for (let i = 0; i < 3; i++) assert.equal(await poolOf(path, headers), pool, path)
    }
  })

  it('receive requests over HTTP/2 and WebSockets alike', async () => {
    const { url, v2, heavy, base } = await pooled({ tls })
    const client = connect(url, { ca: tls.cert })
    after(() => client.destroy())
    const stream = client.request({ ':path': '/api/v2/x' })
    const text = (await stream.toArray()).join('')
    assert.ok(v2.some(({ name }) => JSON.parse(text).name === name))
    const authority = client.request({ ':path': '/', ':authority': 'heavy.example.com' })
    const other = (await authority.toArray()).join('')
    assert.ok(heavy.some(({ name }) => JSON.parse(other).name === name))
    const opened: string[] = []
    for (const upstream of [...base, ...v2, ...heavy]) {
      const server = new WebSocketServer({ noServer: true })
      upstream.server.on('upgrade', (request, socket: Duplex, head) => {
        opened.push(upstream.name)
        server.handleUpgrade(request, socket, head, (each) => each.send('hi'))
      })
    }
    for (let i = 0; i < 4; i++) {
      const socket = new WebSocket(`${url.replace('http', 'ws')}/api/v2/ws`, {
        ca: tls.cert,
        rejectUnauthorized: false,
      })
      socket.on('error', () => {})
      await once(socket, 'message')
      socket.terminate()
    }
    assert.equal(opened.length, 4)
    assert.ok(opened.every((name) => v2.some((upstream) => upstream.name === name)))
  })

  it('do not take over the requests of a pool whose targets are dead, draining or full', async () => {
    const { url, poolOf, proxy, v2, base, heavy } = await pooled({ queue: { timeoutMs: 0, size: 0 } })
    const others = [...base, ...heavy]
    const expectUnavailable = async (): Promise<void> => {
      const seen = others.flatMap(({ seen }) => seen).length
      for (const method of ['GET', 'POST'] as const) {
        const { status, headers, text } = await get(`${url}/api/v2/x`, { method })
        assert.deepEqual([status, JSON.parse(text).code, headers['retry-after']], [503, 'FLEET_ERR_NO_TARGET', '1'])
      }
      assert.equal(others.flatMap(({ seen }) => seen).length, seen)
      assert.equal(await poolOf('/'), 'base')
      assert.equal(await poolOf('/api/v2/heavy'), 'heavy')
    }
    for (const upstream of v2) upstream.kill()
    await until(() => proxy.pools.get('v2')?.balancer.targets.every(({ state }) => state === 'down'))
    await expectUnavailable()
    await Promise.all(v2.map((upstream) => upstream.start()))
    await until(async () => (await get(`${url}/api/v2/x`)).status === 200)
    assert.equal(await poolOf('/api/v2/x'), 'v2')
    // A drain is no failure: draining targets serve until they end.
    for (const target of proxy.pools.get('v2')?.balancer.targets ?? []) {
      await json(`${proxy.adminUrl}/targets/${target.id}/drain`, post)
    }
    assert.equal(await poolOf('/api/v2/x'), 'v2')
    assert.equal(await poolOf('/'), 'base')
  })

  it('have their own queue, so waiting requests of one pool do not exclude those of another', async () => {
    const { url, proxy, v2 } = await pooled({ queue: { timeoutMs: 60_000, size: 2 } })
    for (const upstream of v2) upstream.kill()
    await until(() => proxy.pools.get('v2')?.balancer.targets.every(({ state }) => state === 'down'))
    const waiting = [1, 2].map(() => get(`${url}/api/v2/x`))
    await until(async () => (await json(`${proxy.adminUrl}/pools`))[1].waiting === 2)
    assert.equal((await get(`${url}/api/v2/x`)).status, 503)
    assert.equal((await get(`${url}/x`)).status, 200)
    await Promise.all(v2.map((upstream) => upstream.start()))
    for (const response of await Promise.all(waiting)) assert.equal(response.status, 200)
  })

  it('are switched to maintenance and back by operators', async () => {
    const { url, proxy, poolOf, v2 } = await pooled()
    const on = await json(`${proxy.adminUrl}/pools/v2/maintenance/on`, post)
    assert.deepEqual([on.name, on.maintenance, on.up], ['v2', true, 2])
    const seen = v2.flatMap(({ seen }) => seen).length
    const { status, headers, text } = await get(`${url}/api/v2/x`, { method: 'POST', body: 'x'.repeat(100_000) })
    assert.deepEqual([status, JSON.parse(text).code, headers['retry-after']], [503, 'FLEET_ERR_MAINTENANCE', '30'])
    const page = await get(`${url}/api/v2/x`, { headers: { accept: 'text/html' } })
    assert.match(page.text, /<h1>503 Service Unavailable<\/h1>/)
    const socket = new WebSocket(`${url.replace('http', 'ws')}/api/v2/ws`)
    const [, rejection] = await once(socket, 'unexpected-response')
    assert.equal(rejection.statusCode, 503)
    socket.on('error', () => {})
    socket.terminate()
    assert.equal(v2.flatMap(({ seen }) => seen).length, seen)
    assert.equal(await poolOf('/'), 'base')
    assert.equal((await json(`${proxy.adminUrl}/pools/v2/maintenance/off`, post)).maintenance, false)
    assert.equal(await poolOf('/api/v2'), 'v2')
    for (const path of [
      '/pools/v9/maintenance/on',
      '/pools/v2/maintenance',
      '/pools/v2/maintenance/x',
      '/pools/v2/canary/101',
      '/pools/v2/canary/-1',
    ]) {
      assert.equal((await get(proxy.adminUrl + path, post)).status, 404, path)
    }
  })

  it('have a canary of their own, whose share operators change', async () => {
    const [canary] = (await startUpstreams(1)) as [Upstream]
    const { url, proxy, v2 } = await pooled({ trustProxy: ['loopback'] })
    proxy.pools.get('v2')?.balancer.add({ url: canary.url, canary: true })
    await until(() => proxy.targets.every(({ state }) => state === 'up'))
    const share = async (path: string): Promise<number> => {
      canary.seen.length = 0
      for (let i = 0; i < 60; i++) await get(url + path, { headers: { 'x-forwarded-for': `203.0.113.${i}` } })
      return canary.seen.length
    }
    assert.equal(await share('/api/v2/x'), 0)
    assert.equal((await json(`${proxy.adminUrl}/pools/v2/canary/50`, post)).canaryPercent, 50)
    const half = await share('/api/v2/x')
    assert.ok(half > 10 && half < 50, `${half} of 60`)
    assert.equal(await share('/x'), 0)
    await json(`${proxy.adminUrl}/pools/v2/canary/100`, post)
    assert.equal(await share('/api/v2/x'), 60)
    canary.kill()
    const before = v2.flatMap(({ seen }) => seen).length
    for (let i = 0; i < 20; i++) assert.equal((await get(`${url}/api/v2/x`)).status, 200)
    assert.equal(v2.flatMap(({ seen }) => seen).length, before + 20)
  })

  it('have their own options, and for the rest those of the proxy', async () => {
    const { url, proxy, heavy } = await pooled({
      maxBodyBytes: 10,
      policy: 'random',
      connections: { responseTimeoutMs: 50, connectTimeoutMs: 1234 },
      pools: { heavy: { maxBodyBytes: 0, policy: 'least-connections', connections: { responseTimeoutMs: 60_000 } } },
    })
    const optionsOf = (pool: string) => proxy.pools.get(pool)?.balancer.options
    assert.deepEqual(
      ['default', 'v2', 'heavy'].map((pool) => optionsOf(pool)?.policy),
      ['random', 'random', 'least-connections'],
    )
    assert.equal(optionsOf('heavy')?.connections.connectTimeoutMs, 1234)
    const body = 'x'.repeat(100)
    assert.equal((await get(`${url}/api/v2/x`, { method: 'POST', body })).status, 413)
    for (const upstream of heavy)
      upstream.handler = (request, response) => setTimeout(() => upstream.response(request, response), 200)
    assert.equal((await get(`${url}/api/v2/heavy`, { method: 'POST', body })).status, 200)
  })

  it('bind clients to targets by a cookie of their own', async () => {
    const sticky = { secret: 'a secret of at least thirty-two bytes' }
    const { url } = await pooled({ policy: 'sticky-cookie', sticky })
    const names = await Promise.all(
      ['/', '/api/v2'].map(async (path) => String((await get(url + path)).headers['set-cookie']).split('=')[0]),
    )
    assert.deepEqual(names, ['fleet_target', 'fleet_target_v2'])
  })

  it('appear in metrics and in the lists for operators', async () => {
    const { url, proxy, v2 } = await pooled()
    await get(`${url}/api/v2`)
    await get(`${url}/metrics`)
    const { text } = await get(`${proxy.adminUrl}/metrics`)
    assert.match(text, /^fleet_proxy_requests_total\{code="2xx",pool="v2"\} 1$/m)
    assert.match(text, /^fleet_proxy_requests_total\{code="2xx",pool="default"\} 0$/m)
    assert.match(text, /^fleet_proxy_requests_total\{code="4xx"\} 1$/m)
    assert.match(text, /^fleet_proxy_request_duration_seconds_count\{pool="v2"\} 1$/m)
    assert.match(text, /^fleet_proxy_waiting\{pool="heavy"\} 0$/m)
    assert.match(
      text,
      new RegExp(`^fleet_proxy_target_state\\{target="127.0.0.1:${v2[0].port}",state="up",pool="v2"\\} 1$`, 'm'),
    )
    const targets = await json(`${proxy.adminUrl}/targets`)
    assert.deepEqual(
      targets.map(({ pool }: { pool: string }) => pool),
      ['default', 'default', 'v2', 'v2', 'heavy', 'heavy'],
    )
    const listed = await json(`${proxy.adminUrl}/pools`)
    assert.deepEqual(
      listed.map(({ name }: { name: string }) => name),
      ['default', 'v2', 'heavy'],
    )
    assert.deepEqual(listed[1], { name: 'v2', maintenance: false, canaryPercent: 0, targets: 2, up: 2, waiting: 0 })
  })

  it('may include the pool default, and may leave it without targets', async () => {
    const [a, b] = (await startUpstreams(2)) as [Upstream, Upstream]
    const both = await front([], {
      targets: undefined,
      pools: { default: { targets: [a.url] }, v2: { targets: [b.url] } },
      routes: [{ path: '/api/v2', pool: 'v2' }],
    })
    assert.equal((await json(`${both.url}/`)).name, a.name)
    assert.equal((await json(`${both.url}/api/v2`)).name, b.name)
    const only = await front([], { pools: { v2: { targets: [b.url] } }, routes: '/api/v2=v2', queue: { timeoutMs: 0 } })
    assert.equal((await get(`${only.url}/`)).status, 503)
    assert.equal((await json(`${only.url}/api/v2`)).name, b.name)
  })

  it('leave nothing open when one of them is invalid', () => {
    let open = 0
    const discover = () => {
      open++
      return () => open--
    }
    const pools = { v2: { targets: ['nonsense'] } }
    assert.throws(() => createProxy({ discover, pools } as unknown as ProxyOptions), {
      code: 'FLEET_ERR_TARGET_INVALID',
    })
    assert.throws(() => createProxy({ discover, admin: { port: 0, token: 'short' } }), {
      code: 'FLEET_ERR_SECRET_WEAK',
    })
    assert.equal(open, 0)
  })

  it('are rejected at start with the name of the wrong option', () => {
    const targets = ['http://127.0.0.1:1']
    for (const [options, message] of [
      [{ targets, routes: '/x=v2' }, /`proxy\.routes`: "\/x=v2" names a pool that does not exist/],
      [{ targets, routes: [{ path: '/x', pool: 'v2' }] }, /`proxy\.routes`: "\/x=v2" names a pool/],
      [{ targets, routes: [{ path: 'x', pool: 'default' }] }, /`proxy\.routes\.path` must be a path/],
      [{ targets, routes: [{ prefix: '/x', pool: 'default' }] }, /`proxy\.routes` has no option `prefix`/],
      [{ targets, routes: 'x' }, /`proxy\.routes`: "x" is not MATCH=POOL/],
      [{ targets, pools: { V2: { targets } } }, /`proxy\.pools\.V2` must have a name of/],
      [{ targets, pools: { v2: { target: targets } } }, /`proxy\.pools\.v2` has no option `target`/],
      [{ targets, pools: { v2: { targets: [1] } } }, /`proxy\.pools\.v2\.targets` must be/],
      [{ targets, pools: { v2: { targets, policy: 'x' } } }, /`proxy\.pools\.v2\.policy` must be/],
      [{ targets, pools: { default: { targets } } }, /both set/],
      [{}, /needs `targets`, `discover` or `pools`/],
    ] as const) {
      assert.throws(() => createProxy(options as unknown as ProxyOptions), { message })
    }
  })
})
