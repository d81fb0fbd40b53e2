import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import { FleetError, type FleetErrorCode } from '../../../src/base/errors.ts'
import { identity } from '../../../src/instance/identity.ts'
import { authentication, perUser, type RateLimitOptions, rateLimit } from '../../../src/state/rate-limit/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { session } from '../../../src/state/session/index.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp } from '../redis/patience.ts'

const apps: FastifyInstance[] = []
let names = 0
after(() => Promise.all(apps.map((app) => app.close())))
const code = (expected: FleetErrorCode) => (error: unknown) => error instanceof FleetError && error.code === expected

interface Place {
  url?: string
  commandTimeoutMs?: number
  name?: string
  peers?: number
}

async function build(
  options: RateLimitOptions,
  { url, name = `limits-${names++}`, peers, commandTimeoutMs = 20_000 }: Place = {},
) {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { name })
  await app.register(redis, url ? { url, ...patient, commandTimeoutMs } : { client: null })
  await app.register(rateLimit, options)
  if (peers) app.fleet.peers = () => Array.from({ length: peers }, () => app.fleet.self())
  app.decorateRequest('user', null as never)
  const handler = async () => ({ ok: true })
  app.get('/', handler)
  app.get('/free', { config: { rateLimit: false } }, handler)
  app.get('/own', { config: { rateLimit: { max: 2, timeWindow: 60_000 } } }, handler)
  app.get('/share', { config: { rateLimit: { max: 6, timeWindow: 60_000, scope: 'instance' } } }, handler)
  app.post('/login', { config: { rateLimit: authentication(3) } }, handler)
  app.post('/register', { config: { rateLimit: authentication(3) } }, handler)
  app.get('/mine', {
    config: { rateLimit: perUser(2) },
    preHandler: async (request) => {
      const { user } = request.headers
      if (user) (request as { user: unknown }).user = { sub: user }
    },
    handler,
  })
  return app
}

const statuses = async (app: FastifyInstance, times: number, request: InjectOptions | string): Promise<number[]> => {
  const got: number[] = []
  for (let n = 0; n < times; n++) got.push((await app.inject(request as InjectOptions)).statusCode)
  return got
}
const admitted = (got: number[]): number => {
  assert.deepEqual(
    got.filter((status) => status !== 200 && status !== 429),
    [],
  )
  return got.filter((status) => status === 200).length
}

