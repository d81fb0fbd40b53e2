// What routes set in their `config`: mistakes end the boot, what nothing reads is logged, and each member works.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import rateLimiter from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import { fleet } from '../../src/index.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { patient, patientApp } from './redis/patience.ts'

const secret = 's'.repeat(32)
const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

async function create(url?: string): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(fleet, {
    name: 'route-config',
    lifecycle: { signals: false },
    session: { secret, cookie: { secure: false } },
    jwt: false,
    redis: url ? { url, ...patient } : { client: null },
  })
  return app
}

const unknown = 'FLEET_ERR_OPTION_UNKNOWN'
const invalid = 'FLEET_ERR_OPTION_INVALID'
const mistakes: readonly (readonly [config: Record<string, unknown>, code: string, message: RegExp])[] = [
  [{ onOutage: 'allow' }, unknown, /`config\.onOutage` has no effect; use `config\.session\.onOutage`/],
  [{ session: { onOutage: 'alow' } }, invalid, /`config\.session\.onOutage` must be one of "reject", "allow".*"alow"/],
  [{ session: { outage: 'allow' } }, unknown, /`config\.session` has no option `outage`; it has `onOutage`/],
  [{ session: 'none' }, invalid, /`config\.session` must be true or false, or an object.*"none"/],
  [{ rateLimit: { onOutage: true } }, invalid, /`config\.rateLimit\.onOutage` must be one of.*true/],
  [{ rateLimit: { max: '5' } }, invalid, /`config\.rateLimit\.max` must be a whole number .*"5"/],
  [
    { rateLimit: { max: 5, timeWindow: 'soon' } },
    invalid,
    /`config\.rateLimit\.timeWindow` must be .*'1 minute'.*"soon"/,
  ],
  [{ rateLimit: { maximum: 5 } }, unknown, /`config\.rateLimit` has no option `maximum`; it has `max`/],
  [{ rateLimit: { max: 5, ban: 3 } }, invalid, /`rateLimit\.ban` .*not supported/],
  [{ rateLimit: true }, invalid, /`config\.rateLimit` must be one of false, or an object.*true/],
  [{ cache: { ttlMs: 1000, swr: 5 } }, unknown, /`config\.cache` has no option `swr`/],
  [{ cache: 60 }, invalid, /`config\.cache` must be one of false, or an object/],
  [{ cache: {} }, invalid, /`config\.cache` .*needs a `ttlMs`/],
  [{ idempotency: { require: true } }, unknown, /`config\.idempotency` has no option `require`; it has `required`/],
  [{ idempotency: 0 }, invalid, /`config\.idempotency` must be true or false, or an object/],
  [{ critical: 'yes' }, invalid, /`config\.critical` must be true or false.*"yes"/],
  [{ probe: 1 }, invalid, /`config\.probe` must be true or false/],
  [{ audience: 'operator' }, invalid, /`config\.audience` must be one of "probes", "operators".*"operator"/],
]

describe('a mistake in the config of a route ends the boot', () => {
  for (const [config, code, message] of mistakes)
    test(JSON.stringify(config), async () => {
      const app = await create()
      const boot = async (): Promise<void> => {
        await app.register(async (scope) => void scope.get('/own/:id', { config } as object, async () => 'own'))
        await app.ready()
      }
      await assert.rejects(boot, (error: Error & { code: string }) => {
        assert.equal(error.code, code)
        assert.match(error.message, message)
        assert.match(error.message, /GET \/own\/:id/)
        return true
      })
    })

  test('and members of other plugins, or none, do not', async () => {
    const app = await create()
    app.get('/', { config: { swagger: { hide: true }, cache: undefined } as object }, async () => 'own')
    app.get('/2', { config: { rateLimit: { max: 3, timeWindow: '2 min', ban: -1 } } }, async () => 'own')
    app.get('/3', { config: { rateLimit: { max: async () => 3, timeWindow: () => 60_000 } } }, async () => 'own')
    await app.ready()
    assert.equal((await app.inject('/2')).headers['ratelimit-limit'], '3')
  })
})

const asking = {
  rateLimit: { config: { rateLimit: { max: 1 } } },
  idempotency: { config: { idempotency: true } },
  httpCache: { config: { cache: { ttlMs: 1_000 } } },
} as const

