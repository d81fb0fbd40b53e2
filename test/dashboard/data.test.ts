import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { describe, type TestContext, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import Fastify, { type FastifyInstance } from 'fastify'
import { FleetError } from '../../src/base/errors.ts'
import { checksOf } from '../../src/dashboard/dependencies.ts'
import { dashboard } from '../../src/dashboard/index.ts'
import { databaseState } from '../../src/database/database-state.ts'
import { identity, type Peer } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { operators } from '../../src/instance/operators/index.ts'
import { maxText } from '../../src/state/history/events.ts'
import { until } from '../helpers/until.ts'

async function start(
  t: TestContext,
  options: object = {},
  before: (app: FastifyInstance) => unknown = () => {},
): Promise<{ app: FastifyInstance; url: string }> {
  const app = Fastify()
  before(app)
  t.after(() => app.close())
  await app.register(identity, { name: 'shop', id: 'shop-1', version: '1.2.3' })
  await app.register(lifecycle, { signals: false })
  await app.register(operators)
  await app.register(dashboard, options)
  app.get('/hello', async () => 'hello')
  return { app, url: `${await app.listen({ port: 0, host: '127.0.0.1' })}/fleet` }
}

const read = async (url: string, encoding?: string): Promise<[encoding: string | undefined, body: Buffer]> => {
  const request = get(url, { headers: encoding === undefined ? {} : { 'accept-encoding': encoding } })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  assert.equal(response.headers.vary, 'Accept-Encoding')
  return [response.headers['content-encoding'], Buffer.concat(chunks)]
}

/** An instance with values as different as those of a real fleet. */
const member = (self: Peer, i: number): Peer => {
  const random = (i * 2_654_435_761) % 4_294_967_296
  return {
    ...self,
    ...{ id: `shop-${random.toString(36)}-${i}`, host: `host-${i}.internal`, port: 3_000, pid: random % 65_536 },
    ...{ startedAt: new Date(1.7e12 + random).toISOString(), lastSeen: new Date(1.7e12 + random / 7).toISOString() },
    ...{ rps: (random % 9_999) / 10, p95: (random % 777) / 10, eventLoopUtilization: (random % 997) / 1_000 },
    ...{ memory: random, errorRate: (random % 31) / 10_000, region: `eu-${i % 3}`, zone: `eu-${i % 3}${'abc'[i % 3]}` },
  }
}

describe('the data of the dashboard', () => {
  test('of 1,000 instances are transferred in 150 KB', async (t) => {
    const { app, url } = await start(t)
    const peers = Array.from({ length: 1_000 }, (_, i) => member(app.fleet.self(), i))
    app.fleet.survey = async () => peers
    const [encoding, compressed] = await read(`${url}/state`, 'br;q=1.0, gzip;q=0.8')
    assert.equal(encoding, 'gzip')
    assert.ok(compressed.length < 150_000, `${compressed.length} bytes`)
    t.diagnostic(`${compressed.length} bytes`)
    const state = JSON.parse(gunzipSync(compressed).toString())
    assert.equal(state.instances.length, 1_000)
    for (const refused of ['identity', 'br', 'gzip;q=0', 'gzip; q=0.0, br']) {
      const [none, plain] = await read(`${url}/state`, refused)
      assert.equal(none, undefined, refused)
      assert.deepEqual(JSON.parse(plain.toString()).instances, state.instances)
    }
  })

  test('have the events of the instance, and those that are posted', async (t) => {
    const { url } = await start(t)
    const events = async (query = '') => (await (await fetch(`${url}/events${query}`)).json()).events
    const told = await until(async () => {
      const found = await events()
      return found.length === 2 ? found : undefined
    })
    assert.deepEqual(
      told.map(({ kind, instance, version }: Record<string, string>) => [kind, instance, version]),
      [
        ['ready', 'shop-1', '1.2.3'],
        ['started', 'shop-1', '1.2.3'],
      ],
    )
    const post = async (body: unknown): Promise<string> => {
      const response = await fetch(`${url}/events`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
      const text = await response.text()
      return response.status === 202 ? text : `${response.status} ${JSON.parse(text).code} ${JSON.parse(text).message}`
    }
    const event = { kind: 'deploy-step', text: 'x'.repeat(maxText), instance: 'shop-2', version: '2' }
    assert.equal(await post(event), '')
    const [{ id, at, ...posted }] = await events('?limit=1')
    assert.deepEqual(posted, event)
    assert.equal(at, Number.parseInt(id, 10))
    assert.equal((await events(`?before=${id}`)).length, 2)
    for (const [body, option] of [
      [{ ...event, kind: 'started' }, 'kind'],
      [{ ...event, kind: 7 }, 'kind'],
      [{ kind: 'killed' }, 'text'],
      [{ ...event, text: '' }, 'text'],
      [{ ...event, text: 'x'.repeat(maxText + 1) }, 'text'],
      [{ ...event, instance: 'x'.repeat(129) }, 'instance'],
      [{ ...event, version: 2 }, 'version'],
      [null, 'kind'],
    ] as const)
      assert.match(
        await post(body),
        new RegExp(`^400 (?:FLEET_ERR_REQUEST_INVALID|FST_ERR_VALIDATION) .*\`${option}\``),
      )
  })

  test('are compressed from 1 KiB on, for clients that accept gzip', async (t) => {
    const { app, url } = await start(t)
    const history = app.fleet.history ?? assert.fail()
    let text = ''
    history.routes = async () => ({ text }) as never
    for (const [length, accepted, expected] of [
      [1_023, 'gzip', undefined],
      [1_024, 'gzip', 'gzip'],
      [1_024, 'deflate, GZIP;q=0.001', 'gzip'],
      [1_024, 'gzip;q=0.000', undefined],
      [1_024, 'x-gzip, gzipped', undefined],
      [1_024, undefined, undefined],
    ] as const) {
      text = 'x'.repeat(length - '{"text":""}'.length)
      const [encoding, body] = await read(`${url}/routes`, accepted)
      assert.equal(encoding, expected, `${length} ${accepted}`)
      const json = encoding ? gunzipSync(body) : body
      assert.deepEqual(JSON.parse(json.toString()), { text })
    }
  })

  test('come from the history with the range, limits and events that the client sent', async (t) => {
    const { app, url } = await start(t)
    const history = app.fleet.history ?? assert.fail()
    const asked: unknown[] = []
    history.points = async (...given) => ({ stepMs: asked.push(given), points: [] })
    history.events = async (query) => {
      asked.push(query)
      return [{ id: '5-1', at: 5, kind: 'lost', text: 'x', entry: { host: 'h' } as never }]
    }
    history.post = async (event) => void asked.push(event)
    const json = async (query: string): Promise<unknown> => {
      const response = await fetch(`${url}/${query}`)
      assert.deepEqual([response.status, response.headers.get('cache-control')], [200, 'no-store'])
      return response.json()
    }
    for (const query of ['history', 'history?range=24h&since=9007199254740991']) await json(query)
    assert.deepEqual(await json('events'), { events: [{ id: '5-1', at: 5, kind: 'lost', text: 'x' }] })
    for (const query of ['events?limit=0', 'events?limit=500&before=7-2']) await json(query)
    const posted = { kind: 'killed', text: 'x', instance: 'b' }
    const response = await fetch(`${url}/events`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...posted, pool: 'p', at: 1, entry: { host: 'h' } }),
    })
    assert.deepEqual([response.status, response.headers.get('cache-control')], [202, 'no-store'])
    const { post } = history
    history.post = async () => {
      throw new FleetError('FLEET_ERR_STATE_UNAVAILABLE')
    }
    const lost = await app.inject({ method: 'POST', url: '/fleet/events', payload: posted })
    assert.equal(lost.statusCode, 503, 'an event that is not stored')
    history.post = post
    assert.deepEqual(asked, [
      ['15m', 0],
      ['24h', Number.MAX_SAFE_INTEGER],
      { before: undefined, limit: 100 },
      { before: undefined, limit: 1 },
      { before: '7-2', limit: 500 },
      { ...posted, version: undefined },
    ])
  })

  test('have all times by the clock of the history, and the database of the instance', async (t) => {
    const { app, url } = await start(t)
    Object.assign(app.fleet.history ?? {}, { now: () => Date.now() + 3_600_000 })
    const begun = Date.now()
    const { at, redis } = await (await fetch(`${url}/state`)).json()
    assert.ok(at >= begun + 3_600_000 && at <= Date.now() + 3_600_000, `${at}`)
    const sinceMs = redis.since - Date.parse(app.fleet.instance.startedAt)
    assert.ok(sinceMs >= 3_600_000 && redis.since <= at, `${sinceMs} ms`)
    app.fleet.survey = async () => [{ ...app.fleet.self(), checks: ['mail'], failing: ['mail'] }]
    const other = await start(t, {}, (own) => own.decorate('databaseState', () => ({ replicas: [] }) as never))
    const { database } = await (await fetch(`${other.url}/dependencies`)).json()
    assert.deepEqual(database, { replicas: [] })
    const { checks } = await (await fetch(`${url}/dependencies`)).json()
    assert.deepEqual(checks, [{ name: 'mail', critical: false, failing: ['shop-1'], instances: 1 }])
  })

  test('reject queries that they do not understand', async (t) => {
    const { url } = await start(t)
    for (const path of [
      'history?range=2h',
      'history?since=-1',
      'history?since=x',
      'history?since=9007199254740992',
      'events?before=1',
      'events?before=1-1&before=2-2',
      'events?limit=501',
      'events?limit=00000000000000001',
    ]) {
      const response = await fetch(`${url}/${path}`)
      const { code, message } = await response.json()
      assert.deepEqual([response.status, code], [400, 'FLEET_ERR_REQUEST_INVALID'], path)
      assert.match(message, new RegExp(`\`${/\?(\w+)/.exec(path)?.[1]}\``))
    }
    for (const range of ['15m', '1h', '24h'])
      assert.deepEqual((await (await fetch(`${url}/history?range=${range}&since=1`)).json()).points, [])
  })

  test('have no past with `history: false`, and nothing is counted', async (t) => {
    const { app, url } = await start(t, { history: false })
    for (const path of ['history', 'events', 'routes']) assert.equal((await fetch(`${url}/${path}`)).status, 404, path)
    const begun = Date.now()
    const { at, departed } = await (await fetch(`${url}/state`)).json()
    assert.deepEqual(departed, [])
    assert.ok(at >= begun && at <= Date.now(), `${at}`)
    assert.equal(app.hasDecorator('load') && app.load.listener, false)
    const { redis, database, checks } = await (await fetch(`${url}/dependencies`)).json()
    assert.deepEqual([redis, database, checks], [null, null, []])
  })
})