describe('one instance in memory', () => {
  test('limits only routes that set a limit', async () => {
    const app = await build({})
    assert.equal(app.fleet.facts.limitStore, 'memory')
    const response = await app.inject('/')
    assert.ok(!Object.keys(response.headers).some((name) => name.startsWith('ratelimit')))
    assert.equal(admitted(await statuses(app, 5, '/own')), 2)
  })

  test('rejects with 429, a code and Retry-After', async () => {
    const app = await build({ max: 2 })
    const { headers } = await app.inject('/')
    assert.deepEqual([headers['ratelimit-limit'], headers['ratelimit-remaining']], ['2', '1'])
    assert.ok(Number(headers['ratelimit-reset']) > 0)
    await app.inject('/')
    const rejected = await app.inject('/')
    assert.equal(rejected.statusCode, 429)
    assert.equal(rejected.json().code, 'FLEET_ERR_RATE_LIMITED')
    assert.ok(Number(rejected.headers['retry-after']) >= 54 && Number(rejected.headers['retry-after']) <= 66)
    assert.equal(rejected.headers['ratelimit-remaining'], '0')
    assert.equal(admitted(await statuses(app, 5, '/free')), 5)
    assert.equal(admitted(await statuses(app, 5, '/own')), 2)
  })

  test('sends no headers before the limit with `headers: false`', async () => {
    const app = await build({ max: 1, headers: false })
    assert.equal((await app.inject('/')).headers['ratelimit-limit'], undefined)
    assert.equal((await app.inject('/')).headers['ratelimit-limit'], '1')
  })

  test('limits per client; an IPv6 network is one client', async () => {
    const app = await build({ max: 1, allow: ['192.0.2.0/24'] })
    const from = async (remoteAddress: string) => (await app.inject({ url: '/', remoteAddress })).statusCode
    const got: number[] = []
    for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.1', '::ffff:10.0.0.3', '10.0.0.3'])
      got.push(await from(address))
    for (const address of ['2001:db8:1:2::1', '2001:db8:1:2:3::4', '2001:db8:1:3::1']) got.push(await from(address))
    for (const address of ['192.0.2.1', '192.0.2.1']) got.push(await from(address))
    assert.deepEqual(got, [200, 200, 429, 200, 429, 200, 429, 200, 200, 200])
  })

  test('counts HEAD and GET as one route, and the routes of a group together', async () => {
    const app = await build({})
    assert.equal(admitted(await statuses(app, 1, { method: 'HEAD', url: '/own' })), 1)
    assert.equal(admitted(await statuses(app, 2, '/own')), 1)
    assert.equal(admitted(await statuses(app, 2, { method: 'POST', url: '/login' })), 2)
    assert.equal(admitted(await statuses(app, 2, { method: 'POST', url: '/register' })), 1)
  })

  test('perUser limits a user across addresses', async () => {
    const app = await build({})
    const as = (user: string | undefined, remoteAddress: string): InjectOptions => ({
      url: '/mine',
      remoteAddress,
      headers: user ? { user } : {},
    })
    assert.equal(admitted(await statuses(app, 2, as('ann', '10.0.0.1'))), 2)
    assert.equal(admitted(await statuses(app, 2, as('ann', '10.0.0.2'))), 0)
    assert.equal(admitted(await statuses(app, 2, as('bob', '10.0.0.1'))), 2)
    assert.equal(admitted(await statuses(app, 3, as(undefined, '10.0.0.1'))), 2)
  })

  test('rejects invalid options at boot', async () => {
    await assert.rejects(build({ max: 0 }), code('FLEET_ERR_OPTION_INVALID'))
    await assert.rejects(build({ allow: ['here'] }), code('FLEET_ERR_OPTION_INVALID'))
    await assert.rejects(build({ redis: {} } as RateLimitOptions), code('FLEET_ERR_OPTION_UNKNOWN'))
    const app = await build({})
    for (const odd of [{ ban: 1 }, { continueExceeding: true }, { exponentialBackoff: true }])
      assert.throws(
        () => app.get('/odd', { config: { rateLimit: { max: 1, ...odd } } }, async () => 1),
        code('FLEET_ERR_OPTION_INVALID'),
      )
  })

  test('supports createRateLimit()', async () => {
    const app = await build({})
    const check = app.createRateLimit({ max: 1, timeWindow: 60_000 })
    app.get('/hand', async (request) => [
      await check(request, { increment: false }),
      await check(request),
      await check(request),
    ])
    const looks = (await app.inject('/hand')).json() as { isExceeded: boolean; remaining: number }[]
    assert.deepEqual(
      looks.map(({ isExceeded, remaining }) => [isExceeded, remaining]),
      [
        [false, 1],
        [false, 0],
        [true, 0],
      ],
    )
  })
})

