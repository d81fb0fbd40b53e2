import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { errorResponses } from '../../../src/instance/error-responses.ts'
import { identity } from '../../../src/instance/identity.ts'
import { type IdempotencyOptions, idempotency } from '../../../src/state/idempotency/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { session } from '../../../src/state/session/index.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { patient, patientApp } from '../redis/patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

let calls = 0
const on = { config: { idempotency: true } }

async function build(options: IdempotencyOptions = {}, url?: string): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(errorResponses)
  await app.register(identity, { name: `scopes-${apps.length}`, trustProxy: ['loopback'] })
  await app.register(redis, url ? { url, ...patient } : { client: null })
  await app.register(session, { secret: 'x'.repeat(32), userId: 'account', cookie: { secure: false } })
  await app.register(idempotency, options)
  const authenticate = async (request: { headers: Record<string, unknown> }) => {
    const { token } = request.headers
    if (token) Object.assign(request, { user: { sub: token } })
  }
  app.post('/orders', { ...on, preHandler: authenticate }, async () => ({ order: ++calls }))
  app.post('/cart', on, async (request) => {
    request.session.cart = (request.session.cart ?? 0) + 1
    return { order: ++calls, of: request.session.sessionId }
  })
  app.post<{ Body: { as: string } }>('/login', on, async (request) => {
    await request.session.regenerate()
    request.session.account = request.body.as
    return { login: ++calls }
  })
  app.post('/logout', on, async (request) => {
    await request.session.destroy()
    return { logout: ++calls }
  })
  app.post('/headers', on, async (_, reply) => reply.header('x-long', 'x'.repeat(20_000)).send({ order: ++calls }))
  return app
}

type Sent = { headers?: Record<string, string>; from?: string; body?: object }

/** Sends a POST with the key. @returns whether the response is a replay */
async function post(app: FastifyInstance, url: string, key: string, { headers = {}, from, body = {} }: Sent = {}) {
  const response = await app.inject({
    method: 'POST',
    url,
    payload: body,
    headers: { 'idempotency-key': key, ...(from && { 'x-forwarded-for': from }), ...headers },
  })
  const cookie = [response.headers['set-cookie'] ?? []].flat().at(-1)?.split(';')[0]
  const replayed = response.headers['idempotency-replayed'] === 'true'
  return { status: response.statusCode, body: response.json(), replayed, cookie }
}