describe('a member whose plugin', () => {
  const quiet = { lifecycle: { signals: false }, session: false, jwt: false } as const
  const without = {
    rateLimit: { rateLimit: false },
    idempotency: { idempotency: false },
    httpCache: { cache: false },
  } as const
  const lines: string[] = []
  function own(): FastifyInstance {
    const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => void lines.push(line) } } })
    apps.push(app)
    return app
  }

  const warnings = (): string[] =>
    lines
      .splice(0)
      .map((line) => (JSON.parse(line) as { msg: string }).msg)
      .filter((msg) => msg.includes('has no effect unless the app reads it itself'))

  for (const [name, route] of Object.entries(asking) as [keyof typeof asking, object][]) {
    test(`is not registered is in the log: ${name}`, async () => {
      for (const options of [without[name], { preset: 'core' as const }]) {
        const app = own()
        await app.register(fleet, { ...quiet, ...options })
        app.register(async (scope) => void scope.get('/own', route, async () => 'own'))
        await app.ready()
        const [warning = '', ...others] = warnings()
        assert.match(
          warning,
          new RegExp(`of route GET /own has no effect .*: the plugin \`${name}\` is not registered`),
        )
        assert.deepEqual(others, [])
        assert.equal((await app.inject('/own')).statusCode, 200)
      }
    })

    test(`is registered after the route is in the log, once: ${name}`, async () => {
      for (const early of [false, true]) {
        const app = own()
        const add = (): unknown => app.get('/own', route, async () => 'own')
        if (early) add()
        app.register(fleet, quiet)
        if (!early) add()
        app.get('/other', async () => 'other')
        const urls = ['/other', '/own', '/own']
        for (const url of urls) assert.equal((await app.inject(url)).statusCode, 200)
        const [warning = '', ...others] = warnings()
        assert.match(warning, /of route GET \/own has no effect .*: fleet was registered after the route/)
        assert.deepEqual(others, [])
      }
    })
  }

  test('is misspelled, or is beside config, is in the log', async () => {
    const app = own()
    await app.register(fleet, quiet)
    const config = { ratelimit: { max: 5 }, 'rate-limit': { max: 5 }, Session: false, theme: 'dark' }
    app.get('/own', { config, idempotency: true } as object, async () => 'own')
    await app.ready()
    const written = (text: string): string =>
      `${text.split(' -> ')[0]} of route GET /own has no effect unless the app reads it itself: fleet reads \`config.${text.split(' -> ')[1]}\``
    assert.deepEqual(
      warnings(),
      [
        '`idempotency` beside `config` -> idempotency',
        '`config.ratelimit` -> rateLimit',
        '`config.rate-limit` -> rateLimit',
        '`config.Session` -> session',
      ].map(written),
    )
  })

  test('is off may be left out by a route, or be the app’s own', async () => {
    const app = own()
    await app.register(fleet, { ...quiet, rateLimit: false, idempotency: false, cache: false })
    app.get('/none', { config: { rateLimit: false, idempotency: false, cache: false } }, async () => 'none')
    await app.register(rateLimiter, { global: false })
    app.get('/own', asking.rateLimit, async () => 'own')
    const statuses: number[] = []
    for (const url of ['/none', '/own', '/own']) statuses.push((await app.inject(url)).statusCode)
    assert.deepEqual(statuses, [200, 200, 429])
  })

  test('has an option for all routes warns of those before it', async () => {
    for (const [options, warns] of [
      [{ rateLimit: { max: 9 } }, /`rateLimit\.max` does not apply to the routes that were added before/],
      [{ idempotency: { global: true } }, /`idempotency\.global` does not apply/],
    ] as const) {
      const [late, first] = [own(), own()]
      lines.length = 0
      await first.register(fleet, { ...quiet, ...options })
      first.get('/other', async () => 'other')
      await first.ready()
      assert.ok(!lines.some((line) => warns.test(line)))
      late.get('/other', async () => 'other')
      await late.register(fleet, { ...quiet, ...options })
      assert.ok(lines.some((line) => warns.test(line)))
    }
  })
})

test('createRateLimit() and rateLimit() reject options that they would ignore', async () => {
  const app = await create()
  for (const name of ['createRateLimit', 'rateLimit'] as const) {
    const rejected = (options: object, code: string, message: RegExp): void =>
      assert.throws(() => app[name](options), { code, message })
    rejected({ maximum: 5 }, unknown, new RegExp(`\`${name}\` has no option \`maximum\`; it has \`max\``))
    rejected({ max: '5' }, invalid, new RegExp(`\`${name}\\.max\` must be a whole number`))
    rejected({ max: 5, timeWindow: 'soon' }, invalid, new RegExp(`\`${name}\\.timeWindow\` must be .*"soon"`))
    assert.equal(typeof app[name]({ max: 5, timeWindow: '1 minute' }), 'function')
    assert.equal(typeof app[name](), 'function')
  }
})

describe('while Redis is down, each route', () => {
  let server: RedisServer
  let app: FastifyInstance
  let cookie: string
  before(async () => {
    server = await startRedis()
    app = await create(server.url)
    for (const onOutage of ['reject', 'allow'] as const) {
      app.get(`/session/${onOutage}`, { config: { session: { onOutage } } }, async ({ session }) => ({
        user: (session as { userId?: string }).userId ?? null,
      }))
      app.post(`/save/${onOutage}`, { config: { session: { onOutage } } }, async ({ session }) => {
        ;(session as { userId?: string }).userId = 'a'
        return {}
      })
      app.get(`/limit/${onOutage}`, { config: { rateLimit: { max: 3, onOutage } } }, async () => ({}))
      app.post(`/key/${onOutage}`, { config: { idempotency: { onOutage } } }, async () => ({}))
    }
    app.get('/session/default', async () => ({}))
    const { headers, statusCode } = await app.inject({ method: 'POST', url: '/save/reject' })
    assert.equal(statusCode, 200)
    cookie = String(headers['set-cookie']).split(';')[0] as string
    const { body } = await app.inject({ url: '/session/reject', headers: { cookie } })
    assert.equal(body, '{"user":"a"}')
    await server.stop()
  })

  const status = async (method: 'GET' | 'POST', url: string, headers: object = {}): Promise<number> =>
    (await app.inject({ method, url, headers: { ...headers } })).statusCode

  test('serves without its session, or rejects', async () => {
    assert.equal((await app.inject({ url: '/session/allow', headers: { cookie } })).body, '{"user":null}')
    assert.equal(await status('GET', '/session/reject', { cookie }), 503)
    assert.equal(await status('GET', '/session/default', { cookie }), 503)
    assert.equal(await status('POST', '/save/allow'), 200)
    assert.equal(await status('POST', '/save/reject'), 503)
  })

  test('limits by its share, or rejects', async () => {
    const got = await Promise.all([1, 2, 3, 4].map(() => status('GET', '/limit/allow')))
    assert.deepEqual(got.sort(), [200, 200, 200, 429])
    assert.equal(await status('GET', '/limit/reject'), 503)
  })

  test('runs requests with a key unprotected, or rejects', async () => {
    const key = { 'idempotency-key': 'one' }
    assert.deepEqual([await status('POST', '/key/allow', key), await status('POST', '/key/reject', key)], [200, 503])
  })
})
