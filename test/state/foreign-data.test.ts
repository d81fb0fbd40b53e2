import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import cookie from '@fastify/cookie'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import { type FleetOptions, fleet } from '../../src/fleet.ts'
import { until } from '../helpers/until.ts'
import { ownRedis } from './own-redis.ts'
import { patient, patientApp } from './redis/patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

/** Values of any type that another application may write to any key. */
const junk: [what: string, put: (client: Redis, key: string) => Promise<unknown>][] = [
  ['text', (client, key) => client.set(key, 'junk')],
  ['an empty string', (client, key) => client.set(key, '')],
  ['JSON of another shape', (client, key) => client.set(key, '{"__proto__":{"polluted":1}}')],
  ['null', (client, key) => client.set(key, 'null')],
  ['a list', (client, key) => client.rpush(key, 'junk')],
  ['a hash', (client, key) => client.hset(key, 'junk', 'junk', '99999999999', '5', '1', 'nan')],
  ['a set', (client, key) => client.sadd(key, 'junk')],
  ['a sorted set', (client, key) => client.zadd(key, '+inf', 'junk')],
  ['a large number', (client, key) => client.set(key, '9'.repeat(400))],
]

let made = 0
/** Replaces a value of any type atomically. */
async function replace(
  client: Redis,
  key: string,
  put: (client: Redis, key: string) => Promise<unknown>,
): Promise<void> {
  const own = `junk-${made++}`
  await put(client, own)
  await client.rename(own, key)
}

