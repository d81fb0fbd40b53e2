import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { describe, it } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type HealthOptions, health } from '../../src/instance/health/index.ts'
import type { Peer } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { until } from '../helpers/until.ts'

const quick = { intervalMs: 100, timeoutMs: 60_000, rise: 2, fall: 3 }
/** A busy machine must not fail `/live` in these tests. */
const maxStuckMs = 3_600_000

async function listening(
  options: HealthOptions,
  setUp: (app: FastifyInstance) => void = () => undefined,
): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(lifecycle, { signals: false })
  await app.register(health, { checks: quick, maxStuckMs, ...options })
  setUp(app)
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

const get = async (app: FastifyInstance, url: string): Promise<{ status: number; body: Record<string, unknown> }> => {
  const response = await app.inject({ url })
  return { status: response.statusCode, body: response.json() }
}

describe('health', { concurrency: true }, () => {
  it('responds to all probes with the documented fields', async (t) => {
    const app = await listening({})
    t.after(() => app.close())
    await until(() => app.health.readiness.ready)
    const id = app.fleet.instance.id
    const live = await get(app, '/live')
    assert.deepEqual([live.status, live.body.alive, live.body.instanceId], [200, true, id])
    assert.equal((await get(app, '/alive')).status, 200)
    const ready = await get(app, '/ready')
    assert.deepEqual([ready.status, ready.body.ready, ready.body.loadBalancerReady], [200, true, true])
    const summary = await get(app, '/health')
    assert.deepEqual(Object.keys(summary.body).sort(), [
      'color',
      'instanceId',
      'status',
      'success',
      'timestamp',
      'uptime',
      'version',
    ])
    const detailed = await get(app, '/health/detailed')
    assert.deepEqual(Object.keys(detailed.body.checks as object), ['memory', 'eventLoop'])
    const response = await app.inject('/health')
    assert.equal(response.headers['cache-control'], 'no-store')
  })

  it('moves and disables endpoints', async (t) => {
    const app = await listening({ paths: { ready: '/-/ready', alive: false, health: false, detailed: false } })
    t.after(() => app.close())
    assert.equal((await get(app, '/-/ready')).status, 200)
    assert.equal((await get(app, '/ready')).status, 404)
    for (const path of ['/alive', '/health', '/health/detailed']) assert.equal((await get(app, path)).status, 404, path)
    assert.equal((await get(app, '/live')).status, 200)
  })

  it('is not ready before it listens and its critical checks have passed once', async (t) => {
    let up = false
    const app = Fastify()
    t.after(() => app.close())
    await app.register(lifecycle, { signals: false })
    await app.register(health, { checks: quick, maxStuckMs, eventLoop: false })
    app.health.add('database', () => up)
    await app.ready()
    assert.equal((await get(app, '/ready')).body.reason, 'starting')
    await app.listen({ port: 0, host: '127.0.0.1' })
    await until(async () => (await get(app, '/ready')).body.reason === 'failed: database')
    assert.equal((await get(app, '/live')).status, 200)
    assert.equal((await get(app, '/health')).body.status, 'unhealthy')
    up = true
    await until(async () => (await get(app, '/ready')).status === 200)
    assert.equal((await get(app, '/health')).body.status, 'healthy')
  })

  it('goes down after `fall` failures and up after `rise` passes', async (t) => {
    const results: boolean[] = []
    const app = await listening({ checks: { ...quick, intervalMs: 3_600_000 } }, (app) => {
      app.health.add('flaky', () => results.shift() ?? true)
    })
    t.after(() => app.close())
    await app.health.check()
    const seen: string[] = []
    for (const result of [false, false, true, false, false, false, true, true]) {
      results.push(result)
      await app.health.check()
      seen.push(app.health.reports.flaky?.status ?? '')
    }
    assert.deepEqual(seen, ['degraded', 'degraded', 'up', 'degraded', 'degraded', 'down', 'down', 'up'])
  })

  it('is degraded while uses of a dependency fail, and up soon after', async (t) => {
    let runs = 0
    const app = await listening({ checks: { ...quick, intervalMs: 3_600_000 } }, (app) => {
      app.health.add('store', () => {
        runs++
      })
    })
    t.after(() => app.close())
    await until(() => app.health.reports.store?.status === 'up')
    const before = runs
    for (let i = 0; i < 10_000; i++) app.health.failed('store', new Error('no reply'))
    app.health.failed('unknown', 'ignored')
    assert.equal(app.health.reports.store?.status, 'degraded')
    assert.equal(app.health.reports.store?.lastError, 'no reply')
    assert.equal(app.health.status, 'degraded')
    assert.equal((await get(app, '/ready')).status, 200, 'one check decides, not the uses')
    await until(() => app.health.status === 'healthy')
    assert.ok(runs - before <= 4, `${runs - before} runs`)
  })

  it('goes down by its own runs after uses have failed', async (t) => {
    let broken = false
    const app = await listening({ checks: { ...quick, intervalMs: 3_600_000 } }, (app) => {
      app.health.add('store', () => !broken)
    })
    t.after(() => app.close())
    await until(() => app.health.status === 'healthy')
    broken = true
    app.health.failed('store', 'no reply')
    assert.equal(app.health.reports.store?.lastError, 'no reply')
    await until(() => app.health.reports.store?.status === 'down')
    assert.equal(app.health.status, 'unhealthy')
  })

  for (const [what, check, error] of [
    [
      'throws',
      () => {
        throw new Error('broken')
      },
      /broken/,
    ],
    ['rejects', async () => Promise.reject(new Error('refused')), /refused/],
    [
      'throws no error',
      () => {
        throw 'text'
      },
      /text/,
    ],
    ['returns false', () => false, /returned false/],
    ['hangs', () => new Promise(() => undefined), /timed out/],
  ] as const) {
    it(`fails a check that ${what}`, async (t) => {
      const app = await listening({}, (app) => app.health.add('bad', check, { timeoutMs: 50 }))
      t.after(() => app.close())
      await until(() => app.health.reports.bad?.status === 'down')
      assert.match(app.health.reports.bad?.lastError ?? '', error)
      assert.equal((await get(app, '/ready')).status, 503)
      assert.equal((await get(app, '/live')).status, 200)
    })
  }

  it('only degrades if the failed check is not critical', async (t) => {
    const app = await listening({}, (app) => app.health.add('extra', () => false, { critical: false }))
    t.after(() => app.close())
    await until(() => app.health.status === 'degraded')
    assert.equal((await get(app, '/ready')).status, 200)
    assert.deepEqual([(await get(app, '/health')).status, (await get(app, '/health')).body.status], [200, 'degraded'])
  })

  it('does no I/O for probes', async (t) => {
    let runs = 0
    const app = await listening({ checks: { ...quick, intervalMs: 3_600_000 } }, (app) =>
      app.health.add('counted', () => ++runs),
    )
    t.after(() => app.close())
    await until(() => runs === 1)
    for (const path of ['/ready', '/live', '/alive', '/health', '/health/detailed']) {
      const responses = await Promise.all(Array.from({ length: 100 }, () => app.inject(path)))
      assert.ok(responses.every(({ statusCode }) => statusCode === 200))
      assert.equal(runs, 1, path)
    }
    await Promise.all([app.health.check(), app.health.check(), app.health.check()])
    assert.equal(runs, 2)
  })

  it('stays in rotation if every other instance has lost the same dependency (panic rule)', async (t) => {
    const peer = (id: string, failing: string[], state: Peer['state'] = 'serving'): Peer => ({
      ...app.fleet.self(),
      id,
      failing,
      state,
    })
    const app = await listening({}, (app) => app.health.add('database', () => false))
    t.after(() => app.close())
    await until(() => app.health.reports.database?.status === 'down')
    const others = (...peers: Peer[]): void => {
      app.fleet.peers = () => [app.fleet.self(), ...peers]
    }
    others(peer('b', ['database']), peer('c', []))
    assert.equal((await get(app, '/ready')).status, 503)
    others(peer('b', ['database']), peer('c', ['database', 'other']))
    const ready = await get(app, '/ready')
    assert.deepEqual([ready.status, ready.body.reason], [200, 'panic: every instance has lost database'])
    assert.equal((await get(app, '/health')).body.status, 'degraded')
    others(peer('b', [], 'draining'))
    assert.equal((await get(app, '/ready')).status, 503)
  })

  it('checks the given addresses and URLs, which only degrade the instance', async (t) => {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      socket.end('HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n')
    }).listen(0, '127.0.0.1')
    t.after(() => server.close())
    await until(() => server.listening)
    const { port } = server.address() as { port: number }
    const app = await listening({
      tcp: [`127.0.0.1:${port}`, '127.0.0.1:1'],
      http: [`http://127.0.0.1:${port}/`],
    })
    t.after(() => app.close())
    await until(() => Object.values(app.health.reports).every(({ status }) => status !== 'pending'))
    const status = Object.fromEntries(Object.entries(app.health.reports).map(([name, report]) => [name, report.status]))
    assert.equal(status[`tcp 127.0.0.1:${port}`], 'up')
    assert.equal(status['tcp 127.0.0.1:1'], 'down')
    assert.equal(status[`http 127.0.0.1:${port}/`], 'down')
    assert.deepEqual(
      Object.values(app.health.reports).map(({ critical }) => critical),
      Object.keys(status).map(() => false),
    )
    assert.equal((await get(app, '/ready')).status, 200)
    assert.equal((await get(app, '/health')).body.status, 'degraded')
  })

  it('rejects an invalid option and a second check of the same name', async () => {
    const app = Fastify()
    await app.register(lifecycle, { signals: false })
    await assert.rejects(async () => await app.register(health, { checks: { fall: 0 } }), {
      code: 'FLEET_ERR_OPTION_INVALID',
      message: /health\.checks\.fall/,
    })
    const other = await listening({}, (app) => app.health.add('one', () => true))
    assert.throws(() => other.health.add('one', () => true), { code: 'FLEET_ERR_CHECK_EXISTS' })
    for (const own of [{ timeoutMs: 0 }, { intervalMs: '1s' }, { rises: 1 }])
      assert.throws(() => other.health.add('two', () => true, own as never), {
        code: /^FLEET_ERR_OPTION_(INVALID|UNKNOWN)$/,
        message: /health\.add\("two"\)/,
      })
    await other.close()
  })
})