const peer = (id: string, more: Partial<Peer> = {}): Peer =>
  ({ id, startedAt: new Date(1_000).toISOString(), failing: [], degraded: [], checks: [], ...more }) as unknown as Peer

test('names the checks of all instances, failing ones first', () => {
  const checks = ['redis', 'database!']
  const peers = [
    peer('a', { checks, degraded: ['redis'] }),
    peer('b', { checks: [...checks, 'mail'], failing: ['database'], degraded: ['redis'] }),
    peer('old'),
  ]
  assert.deepEqual(checksOf(peers), [
    { name: 'redis', critical: false, failing: ['a', 'b'], instances: 2 },
    { name: 'database', critical: true, failing: ['b'], instances: 2 },
    { name: 'mail', critical: false, failing: [], instances: 1 },
  ])
})

test('reports the database as the instance sees it', () => {
  const pools = { states: [{ name: 'primary', max: 10, busy: 3, idle: 1, waiting: 2, refused: 0 }] }
  const router = {
    reads: { primary: 10, replicas: [20, 10] },
    set: {
      replicas: [
        { index: 0, healthy: true, lagMs: 5 },
        { index: 1, healthy: false, lagMs: 0 },
      ],
    },
  }
  const pool = { used: 3, waiting: 2, max: 10 }
  assert.deepEqual(databaseState('up', router as never, pools as never), {
    primary: { state: 'ok', pool },
    replicas: [
      { name: 'replica_1', state: 'ok', lagMs: 5, share: 0.5, pool: null },
      { name: 'replica_2', state: 'down', lagMs: 0, share: 0.25, pool: null },
    ],
  })
  for (const [status, state] of [
    ['degraded', 'degraded'],
    ['down', 'down'],
    ['pending', 'down'],
  ] as const)
    assert.deepEqual(databaseState(status, undefined, undefined), { primary: { state, pool: null }, replicas: [] })
})
