import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { loadBalancer } from '../../src/instance/admin-api.ts'
import { health } from '../../src/instance/health/index.ts'
import { type IdentityOptions, identity, type Peer } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'

async function build(t: TestContext, given: IdentityOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'shop', id: 'a1', version: '1.2.3', ...given })
  await app.register(lifecycle, { signals: false })
  await app.register(health, { memory: false, eventLoop: false })
  await app.register(loadBalancer)
  return app
}

const base = '/api/v1/load-balancer'
const get = async (app: FastifyInstance, path: string) => {
  const response = await app.inject(base + path)
  assert.deepEqual([response.statusCode, response.headers['cache-control']], [200, 'no-store'])
  return response.json()
}
const post = async (app: FastifyInstance, path: string) => {
  const headers = { 'content-type': 'application/json' }
  const response = await app.inject({ method: 'POST', url: base + path, headers })
  assert.equal(response.headers['cache-control'], 'no-store')
  return { status: response.statusCode, body: response.json() }
}
const listen = (app: FastifyInstance): Promise<string> => app.listen({ port: 0, host: '127.0.0.1' })

describe('GET /health', () => {
  it('reports the status, the place, the stores, every check and the memory of this instance', async (t) => {
    const app = await build(t, { pool: 'v2', region: 'eu', zone: 'eu-1' })
    app.health.add('database', () => true)
    app.health.add('search', () => false, { critical: false })
    app.fleet.describe('sessionStore', 'redis')
    app.fleet.describe('cacheStore', 'memory')
    app.addHook('preHandler', async (_request, reply) => {
      Object.defineProperty(reply, 'elapsedTime', { value: 12.345 })
    })
    await listen(app)
    await app.health.check()
    const before = Date.now()
    const { timestamp, responseTime, uptime, resources, ...rest } = await get(app, '/health')
    assert.deepEqual(rest, {
      status: 'degraded',
      instanceId: 'a1',
      loadBalancer: {
        ready: true,
        stateless: false,
        sessionStore: 'redis',
        cacheStore: 'memory',
        pool: 'v2',
        region: 'eu',
        zone: 'eu-1',
      },
      dependencies: { database: 'up', search: 'down' },
    })
    assert.ok(Date.parse(timestamp) >= before && Date.parse(timestamp) <= Date.now())
    assert.equal(new Date(timestamp).toISOString(), timestamp)
    assert.ok(uptime > 0 && uptime <= process.uptime())
    assert.equal(responseTime, 12.3)
    const { used, total, percentage, heapUsed, heapLimit } = resources.memory
    assert.ok(used > 1e6 && total > used && heapUsed > 1e6 && heapLimit > heapUsed)
    assert.equal(percentage, Math.round((used / total) * 1000) / 10)
  })

  it('reports `none` for stores that are not used, and that the instance is not ready', async (t) => {
    const app = await build(t)
    app.health.add('database', () => false)
    await listen(app)
    await app.health.check()
    const { status, loadBalancer, dependencies } = await get(app, '/health')
    const place = { pool: 'default', region: null, zone: null }
    assert.equal(status, 'unhealthy')
    assert.deepEqual(loadBalancer, {
      ready: false,
      stateless: true,
      sessionStore: 'none',
      cacheStore: 'none',
      ...place,
    })
    assert.deepEqual(dependencies, { database: 'down' })
  })
})

describe('POST /health-check', () => {
  it('runs the checks now and returns their new reports', async (t) => {
    const app = await build(t)
    let up = true
    app.health.add('database', () => up, { intervalMs: 3_600_000, fall: 1, rise: 1 })
    await listen(app)
    await app.health.check()
    up = false
    const { status, body } = await post(app, '/health-check')
    const { latencyMs, lastSuccess, ...report } = body.checks.database
    assert.deepEqual([status, body.status, Object.keys(body)], [200, 'unhealthy', ['checks', 'status']])
    assert.deepEqual(report, { status: 'down', critical: true, lastError: 'returned false', consecutiveFailures: 1 })
    assert.ok(latencyMs >= 0 && Date.parse(lastSuccess) > 0)
    up = true
    assert.equal((await post(app, '/health-check')).body.status, 'healthy')
  })
})

const peer = (self: Peer, figures: Partial<Peer>): Peer => ({ ...self, ...figures })

describe('GET /instances', () => {
  it('lists every instance with its place, state and figures', async (t) => {
    const app = await build(t, { color: 'blue', weight: 50, region: 'eu' })
    const address = new URL(await listen(app))
    const failing = ['database']
    const b = { id: 'b', port: undefined, region: undefined, zone: 'z', state: 'draining', failing } as const
    app.fleet.survey = async () => [app.fleet.self(), peer(app.fleet.self(), { ...b, rps: 7.5, p95: 12.3 })]
    const body = await get(app, '/instances')
    const { host, pid, startedAt } = app.fleet.instance
    const [own, other] = body.instances
    assert.deepEqual([body.fleet, body.answeredBy, body.instances.length], ['shop', 'a1', 2])
    const { lastSeen, memory, eventLoopUtilization, ...rest } = own
    assert.deepEqual(rest, {
      ...{ id: 'a1', host, pid, port: Number(address.port), version: '1.2.3', color: 'blue', pool: 'default' },
      ...{ region: 'eu', zone: null, weight: 50, state: 'serving', startedAt, rps: 0, p95: 0, failing: [] },
      ...{ errorRate: 0, degraded: [], checks: [] },
    })
    assert.ok(Date.parse(lastSeen) >= Date.parse(startedAt) && memory > 1e6 && eventLoopUtilization >= 0)
    assert.deepEqual(
      [other.id, other.port, other.region, other.zone, other.state, other.rps, other.p95, other.failing],
      ['b', null, null, 'z', 'draining', 7.5, 12.3, failing],
    )
  })
})