describe('independent limits', () => {
  const own = (app: FastifyInstance) => {
    const [sms, search] = [app.createRateLimit({ max: 2 }), app.createRateLimit({ max: 100 })]
    app.get('/sms', async (request) => sms(request))
    app.get('/search', async (request) => search(request))
    app.get('/a', { preHandler: app.rateLimit({ max: 2 }) }, async () => 1)
    app.get('/b', { preHandler: app.rateLimit({ max: 100 }) }, async () => 1)
  }

  test('counts limiters without a group separately', async () => {
    const app = await build({})
    own(app)
    await statuses(app, 5, '/search')
    await statuses(app, 5, '/b')
    assert.equal((await app.inject('/sms')).json().isExceeded, false)
    assert.equal(admitted(await statuses(app, 5, '/a')), 2)
    assert.equal(admitted(await statuses(app, 5, '/b')), 5)
  })

  test('counts the same limiter of two instances together', async () => {
    const { url } = await startRedis()
    const place = { url, name: 'limiters' }
    const [a, b] = await Promise.all([build({}, place), build({}, place)])
    own(a)
    own(b)
    await statuses(a, 5, '/b')
    assert.equal(admitted([...(await statuses(a, 2, '/a')), ...(await statuses(b, 2, '/a'))]), 2)
  })

  test('counts limiters with the same group together', async () => {
    const app = await build({})
    const limiter = () => app.rateLimit({ max: 2, groupId: 'codes' })
    app.get('/one', { preHandler: limiter() }, async () => 1)
    app.get('/two', { preHandler: limiter() }, async () => 1)
    assert.equal(admitted([...(await statuses(app, 2, '/one')), ...(await statuses(app, 2, '/two'))]), 2)
  })

  test('counts routes of one path with different constraints separately', async () => {
    const app = await build({})
    for (const version of ['1.0.0', '2.0.0'])
      app.get('/v', { constraints: { version }, config: { rateLimit: { max: 2 } } }, async () => version)
    for (const version of ['1.x', '2.x'])
      assert.equal(admitted(await statuses(app, 3, { url: '/v', headers: { 'accept-version': version } })), 2)
  })

  test('counts two registrations of the plugin separately', async () => {
    const app = Fastify()
    apps.push(app)
    await app.register(identity, { name: 'twice' })
    await app.register(redis, { client: null })
    for (const url of ['/first', '/second'])
      await app.register(async (child) => {
        await child.register(rateLimit, { max: 2 })
        child.get(url, async () => 1)
      })
    for (const url of ['/first', '/second']) assert.equal(admitted(await statuses(app, 3, url)), 2)
  })
})

describe('the key of a client', () => {
  test('is the IPv6 network, for limits per user and per client', async () => {
    const app = await build({ ipv6Subnet: 56 })
    const from = (remoteAddress: string) => statuses(app, 1, { url: '/mine', remoteAddress })
    const got: number[] = []
    for (let n = 1; n <= 9; n++) got.push(...(await from(`2001:db8:1:${n}::${n}`)))
    assert.equal(admitted(got), 2)
    assert.equal(admitted(await from('2001:db8:1:100::1')), 1)
  })

  test('is the forwarded address behind a proxy in TRUST_PROXY, without Fastify’s own trustProxy', async () => {
    const app = Fastify()
    apps.push(app)
    await app.register(identity, { name: 'behind', trustProxy: ['loopback'] })
    await app.register(redis, { client: null })
    await app.register(rateLimit, { max: 1, allow: ['203.0.113.9'] })
    app.get('/', async () => 1)
    const as = (client: string, times: number) =>
      statuses(app, times, { url: '/', headers: { 'x-forwarded-for': client } })
    assert.deepEqual(await as('203.0.113.1', 2), [200, 429])
    assert.deepEqual(await as('203.0.113.2', 2), [200, 429])
    assert.deepEqual(await as('203.0.113.9', 3), [200, 200, 200])
    assert.deepEqual(await as('6.6.6.6, 203.0.113.2', 1), [429])
    assert.deepEqual([...(await as('made-up', 1)), ...(await as('made-up-too', 1))], [200, 429])
  })

  test('is the user in the session field that `session.userId` names', async () => {
    const app = Fastify()
    apps.push(app)
    await app.register(identity, { name: 'field' })
    await app.register(redis, { client: null })
    await app.register(session, { secret: 'x'.repeat(32), userId: 'account', cookie: { secure: false } })
    await app.register(rateLimit)
    app.get('/in', async (request) => {
      request.session.account = (request.query as { as: string }).as
      return 'in'
    })
    app.get('/mine', { config: { rateLimit: perUser(2) } }, async () => 1)
    const login = async (as: string) => {
      const cookie = String((await app.inject(`/in?as=${as}`)).headers['set-cookie']).split(';')[0] ?? ''
      return { url: '/mine', headers: { cookie } }
    }
    const ann = [await login('ann'), await login('ann')]
    const got = [...(await statuses(app, 2, ann[0] as object)), ...(await statuses(app, 2, ann[1] as object))]
    assert.equal(admitted(got), 2)
    assert.equal(admitted(await statuses(app, 2, await login('bob'))), 2)
  })
})

