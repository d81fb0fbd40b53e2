import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { signedIn, userIdOf, userOf } from '../../src/app/access.ts'
import { build } from '../../src/app/build.ts'
import { ConnectionLimits, TokenBucket } from '../../src/app/connection-limits.ts'

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

  it('end the tokens of a logout by token', async () => {
    const login = (await send('POST', '/auth/login', { email: 'test@example.com', password: 'password' }, {})).json()
    const headers = { authorization: `Bearer ${login.accessToken}` }
    const me = async (): Promise<number> => (await send('GET', '/me', undefined, headers)).statusCode
    assert.equal(await me(), 200)
    assert.equal((await send('POST', '/auth/logout', undefined, headers)).statusCode, 204)
    assert.equal(await me(), 401)
    const { refreshToken } = login
    assert.equal((await send('POST', '/auth/refresh', { refreshToken }, {})).statusCode, 401)
    assert.equal((await send('GET', '/me')).statusCode, 200, 'those of another login stay')
  })
})
