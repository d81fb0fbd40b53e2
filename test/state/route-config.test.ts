// What routes set in their `config`: mistakes end the boot, and each member works.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
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
    redis: url ? { url, ...patient, commandTimeoutMs: 500 } : { client: null },
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