describe('a fleet', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedis()
  })

  test('counts requests of all instances exactly', async () => {
    const place = { url: server.url, name: 'together' }
    const fleet = await Promise.all([1, 2, 3].map(() => build({ max: 50 }, place)))
    assert.equal(fleet[0]?.fleet.facts.limitStore, 'redis')
    const requests = Array.from({ length: 150 }, (_, n) => fleet[n % 3]?.inject('/'))
    const got = (await Promise.all(requests)).map((response) => response?.statusCode ?? 0)
    assert.equal(admitted(got), 50)
    const [a, b] = fleet as [FastifyInstance, FastifyInstance]
    assert.equal(admitted([...(await statuses(a, 2, '/own')), ...(await statuses(b, 2, '/own'))]), 2)
  })

  test('sends no Redis command for unlimited routes and for `scope: instance`', async () => {
    const app = await build({}, { url: server.url, peers: 3 })
    await app.ready()
    const calls = async () => /cmdstat_(eval|evalsha):/.test((await app.redis?.info('commandstats')) ?? '')
    await app.redis?.config('RESETSTAT')
    assert.equal(admitted(await statuses(app, 5, '/')), 5)
    assert.equal(admitted(await statuses(app, 5, '/share')), 2)
    assert.equal(await calls(), false)
    await statuses(app, 1, '/own')
    assert.equal(await calls(), true)
  })

  test('enforces the share of an instance without Redis, and the whole limit when it is back', async () => {
    const own = await startRedis()
    const app = await build({ max: 30 }, { url: own.url, peers: 3 })
    assert.equal(admitted(await statuses(app, 12, '/')), 12)
    await own.kill('SIGKILL')
    await until(() => app.redis?.status !== 'ready')
    const response = await app.inject('/')
    assert.deepEqual([response.headers['ratelimit-limit'], response.headers['ratelimit-remaining']], ['30', '9'])
    assert.equal(admitted(await statuses(app, 20, '/')), 9)
    assert.equal(admitted(await statuses(app, 5, { url: '/', remoteAddress: '10.0.0.9' })), 5)
    await own.restart()
    await until(() => app.redis?.ping())
    assert.equal(admitted(await statuses(app, 1, '/')), 1)
  })

  test('responds in time and enforces limits while Redis is suspended', async () => {
    const own = await startRedis()
    const app = await build({ max: 10 }, { url: own.url, peers: 5, commandTimeoutMs: 200 })
    await app.ready()
    await own.kill('SIGSTOP')
    const responses = await Promise.all(Array.from({ length: 10 }, () => app.inject('/')))
    assert.equal(admitted(responses.map(({ statusCode }) => statusCode)), 2)
    await own.kill('SIGCONT')
  })

  test('rejects limited requests with 503 without Redis and with `onOutage: reject`', async () => {
    const own = await startRedis()
    const app = await build({ max: 30, onOutage: 'reject' }, { url: own.url })
    assert.equal(admitted(await statuses(app, 1, '/')), 1)
    await own.kill('SIGKILL')
    await until(() => app.redis?.status !== 'ready')
    const response = await app.inject('/')
    assert.equal(response.statusCode, 503)
    assert.equal(response.json().code, 'FLEET_ERR_STATE_UNAVAILABLE')
    assert.equal(admitted(await statuses(app, 1, '/free')), 1)
    assert.equal(admitted(await statuses(app, 1, '/share')), 1)
  })
})