describe('data in Redis that the fleet did not write', () => {
  const own = ownRedis()

  async function start(name: string, options: FleetOptions = {}): Promise<FastifyInstance> {
    const app = Fastify(patientApp)
    apps.push(app)
    await app.register(cookie)
    await app.register(fleet, {
      name,
      redis: { url: own.server.url, ...patient },
      session: { secret: 's'.repeat(32) },
      jwt: { secret: 'j'.repeat(32) },
      rateLimit: { max: 2 },
      lifecycle: { signals: false },
      ...options,
    })
    app.get('/visits', async (request) => {
      request.session.visits = (request.session.visits ?? 0) + 1
      return { visits: request.session.visits }
    })
    app.get('/cached', { config: { cache: { ttlMs: 60_000 }, rateLimit: false } }, async () => ({ fresh: true }))
    app.post('/pay', { config: { idempotency: true, rateLimit: false } }, async () => ({ paid: true }))
    app.get('/limited', async () => 'ok')
    await app.ready()
    return app
  }

  /** Replaces the value of every matching key of a fleet. @returns the number of keys */
  async function spoil(pattern: string, put: (client: Redis, key: string) => Promise<unknown>): Promise<number> {
    const keys = await until(async () => {
      const found = await own.client.keys(pattern)
      return found.length > 0 ? found : undefined
    })
    for (const key of keys) await replace(own.client, key, put)
    return keys.length
  }

  for (const [i, [what, put]] of junk.entries()) {
    test(`treats ${what} in place of a cached value, its tag or its lease as a miss`, async () => {
      const app = await start(`cache${i}`)
      let loads = 0
      const load = (): Promise<unknown> => app.cache.getOrSet('k', 60_000, async () => ++loads, { tags: ['t'] })
      for (const key of [`cache${i}:cache:{k}`, `cache${i}:cache-lease:{k}`, `cache${i}:cache-tag:{t}`]) {
        await app.cache.delete('k')
        assert.equal(await load(), loads)
        await replace(own.client, key, put)
        const other = await start(`cache${i}`)
        assert.ok(Number(await other.cache.getOrSet('k', 60_000, async () => loads, { tags: ['t'] })) >= 1)
        assert.equal(await other.cache.get('k'), loads)
        await until(async () => (await (await start(`cache${i}`)).cache.get('k')) === loads)
      }
    })

    test(`treats ${what} in place of a session or a user's list of sessions as absent`, async () => {
      const app = await start(`session${i}`, { rateLimit: false })
      const first = await app.inject('/visits')
      const sent = String(first.headers['set-cookie']).split(';', 1)[0]
      assert.ok((await spoil(`session${i}:session:*`, put)) > 0)
      const next = await app.inject({ url: '/visits', headers: { cookie: sent } })
      assert.deepEqual([next.statusCode, next.json()], [200, { visits: 1 }])
      await replace(own.client, `session${i}:user-sessions:{u}`, put)
      assert.deepEqual(await app.sessions.list('u'), [])
      assert.equal(await app.sessions.destroyAll('u'), 0)
    })

    test(`${what} in place of a token's session, a cut-off or the revocations blocks no user`, async () => {
      const app = await start(`jwt${i}`)
      const name = `jwt${i}`
      const { refreshToken } = await app.tokens.issue('u')
      assert.equal(await spoil(`${name}:jwt-session:*`, put), 1)
      await assert.rejects(app.tokens.refresh(refreshToken), { statusCode: 401 })
      await replace(own.client, `${name}:jwt-cutoff:{u}`, put)
      const pair = await app.tokens.issue('u')
      await app.tokens.verify(pair.accessToken)

      await replace(own.client, `${name}:jwt-revoked:{log}`, put)
      const other = await start(name)
      const { accessToken } = await other.tokens.issue('v')
      await other.tokens.revoke(accessToken)
      for (const each of [app, other])
        await until(() =>
          each.tokens.verify(accessToken).then(
            () => false,
            ({ code }) => code === 'FLEET_ERR_TOKEN_REVOKED',
          ),
        )
      const { accessToken: good } = await app.tokens.issue('w')
      await other.tokens.verify(good)
    })

    test(`${what} in place of a lock or its token blocks no caller`, async () => {
      const app = await start(`lock${i}`)
      const before = await app.fleet.lock('l', async (token) => token)
      await replace(own.client, `lock${i}:lock:{lock%20l}`, put)
      assert.ok((await app.fleet.lock('l', async (token) => token)) > before)
      await replace(own.client, `lock${i}:lock-token:{lock%20l}`, put)
      assert.ok((await app.fleet.lock('l', async (token) => token)) > before)
    })

    test(`${what} in place of a count does not change the limit`, async () => {
      const app = await start(`limit${i}`)
      await app.inject('/limited')
      assert.equal(await spoil(`limit${i}:limit:*`, put), 1)
      const codes = []
      for (let n = 0; n < 3; n++) codes.push((await app.inject('/limited')).statusCode)
      assert.deepEqual(codes, [200, 200, 429])
    })

    test(`treats ${what} in place of an idempotency record or a cached response as absent`, async () => {
      const app = await start(`http${i}`)
      const pay = () => app.inject({ method: 'POST', url: '/pay', headers: { 'idempotency-key': 'k' } })
      assert.equal((await pay()).statusCode, 200)
      assert.equal(await spoil(`http${i}:idempotency:*`, put), 1)
      const again = await pay()
      assert.deepEqual([again.statusCode, again.headers['idempotency-replayed']], [200, undefined])
      assert.equal((await app.inject('/cached')).statusCode, 200)
      assert.equal(await spoil(`http${i}:cache:{http*`, put), 1)
      const other = await start(`http${i}`)
      assert.deepEqual((await other.inject('/cached')).json(), { fresh: true })
    })
  }

  test('does not respond 500 for well-formed records that cannot be sent', async () => {
    const app = await start('content')
    const pay = () => app.inject({ method: 'POST', url: '/pay', headers: { 'idempotency-key': 'k' } })
    await pay()
    const [key = ''] = await own.client.keys('content:idempotency:*')
    const [head = ''] = String(await own.client.get(key)).split(' ', 1)
    const responses = [
      '{',
      'null',
      '[]',
      '{"status":99999,"headers":{},"body":""}',
      '{"status":200,"headers":null,"body":""}',
      '{"status":200,"headers":{"x":"a\\r\\nb"},"body":""}',
      '{"status":200,"headers":{"x y":"a"},"body":""}',
      '{"status":200,"headers":{},"body":{}}',
    ]
    for (const reply of responses) {
      await own.client.set(key, `${head} ${reply}`, 'PX', 60_000)
      assert.equal((await pay()).statusCode, 409)
    }
    await app.inject('/cached')
    const [cached = ''] = await own.client.keys('content:cache:{http*')
    for (const reply of responses) {
      await own.client.set(cached, `${'i'.repeat(16)} 0 {}\n${reply}`, 'PX', 60_000)
      const other = await start('content')
      assert.equal((await other.inject('/cached')).statusCode, 200, reply)
    }
    assert.equal(({} as { polluted?: number }).polluted, undefined)
  })

  test('treats a session whose cookie cannot be sent as absent', async () => {
    const app = await start('cookies', { rateLimit: false, session: { secret: 's'.repeat(32), touchAfterMs: 0 } })
    const sent = String((await app.inject('/visits')).headers['set-cookie']).split(';', 1)[0]
    const [key = ''] = await own.client.keys('cookies:session:*')
    const cookies = [
      '{"path":"/;x"}',
      '{"path":5}',
      '{"domain":"a b"}',
      '{"expires":"never"}',
      '{"sameSite":"x"}',
      '{"originalMaxAge":"x"}',
      '{"at":"x"}',
      '{"__proto__":{"path":"/"}}',
      '{}\n,"cookie":null',
      '{}\n,"cookie":"x"',
    ]
    for (const each of cookies) {
      await own.client.set(key, `{"cookie":${each}\n,"visits":7\n}`, 'PX', 60_000)
      const response = await app.inject({ url: '/visits', headers: { cookie: sent } })
      assert.deepEqual([response.statusCode, response.json()], [200, { visits: 1 }], each)
    }
    await own.client.set(key, '{"cookie":{}\n,"userId":[\n1]\n,"visits":7\n}', 'PX', 60_000)
    assert.equal((await app.inject({ url: '/visits', headers: { cookie: sent } })).statusCode, 200)
  })

  test('ignores an invalidation message that is not a list of keys', async () => {
    const app = await start('tracked', { rateLimit: false, session: { secret: 's'.repeat(32), track: true } })
    const sent = String((await app.inject('/visits')).headers['set-cookie']).split(';', 1)[0]
    for (const message of ['', 'x', '*1\r\n', 'tracked:session:{x}'])
      await own.client.publish('__redis__:invalidate', message)
    const next = await app.inject({ url: '/visits', headers: { cookie: sent } })
    assert.deepEqual(next.json(), { visits: 2 })
  })
})
