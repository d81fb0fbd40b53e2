import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { loadBalancer } from '../../src/instance/admin-api.ts'
import { type HeadersOptions, headers } from '../../src/instance/headers.ts'
import { identity } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { metrics } from '../../src/instance/metrics/index.ts'
import { type OperatorsOptions, operators } from '../../src/instance/operators/index.ts'

const token = 'a-token-of-more-than-thirty-two-bytes'

async function build(
  t: TestContext,
  given: { operators?: OperatorsOptions; headers?: HeadersOptions } = {},
): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'shop', id: 'a1', trustProxy: ['loopback'] })
  await app.register(lifecycle, { signals: false })
  await app.register(operators, given.operators ?? {})
  await app.register(headers, given.headers ?? {})
  await app.register(metrics)
  await app.register(loadBalancer)
  app.get('/', async () => ({}))
  app.get('/things/:id', async () => ({}))
  app.get('/broken', async () => {
    throw new Error('no')
  })
  return app
}

describe('identity headers', () => {
  it('are sent with every response, including errors and unknown paths', async (t) => {
    const app = await build(t)
    for (const url of ['/', '/nowhere', '/broken', '/health']) {
      const { headers } = await app.inject(url)
      assert.equal(headers['x-instance-id'], 'a1')
      assert.match(String(headers['x-served-by']), /:\d+$/)
      assert.match(String(headers['x-response-time']), /^\d+\.\dms$/)
      assert.equal(headers['x-session-shared'], 'false')
      assert.equal(headers['x-stateless'], 'true')
      assert.match(String(headers['x-request-id']), /^[\w-]{12}-\d+$/)
    }
  })

  it('report state in memory', async (t) => {
    const app = await build(t)
    app.fleet.describe('cacheStore', 'memory')
    app.fleet.describe('sessionStore', 'redis')
    const { headers } = await app.inject('/')
    assert.deepEqual([headers['x-stateless'], headers['x-session-shared']], ['false', 'true'])
  })

  it('can be renamed, disabled and limited to operators', async (t) => {
    const app = await build(t, { headers: { expose: 'internal', names: { responseTime: 'X-Took', stateless: false } } })
    const outsider = await app.inject({ url: '/', headers: { 'x-forwarded-for': '203.0.113.1' } })
    assert.equal(outsider.headers['x-instance-id'], undefined)
    assert.ok(outsider.headers['x-took'])
    assert.equal(outsider.headers['x-stateless'], undefined)
    assert.equal((await app.inject('/')).headers['x-instance-id'], 'a1')
    const none = await build(t, { headers: { expose: 'none' } })
    assert.equal((await none.inject('/')).headers['x-served-by'], undefined)
  })

  it('keep the request id of a trusted proxy only', async (t) => {
    const app = await build(t)
    const sendRequest = async (id: string, remoteAddress: string): Promise<unknown> =>
      (await app.inject({ url: '/', headers: { 'x-request-id': id }, remoteAddress })).headers['x-request-id']
    assert.equal(await sendRequest('abc-1', '127.0.0.1'), 'abc-1')
    assert.notEqual(await sendRequest('abc-1', '203.0.113.1'), 'abc-1')
    assert.notEqual(await sendRequest('a b\u007f', '127.0.0.1'), 'a b\u007f')
    assert.notEqual(await sendRequest('x'.repeat(200), '127.0.0.1'), 'x'.repeat(200))
  })

  it('reject names that are invalid in a header or key', async () => {
    for (const wrong of [
      { name: 'a{b}' },
      { id: 'x\r\ny: z' },
      { zone: 'ü' },
      { pool: 'V2' },
      { pool: '2' },
      { pool: 'a'.repeat(33) },
      { version: '' },
    ]) {
      await assert.rejects(async () => await Fastify().register(identity, wrong), { code: 'FLEET_ERR_OPTION_INVALID' })
    }
  })

  it('send Server-Timing on request', async (t) => {
    const app = await build(t)
    assert.equal((await app.inject('/')).headers['server-timing'], undefined)
    const response = await app.inject({ url: '/', headers: { 'x-server-timing': '1' } })
    assert.match(String(response.headers['server-timing']), /^app;dur=\d+\.\d$/)
  })
})

