import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { signedIn, userIdOf, userOf } from '../../src/app/access.ts'
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