function scopes(name: string, place: () => string | undefined): void {
  describe(name, () => {
    let app: FastifyInstance
    before(async () => {
      app = await build({ credentialHeaders: ['X-Tenant-Secret'] }, place())
    })

    /** Asserts that the first two requests are one caller and the others are not. */
    async function same(one: Sent, again: Sent, ...others: Sent[]) {
      const key = randomUUID()
      const first = await post(app, '/orders', key, one)
      assert.equal(first.status, 200)
      assert.deepEqual((await post(app, '/orders', key, again)).body, first.body)
      for (const other of others) {
        const { replayed, body } = await post(app, '/orders', key, other)
        assert.equal(replayed, false, JSON.stringify(other))
        assert.notDeepEqual(body, first.body)
      }
    }

    test('a key belongs to the user at every address', () =>
      same(
        { headers: { token: 'ann' }, from: '203.0.113.1' },
        { headers: { token: 'ann', authorization: 'Bearer new' }, from: '203.0.113.2' },
        { headers: { token: 'eve' }, from: '203.0.113.1' },
        { from: '203.0.113.1' },
      ))

    for (const header of ['authorization', 'x-api-key', 'x-tenant-secret'])
      test(`a key belongs to the ${header} header without a known user`, () =>
        same(
          { headers: { [header]: 'a=1' }, from: '203.0.113.1' },
          { headers: { [header]: 'a=1' }, from: '203.0.113.2' },
          { headers: { [header]: 'a=2' }, from: '203.0.113.1' },
          { headers: { cookie: 'a=1' }, from: '203.0.113.1' },
          { from: '203.0.113.1' },
        ))

    test('a key belongs to the client without user and credentials', () =>
      same(
        { from: '2001:db8:1:2::1' },
        { from: '2001:db8:1:2::2' },
        { from: '2001:db8:1:3::1' },
        { from: '203.0.113.1' },
      ))

    test('cookies separate clients and never merge them', () =>
      same(
        { headers: { cookie: 'consent=yes' }, from: '203.0.113.1' },
        { headers: { cookie: 'consent=yes' }, from: '203.0.113.1' },
        { headers: { cookie: 'consent=no' }, from: '203.0.113.1' },
        { headers: { cookie: 'consent=yes' }, from: '203.0.113.2' },
        { from: '203.0.113.1' },
      ))

    test('an invalid session cookie counts as any other cookie', async () => {
      const ann = (await post(app, '/cart', randomUUID())).cookie as string
      const id = ann.slice(0, ann.lastIndexOf('.'))
      for (const cookie of [`${id}.forged`, 'fleet.sid=undefined'])
        await same(
          { headers: { cookie }, from: '203.0.113.1' },
          { headers: { cookie }, from: '203.0.113.1' },
          { headers: { cookie }, from: '203.0.113.2' },
          { headers: { cookie: ann }, from: '203.0.113.1' },
        )
    })

    test('a key belongs to the session regardless of other cookies', async () => {
      const [ann, eve] = [
        (await post(app, '/cart', randomUUID())).cookie,
        (await post(app, '/cart', randomUUID())).cookie,
      ]
      assert.ok(ann && eve && ann !== eve)
      await same({ headers: { cookie: ann } }, { headers: { cookie: `_ga=1; ${ann}` } }, { headers: { cookie: eve } })
    })

    test('a key belongs to the user in the session field that `session.userId` names', async () => {
      const login = async (as: string) => (await post(app, '/login', randomUUID(), { body: { as } })).cookie as string
      const [phone, laptop, eve] = [await login('ann'), await login('ann'), await login('eve')]
      await same({ headers: { cookie: phone } }, { headers: { cookie: laptop } }, { headers: { cookie: eve } })
    })

    test('a guest does not get the response that started the session of another guest at the same address', async () => {
      const key = randomUUID()
      const first = await post(app, '/cart', key)
      const done = calls
      const other = await post(app, '/cart', key)
      assert.notEqual(first.cookie, undefined)
      assert.deepEqual([other.status, other.body.code], [409, 'FLEET_ERR_IDEMPOTENCY_ANSWER_LOST'])
      assert.equal(calls, done)
      // The guest with the cookie gets the response again.
      const again = await post(app, '/cart', key, { headers: { cookie: first.cookie as string } })
      assert.deepEqual([again.body, again.replayed, calls], [first.body, true, done])
    })

    test('a request that logs in or out runs once, with the old and the new cookie', async () => {
      const anonymous = (await post(app, '/cart', randomUUID())).cookie as string
      const [login, body] = [randomUUID(), { as: randomUUID() }]
      const first = await post(app, '/login', login, { headers: { cookie: anonymous }, body })
      for (const cookie of [anonymous, first.cookie as string])
        assert.deepEqual((await post(app, '/login', login, { headers: { cookie }, body })).body, first.body)
      const logout = randomUUID()
      const headers = { cookie: first.cookie as string }
      const out = await post(app, '/logout', logout, { headers })
      assert.deepEqual((await post(app, '/logout', logout, { headers })).body, out.body)
    })

    test('the option `scope` overrides everything else', async () => {
      const own = await build({ scope: ({ headers }) => String(headers['x-tenant']) }, place())
      const as = (tenant: string, key: string, authorization: string) =>
        post(own, '/orders', key, { headers: { 'x-tenant': tenant, authorization } })
      const key = randomUUID()
      const first = await as('acme', key, 'a')
      assert.deepEqual((await as('acme', key, 'b')).body, first.body)
      assert.equal((await as('globex', key, 'a')).replayed, false)
    })

    test('rejects a scope that is not a non-empty string', async () => {
      for (const odd of [undefined, '', 7, Promise.resolve('a'), {}]) {
        const own = await build({ scope: () => odd as string }, place())
        const { status, body } = await post(own, '/orders', randomUUID())
        assert.deepEqual([status, body.code], [500, 'FLEET_ERR_OPTION_INVALID'])
      }
    })

    test('limits a client to `maxKeys` records per hour regardless of its credentials', async () => {
      const own = await build({ maxKeys: 3 }, place())
      const add = async (headers: Record<string, string> = {}, from = '203.0.113.1') =>
        (await post(own, '/orders', randomUUID(), { headers, from })).status
      const done = calls
      const made: number[] = []
      for (let n = 0; n < 6; n++) made.push(await add({ 'x-api-key': `${n}`, cookie: `a=${n}` }))
      assert.deepEqual(made, [200, 200, 200, 429, 429, 429])
      assert.equal(calls, done + 3)
      assert.equal(await add({ token: 'ann' }), 200)
      assert.equal(await add({}, '203.0.113.2'), 200)
    })

    test('does not store a response with very long headers', async () => {
      const key = randomUUID()
      assert.equal((await post(app, '/headers', key)).status, 200)
      assert.equal((await post(app, '/headers', key)).body.code, 'FLEET_ERR_IDEMPOTENCY_ANSWER_LOST')
    })
  })
}

let server: RedisServer
before(async () => {
  server = await startRedis()
})
scopes('in memory', () => undefined)
scopes('in Redis', () => server.url)

test('every record in Redis has an expiry and a short key', async () => {
  const app = await build({ maxKeys: 3 }, server.url)
  for (let n = 0; n < 5; n++)
    await post(app, '/cart', `${n}`.repeat(255), { headers: { authorization: 'x'.repeat(8_000) } })
  const client = new Redis(server.url)
  const keys = await client.keys(`*${app.fleet.name}*`)
  assert.ok(keys.length >= 4)
  for (const key of keys) {
    assert.ok(key.length < 200, key)
    assert.ok((await client.pttl(key)) > 0, key)
  }
  client.disconnect()
})

test('rejects invalid names in credentialHeaders', async () => {
  await assert.rejects(build({ credentialHeaders: ['a b'] }), { code: 'FLEET_ERR_OPTION_INVALID' })
  await assert.rejects(build({ maxKeys: 0 }), { code: 'FLEET_ERR_OPTION_INVALID' })
})

test('a body that is nested too deeply to be serialized again gets a 400', async () => {
  const app = await build()
  const { statusCode, body } = await app.inject({
    method: 'POST',
    url: '/orders',
    payload: `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
    headers: { 'idempotency-key': randomUUID(), 'content-type': 'application/json' },
  })
  assert.equal(statusCode, 400)
  assert.match(body, /FLEET_ERR_REQUEST_INVALID/)
})
