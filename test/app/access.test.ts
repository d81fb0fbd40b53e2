import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { signedIn, userIdOf, userOf } from '../../src/app/access.ts'
import { build } from '../../src/app/build.ts'
import { ConnectionLimits, TokenBucket } from '../../src/app/connection-limits.ts'
import { FleetError } from '../../src/index.ts'

const request = (given: { authorization?: string; session?: object; user?: object }): FastifyRequest =>
  ({
    headers: { authorization: given.authorization },
    session: given.session ?? {},
    user: given.user,
  }) as FastifyRequest

describe('access', () => {
  /** Whether the token of the request is verified. */
  const verifies = async (given: Parameters<typeof request>[0]): Promise<boolean> => {
    const verified: unknown[] = []
    const app = { authenticate: async (of: unknown) => void verified.push(of) } as unknown as FastifyInstance
    await signedIn.call(app, request(given), {} as FastifyReply)
    return verified.length === 1
  }

  it('is by session without a token; a token that was sent is verified in any case', async () => {
    assert.equal(await verifies({ session: { userId: 'a' } }), false)
    assert.equal(await verifies({ session: { userId: 'a' }, authorization: 'Bearer x' }), true)
    assert.equal(await verifies({ session: { userId: 'a' }, authorization: '' }), true)
    assert.equal(await verifies({}), true)
  })

  it('belongs to the user of the token, else of the session', () => {
    assert.equal(userIdOf(request({ user: { sub: 'b' }, session: { userId: 'a' } })), 'b')
    assert.equal(userIdOf(request({ session: { userId: 'a' } })), 'a')
    assert.throws(() => userIdOf(request({})), { code: 'FLEET_ERR_TOKEN_MISSING' })
  })

  it('reads the user by this id, cached for 30 seconds and while the database fails for five minutes', async () => {
    const asked: unknown[] = []
    const app = (found: boolean) =>
      ({
        cache: {
          getOrSet: async (key: string, ttl: number, load: () => Promise<unknown>, options: object) => {
            asked.push([key, ttl, options])
            return load()
          },
        },
        data: { users: { get: async (id: string) => (found ? { id } : undefined) } },
      }) as unknown as FastifyInstance
    assert.deepEqual(await userOf(app(true), request({ session: { userId: 'a' } })), { id: 'a' })
    assert.deepEqual(asked, [['user:a', 30_000, { staleIfErrorMs: 300_000 }]])
    await assert.rejects(userOf(app(false), request({ session: { userId: 'a' } })), { code: 'FLEET_ERR_LOGIN_FAILED' })
  })
})

describe('connections', () => {
  it('are limited per client and in all, and a release counts once', () => {
    const limits = new ConnectionLimits({ perClient: 2, all: 3 })
    const rejects = (client: string): void =>
      assert.throws(() => limits.acquire(client), { code: 'FLEET_ERR_RATE_LIMITED', headers: { 'retry-after': '10' } })
    const [first, second] = [limits.acquire('a'), limits.acquire('a')]
    rejects('a')
    limits.check('b')
    const third = limits.acquire('b')
    rejects('c')
    first()
    first()
    limits.acquire('a')
    rejects('c')
    for (const release of [second, third]) release()
    limits.check('a')
    limits.acquire('c')
    limits.acquire('c')
    rejects('d')
  })

  it('may send a burst, then a number of messages per second', (t) => {
    let now = 0
    t.mock.method(performance, 'now', () => now)
    const bucket = new TokenBucket(3, 2)
    const taken = (): number => {
      let count = 0
      while (count < 10 && bucket.take()) count++
      return count
    }
    assert.equal(taken(), 3)
    now = 499
    assert.equal(taken(), 0)
    now = 500
    assert.equal(taken(), 1)
    now = 2_000
    assert.equal(taken(), 3)
    now = 1_000_000
    assert.equal(taken(), 3, 'no more than a burst is saved up')
  })
})