describe('GET /metrics', () => {
  it('reports the figures of this instance, the sum of all rates and the worst p95', async (t) => {
    const app = await build(t)
    app.get('/fine', async () => ({}))
    app.get('/broken', async () => {
      throw new Error('no')
    })
    await listen(app)
    for (const url of ['/fine', '/fine', '/fine', '/broken']) await app.inject(url)
    const load = { rps: 1.5, errorRate: 0.25, p50: 1, p95: 2, p99: 3, eventLoopUtilization: 0.4 }
    app.load.read = () => load
    const self = app.fleet.self()
    app.fleet.survey = async () => [
      peer(self, { rps: 1.11, p95: 8 }),
      peer(self, { rps: 2.22, p95: 30, state: 'draining' }),
      peer(self, { rps: 3.33, p95: 9 }),
      peer(self, { rps: 0, p95: 0, state: 'starting' }),
    ]
    const totals = { requests: 4, errors: 1 }
    const fleet = { instances: 4, serving: 2, rps: 6.7, p95: 30 }
    assert.deepEqual(await get(app, '/metrics'), { instance: { ...load, totals }, fleet })
  })
})

describe('GET /config', () => {
  it('reports the resolved options of every plugin without secrets', async (t) => {
    const app = await build(t)
    app.fleet.configure('mail', {
      url: 'smtp://user:hunter2@mail:25/?a@b',
      apiKey: 'hunter2',
      keys: ['hunter2'],
      passphrase: 'hunter2',
      credentials: { user: 'hunter2' },
      privatePart: 'hunter2',
      token: undefined,
      password: null,
      secret: true,
      send: () => undefined,
      client: new Map(),
      hosts: ['redis://:hunter2@db', 'plain'],
      none: null,
      port: 25,
    })
    const { identity, lifecycle, health, mail } = await get(app, '/config')
    assert.deepEqual([identity.name, identity.id, identity.weight, lifecycle.drainDelayMs], ['shop', 'a1', 100, 0])
    assert.deepEqual([lifecycle.shutdownTimeoutMs, lifecycle.signals, health.memory], [30_000, false, false])
    assert.deepEqual(mail, {
      url: 'smtp://[redacted]@mail:25/?a@b',
      apiKey: '[redacted]',
      keys: '[redacted]',
      passphrase: '[redacted]',
      credentials: '[redacted]',
      privatePart: '[redacted]',
      password: null,
      secret: true,
      send: '[function]',
      client: '[Map]',
      hosts: ['redis://[redacted]@db', 'plain'],
      none: null,
      port: 25,
    })
  })
})

describe('POST /drain and /undrain', () => {
  it('change the state of this instance, named or not', async (t) => {
    const app = await build(t)
    await listen(app)
    for (const query of ['', '?instance=a1']) {
      const drained = { instanceId: 'a1', command: 'drain', state: 'draining' }
      assert.deepEqual(await post(app, `/drain${query}`), { status: 200, body: drained })
      assert.equal(app.fleet.state, 'draining')
      const back = { instanceId: 'a1', command: 'undrain', state: 'serving' }
      assert.deepEqual(await post(app, `/undrain${query}`), { status: 200, body: back })
      assert.equal(app.fleet.state, 'serving')
    }
  })

  it('report the state that this instance has, if the command could not change it', async (t) => {
    const app = await build(t)
    await app.ready()
    assert.equal((await post(app, '/drain')).body.state, 'starting')
    assert.equal((await post(app, '/undrain')).body.state, 'starting')
  })

  it('pass a command for another instance on, and leave this one as it is', async (t) => {
    const app = await build(t)
    await listen(app)
    const commands: string[][] = []
    app.fleet.command = async (...given) => void commands.push(given)
    const drained = { instanceId: 'b', command: 'drain', state: 'draining' }
    assert.deepEqual(await post(app, '/drain?instance=b'), { status: 200, body: drained })
    const back = { instanceId: 'b', command: 'undrain', state: 'serving' }
    assert.deepEqual(await post(app, '/undrain?instance=b'), { status: 200, body: back })
    assert.deepEqual(commands, [
      ['b', 'drain'],
      ['b', 'undrain'],
    ])
    assert.equal(app.fleet.state, 'serving')
  })

  it('reject an unknown instance with 404, and a name that is empty, too long or repeated with 400', async (t) => {
    const app = await build(t)
    await listen(app)
    assert.deepEqual((await post(app, '/drain?instance=unknown')).body.code, 'FLEET_ERR_INSTANCE_UNKNOWN')
    assert.equal((await post(app, `/drain?instance=${'x'.repeat(128)}`)).status, 404)
    for (const query of ['instance=', `instance=${'x'.repeat(129)}`, 'instance=a1&instance=b']) {
      assert.equal((await post(app, `/drain?${query}`)).status, 400, query)
    }
    assert.equal(app.fleet.state, 'serving')
  })
})

it('the endpoints move to another prefix, or do not exist', async (t) => {
  for (const [path, moved, kept] of [
    ['/ops', 200, 404],
    [false, 404, 404],
  ] as const) {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(lifecycle, { signals: false })
    await app.register(loadBalancer, { path })
    assert.equal((await app.inject('/ops/health')).statusCode, moved)
    assert.equal((await app.inject(`${base}/health`)).statusCode, kept)
  }
})