const operatorsPaths = [
  ['GET', '/health/detailed'],
  ['GET', '/metrics'],
  ['GET', '/api/v1/load-balancer/health'],
  ['POST', '/api/v1/load-balancer/health-check'],
  ['GET', '/api/v1/load-balancer/instances'],
  ['GET', '/api/v1/load-balancer/metrics'],
  ['GET', '/api/v1/load-balancer/config'],
  ['POST', '/api/v1/load-balancer/drain'],
  ['POST', '/api/v1/load-balancer/undrain'],
] as const

describe('operators’ endpoints', () => {
  it('do not exist for other clients', async (t) => {
    const outsider = {
      'behind a front on this machine': { headers: { 'x-forwarded-for': '203.0.113.1' } },
      'behind a front that says Forwarded': { headers: { forwarded: 'for=203.0.113.1' } },
      'behind a front that says Via': { headers: { via: '1.1 front' } },
      'from another machine': { remoteAddress: '203.0.113.1' },
      'with a wrong token': { headers: { authorization: `Bearer ${token}x` } },
      'with an empty token': { headers: { authorization: 'Bearer ' } },
      'by a name that was made to mean this machine': { headers: { host: 'rebound.example' } },
      'by an address that is not this machine’s own': { headers: { host: '203.0.113.9' } },
      'by no name': { headers: { host: '/' } },
    }
    for (const given of [{}, { token }, { token, allow: ['127.0.0.1', '203.0.113.0/24'] }]) {
      const app = await build(t, { operators: given })
      for (const [method, url] of operatorsPaths) {
        for (const [client, { headers, ...how }] of Object.entries<{ headers?: object; remoteAddress?: string }>(
          outsider,
        )) {
          const payload = method === 'POST' ? '{}' : undefined
          const requested = { method, ...how, payload, headers: { 'content-type': 'application/json', ...headers } }
          const reply = await app.inject({ ...requested, url })
          if (given.token === undefined && client.includes('token')) continue
          assert.equal(reply.statusCode, 404, `${method} ${url} ${client}`)
          const unknown = await app.inject({ ...requested, url: `${url}-unknown` })
          assert.equal(reply.body.replaceAll(url, ''), unknown.body.replaceAll(`${url}-unknown`, ''))
        }
      }
    }
  })

  it('accept the token from any address', async (t) => {
    const app = await build(t, { operators: { token } })
    const headers = { authorization: `Bearer ${token}`, via: '1.1 x', 'content-type': 'application/json' }
    for (const [method, url] of operatorsPaths) {
      const remote = await app.inject({ method, url, headers, remoteAddress: '203.0.113.1' })
      assert.equal(remote.statusCode, 200, url)
    }
  })

  it('accept direct loopback connections with a loopback Host only without a token', async (t) => {
    const development = await build(t)
    const configured = await build(t, { operators: { token, allow: ['127.0.0.1'] } })
    const headers = { 'content-type': 'application/json' }
    for (const host of ['localhost', 'LOCALHOST:3000', 'shop.localhost', '127.0.0.1:3000', '127.8.9.1', '[::1]:3000']) {
      for (const [method, url] of operatorsPaths) {
        const sent = { method, url, headers: { ...headers, host } }
        assert.equal((await development.inject(sent)).statusCode, 200, `${host} ${url}`)
        assert.equal((await configured.inject(sent)).statusCode, 404, `${host} ${url}`)
      }
    }
    const rebindable = [
      ...['localhost.evil.example', '127.0.0.1.evil.example', 'evil.example', 'xlocalhost', '2130706433', '127.1'],
      ...['192.0.2.1', '[::ffff:7f00:1]', '0.0.0.0', 'evil@localhost', 'localhost:1:2', hostname()],
    ]
    for (const host of rebindable) {
      assert.equal((await development.inject({ url: '/metrics', headers: { host } })).statusCode, 404, host)
    }
  })

  it('accept no address in production', async (t) => {
    process.env.NODE_ENV = 'production'
    t.after(() => delete process.env.NODE_ENV)
    for (const given of [{}, { token }, { loopback: true, allow: ['10.0.0.0/8'] }]) {
      const app = await build(t, { operators: given })
      assert.equal((await app.inject('/metrics')).statusCode, 404)
      assert.equal((await app.inject({ url: '/metrics', remoteAddress: '10.9.8.7' })).statusCode, 404)
    }
  })

  it('accept commands only with a same-origin proof or a JSON content type, whatever the credential', async (t) => {
    const development = await build(t)
    const configured = await build(t, { operators: { token } })
    const drain = async (app: FastifyInstance, given: Record<string, string>): Promise<[number, string?]> => {
      const credential: Record<string, string> = app === configured ? { authorization: `Bearer ${token}` } : {}
      const headers = { host: 'localhost:4001', ...credential, ...given }
      const reply = await app.inject({ method: 'POST', url: '/api/v1/load-balancer/drain', headers })
      return reply.statusCode === 403 ? [403, reply.json().code] : [reply.statusCode]
    }
    const json = { 'content-type': 'application/json' }
    for (const app of [development, configured]) {
      for (const proof of [
        json,
        { 'content-type': 'Application/JSON ; charset=utf-8' },
        { 'sec-fetch-site': 'same-origin' },
        { origin: 'http://localhost:4001' },
        { origin: 'http://LOCALHOST:4001', 'sec-fetch-site': 'same-origin', ...json },
      ] as Record<string, string>[]) {
        assert.deepEqual(await drain(app, proof), [200], JSON.stringify(proof))
      }
      for (const simple of [
        'text/plain',
        'application/x-www-form-urlencoded',
        'text/plain; application/json',
        'application/jsonx',
      ]) {
        assert.deepEqual(await drain(app, { 'content-type': simple }), [403, 'FLEET_ERR_ORIGIN_UNPROVEN'], simple)
      }
      assert.deepEqual(await drain(app, {}), [403, 'FLEET_ERR_ORIGIN_UNPROVEN'])
      // A request of another site's page is not the operator's if the address is the only credential.
      const rejected = app === configured ? [403, 'FLEET_ERR_ORIGIN_UNPROVEN'] : [404]
      for (const foreign of [
        { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' },
        { 'sec-fetch-site': 'same-site' },
        { 'sec-fetch-site': 'none' },
        { 'sec-fetch-site': 'same-origin, cross-site' },
        { origin: 'https://evil.example' },
        { origin: 'null' },
        { origin: 'http://localhost:4002' },
        { origin: 'https://evil.example', 'sec-fetch-site': 'same-origin' },
      ] as Record<string, string>[]) {
        assert.deepEqual(await drain(app, foreign), rejected, JSON.stringify(foreign))
        assert.deepEqual(await drain(app, { ...foreign, ...json }), rejected, JSON.stringify(foreign))
      }
    }
  })

  it('expose nothing to a page of another site that uses the browser’s address', async (t) => {
    const app = await build(t)
    const get = async (headers: Record<string, string>): Promise<number> =>
      (await app.inject({ url: '/metrics', headers })).statusCode
    assert.equal(await get({ origin: 'https://evil.example' }), 404)
    assert.equal(await get({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }), 404)
    assert.equal(
      await get({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' }),
      404,
    )
    assert.equal(
      await get({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }),
      200,
      'a link that was followed',
    )
  })

  it('can exclude loopback and accept networks with an address or listed name as Host', async (t) => {
    const allow = ['10.0.0.0/8']
    const app = await build(t, { operators: { loopback: false, allow, hosts: ['Shop-1.internal'] } })
    assert.equal((await app.inject('/metrics')).statusCode, 404)
    const near = async (host: string): Promise<number> =>
      (await app.inject({ url: '/metrics', remoteAddress: '10.9.8.7', headers: { host } })).statusCode
    for (const host of ['10.1.2.3:3000', '[fd00::1]:3000', 'localhost', 'shop-1.internal:3000']) {
      assert.equal(await near(host), 200, host)
    }
    for (const host of ['rebound.example', 'shop-1.internal.evil.example', hostname(), '/']) {
      assert.equal(await near(host), 404, host)
    }
  })

  it('reject a weak token at boot', async () => {
    await assert.rejects(async () => await Fastify().register(operators, { token: 'short' }), {
      code: 'FLEET_ERR_SECRET_WEAK',
      message: /FLEET_ADMIN_TOKEN/,
    })
  })

  it('respond with the documented fields', async (t) => {
    const app = await build(t)
    app.fleet.configure('redis', {
      url: 'redis://user:hunter2@db:6379',
      password: 'hunter2',
      client: new Map(),
      nested: [{ secret: 'hunter2' }],
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const get = async (path: string): Promise<Record<string, unknown>> =>
      (await app.inject(`/api/v1/load-balancer${path}`)).json()
    const own = await get('/health')
    assert.deepEqual(Object.keys(own), [
      'status',
      'timestamp',
      'instanceId',
      'responseTime',
      'uptime',
      'loadBalancer',
      'dependencies',
      'resources',
    ])
    const { instances } = (await get('/instances')) as { instances: { id: string; port: number; state: string }[] }
    assert.equal(instances.length, 1)
    const place = { pool: 'default', region: null, zone: null }
    for (const each of [instances[0], own.loadBalancer]) assert.deepEqual({ ...(each as object), ...place }, each)
    assert.equal(instances[0]?.state, 'serving')
    assert.ok((instances[0]?.port ?? 0) > 0)
    assert.deepEqual(Object.keys(await get('/metrics')), ['instance', 'fleet'])
    const config = JSON.stringify(await get('/config'))
    assert.doesNotMatch(config, /hunter2/)
    assert.match(config, /redis:\/\/\[redacted\]@db:6379/)
    assert.match(config, /"shutdownTimeoutMs":30000/)
    const headers = { 'content-type': 'application/json' }
    assert.equal(
      (await app.inject({ method: 'POST', headers, url: '/api/v1/load-balancer/drain?instance=unknown' })).statusCode,
      404,
    )
    assert.equal(
      (await app.inject({ method: 'POST', headers, url: `/api/v1/load-balancer/drain?instance=a1` })).json().state,
      'draining',
    )
  })
})

describe('metrics', () => {
  it('label requests by route pattern, in both formats', async (t) => {
    const app = await build(t)
    for (const id of [1, 2, 3]) await app.inject(`/things/${id}`)
    await app.inject('/nowhere/1')
    await app.inject('/nowhere/2')
    const text = (await app.inject('/metrics')).body
    assert.match(
      text,
      /http_request_duration_seconds_count\{[^}]*method="GET",route="\/things\/:id",status_code="200"[^}]*\} 3/,
    )
    assert.match(text, /http_request_duration_seconds_count\{[^}]*route="unknown",status_code="404"[^}]*\} 2/)
    assert.match(text, /fleet_instance_info\{[^}]*fleet="shop",instance="a1"[^}]*pool="default"/)
    assert.match(text, /fleet_check_up\{check="memory",critical="false"\}/)
    assert.match(text, /process_cpu_user_seconds_total/)
    const open = await app.inject({
      url: '/metrics',
      headers: { accept: 'application/openmetrics-text; version=1.0.0' },
    })
    assert.match(String(open.headers['content-type']), /application\/openmetrics-text/)
    assert.match(open.body, /# EOF\s*$/)
    assert.doesNotMatch((await app.inject('/metrics')).body, /# EOF/)
  })
})