describe('the routes', () => {
  let app: FastifyInstance
  let tokens: { accessToken: string; refreshToken: string }
  before(async () => {
    app = await build({ logger: false, fleet: { redis: { client: null }, lifecycle: { signals: false } } })
    tokens = (await send('POST', '/auth/login', { email: 'test@example.com', password: 'password' }, {})).json()
  })
  after(() => app.close())
  type Headers = Record<string, string>
  const send = (
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    path: string,
    payload?: object,
    headers: Headers = { authorization: `Bearer ${tokens.accessToken}` },
  ) => app.inject({ method, url: `/api/v1${path}`, payload, headers })
  const kettle = { sku: 'K', name: 'Kettle', priceCents: 1 }

  it('of an account, and those that change products, need a login', async () => {
    const path = `/products/${(await send('GET', '/products?limit=1')).json().products[0].id}`
    const before = (await send('GET', path)).json()
    const statuses = [
      ...[await send('GET', '/me', undefined, {}), await send('GET', '/dashboard', undefined, {})],
      ...[await send('POST', '/auth/logout', undefined, {}), await send('POST', '/products', kettle, {})],
      ...[await send('PATCH', path, { stock: 1 }, {}), await send('DELETE', path, undefined, {})],
    ].map(({ statusCode }) => statusCode)
    assert.deepEqual(statuses, Array(6).fill(401))
    const { statusCode, json } = await send('GET', '/dashboard')
    assert.deepEqual([statusCode, json().user.email], [200, 'test@example.com'], 'by token')
    assert.deepEqual(await app.data.products.get(before.id), before)
  })

  it('cache each page of the products by its start and its length', async () => {
    const names = async (query: string): Promise<string[]> =>
      (await send('GET', `/products?${query}`)).json().products.map(({ sku }: { sku: string }) => sku)
    const after = (await send('GET', '/products?limit=1')).json().next
    assert.deepEqual(
      [await names('limit=1'), await names('limit=2'), await names(`limit=1&after=${after}`)],
      [['TEA-01'], ['TEA-01', 'TEA-02'], ['TEA-02']],
    )
  })

  it('invalidate what is cached of a product after they changed it, in the same case', async (t) => {
    const steps: string[] = []
    for (const name of ['create', 'update', 'delete'] as const) {
      const change = app.data.products[name] as (...given: unknown[]) => Promise<unknown>
      t.mock.method(app.data.products, name, (async (...given: unknown[]) => {
        const result = await change(...given)
        steps.push(name)
        return result
      }) as never)
    }
    for (const name of ['getOrSet', 'delete', 'deleteByTag'] as const) {
      const original = app.cache[name].bind(app.cache) as (...given: unknown[]) => unknown
      t.mock.method(app.cache, name, ((key: string, ...rest: unknown[]) => {
        steps.push(`${name} ${key}`)
        return original(key, ...rest)
      }) as never)
    }
    const { id } = (await send('POST', '/products', kettle)).json()
    const upper = `/products/${id.toUpperCase()}`
    await send('PATCH', `/products/${id}`, { stock: 1 })
    await send('GET', upper)
    await send('DELETE', `/products/${id}`)
    const forgotten = [`delete product:${id}`, 'deleteByTag products']
    assert.deepEqual(steps, [
      ...['create', 'deleteByTag products', 'update', ...forgotten],
      ...[`getOrSet product:${id}`, 'delete', ...forgotten],
    ])
  })

  it('show each user their own account, also beside what is cached for all', async (t) => {
    const users = ['Ada', 'Ben'].map((name) => ({ id: randomUUID(), email: `${name}@example.com`, name }))
    t.mock.method(app.data.users, 'get', async (id: string) => users.find((user) => user.id === id) ?? null)
    for (const user of users) {
      const { accessToken } = await app.tokens.issue(user.id)
      const headers = { authorization: `Bearer ${accessToken}` }
      for (const path of ['/me', '/dashboard'])
        assert.deepEqual((await send('GET', path, undefined, headers)).json().user, user, path)
    }
  })

  /** A login with the credentials that it returns. */
  const logIn = async () => {
    const response = await send('POST', '/auth/login', { email: 'test@example.com', password: 'password' }, {})
    const [{ name, value } = { name: '', value: '' }] = response.cookies
    const { accessToken, refreshToken } = response.json()
    return { cookie: `${name}=${value}`, authorization: `Bearer ${accessToken}`, refreshToken }
  }
  const me = async (headers: Headers): Promise<number> => (await send('GET', '/me', undefined, headers)).statusCode
  const logOut = async (headers: Headers): Promise<number> =>
    (await send('POST', '/auth/logout', undefined, headers)).statusCode
  const refresh = async (refreshToken: string): Promise<number> =>
    (await send('POST', '/auth/refresh', { refreshToken }, {})).statusCode

  it('end the tokens of a logout by token', async () => {
    const { authorization, refreshToken } = await logIn()
    assert.equal(await me({ authorization }), 200)
    assert.equal(await logOut({ authorization }), 204)
    assert.equal(await me({ authorization }), 401)
    assert.equal(await refresh(refreshToken), 401)
    assert.equal((await send('GET', '/me')).statusCode, 200, 'those of another login stay')
  })

  it('end both logins of a logout with the cookie of one and the token of another', async () => {
    const [one, other] = [await logIn(), await logIn()]
    const { cookie } = one
    assert.equal(await logOut({ cookie, authorization: other.authorization }), 204)
    for (const { authorization, refreshToken } of [one, other])
      assert.deepEqual([await me({ authorization }), await refresh(refreshToken)], [401, 401])
    assert.equal(await me({ cookie }), 401)
  })

  it('keep the session of a logout that could not end its tokens, so that it can be repeated', async (t) => {
    const { cookie, refreshToken } = await logIn()
    const revoke = t.mock.method(app.tokens, 'revoke', async () => {
      throw new FleetError('FLEET_ERR_STATE_UNAVAILABLE')
    })
    assert.equal(await logOut({ cookie }), 503)
    revoke.mock.restore()
    assert.equal(await me({ cookie }), 200)
    assert.equal(await logOut({ cookie }), 204)
    assert.deepEqual([await me({ cookie }), await refresh(refreshToken)], [401, 401])
  })
})
