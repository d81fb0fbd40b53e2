import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { identity } from '../../../src/instance/identity.ts'
import {
  authentication,
  byUser,
  perUser,
  type RateLimitOptions,
  rateLimit,
} from '../../../src/state/rate-limit/index.ts'
import { MemoryLimitStore } from '../../../src/state/rate-limit/memory-store.ts'
import { RedisLimitStore } from '../../../src/state/rate-limit/redis-store.ts'
import { boundedKey } from '../../../src/state/rate-limit/store.ts'
import { redis } from '../../../src/state/redis/index.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

const now = 1_800_000_000_000
const windowMs = 60_000
const sliceMs = windowMs / 10

describe('a window', () => {
  test('admits `max` requests, rejects the next one and says when to retry', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now })
    const limits = new MemoryLimitStore()
    const take = () => limits.take('a', windowMs, 3, true)
    assert.deepEqual(
      [take(), take(), take()].map(({ count }) => count),
      [1, 2, 3],
    )
    for (const _ of [1, 2]) assert.deepEqual(take(), { count: 4, resetMs: windowMs + sliceMs })
    assert.equal(limits.take('a', windowMs, 1, true).count, 2, 'of a lowered limit')
  })

  test('is over eleven slices after the one of its first request began, and not before', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: now + 1 })
    const limits = new MemoryLimitStore()
    const take = () => limits.take('a', windowMs, 1, true)
    assert.equal(take().count, 1)
    t.mock.timers.setTime(now + windowMs + sliceMs - 1)
    assert.deepEqual(take(), { count: 2, resetMs: 1 })
    t.mock.timers.setTime(now + windowMs + sliceMs)
    assert.equal(take().count, 1)
  })

  test('forgets each request in turn, and counts no rejected one', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now })
    const limits = new MemoryLimitStore()
    const take = (counts = true) => limits.take('a', windowMs, 2, counts).count
    assert.equal(take(), 1)
    t.mock.timers.setTime(now + sliceMs)
    assert.deepEqual([take(), take(), take(), take(false)], [2, 3, 3, 2])
    t.mock.timers.setTime(now + 11 * sliceMs)
    assert.deepEqual([take(false), take(), take()], [1, 2, 3])
    t.mock.timers.setTime(now + 12 * sliceMs)
    assert.equal(take(false), 1)
    t.mock.timers.setTime(now + 100 * windowMs)
    assert.equal(take(false), 0)
  })

  test('belongs to one client, and to one length', () => {
    const limits = new MemoryLimitStore()
    const take = (key: string, length: number) => limits.take(key, length, 1, true).count
    assert.deepEqual([take('a', 1000), take('a', 1000), take('b', 1000), take('a', 2000)], [1, 2, 1, 1])
  })

  test('has a key of its own for names of 200 characters and more', () => {
    const [short, long, other] = ['x'.repeat(200), 'x'.repeat(201), `${'x'.repeat(200)}y`]
    assert.equal(boundedKey(short), short)
    assert.equal(boundedKey(long).length, 43)
    assert.notEqual(boundedKey(long), boundedKey(other))
  })
})

async function build(options: RateLimitOptions, peers?: number) {
  const app = Fastify()
  apps.push(app)
  await app.register(identity, { name: `bounds-${apps.length}` })
  // Nothing listens on port 1, so that Redis is unavailable.
  await app.register(redis, peers ? { url: 'redis://127.0.0.1:1', connectTimeoutMs: 0 } : { client: null })
  await app.register(rateLimit, options)
  if (peers) app.fleet.peers = () => Array.from({ length: peers }, () => app.fleet.self())
  app.decorateRequest('user', null as never)
  // As late as an authentication in a route. A limit that counts in `onRequest` would not see the user.
  app.addHook('preValidation', async (request) => {
    const { user } = request.headers
    if (user) Object.assign(request, { user: { sub: user } })
  })
  const handler = async () => ({})
  app.get('/', handler)
  app.get('/own', { config: { rateLimit: { max: 3, timeWindow: windowMs } } }, handler)
  app.get('/user', { config: { rateLimit: perUser(2) } }, handler)
  app.get('/share', { config: { rateLimit: { max: 7, timeWindow: windowMs, scope: 'instance' } } }, handler)
  app.get('/never', { config: { rateLimit: { max: 0, timeWindow: windowMs, scope: 'instance' } } }, handler)
  app.get('/login', { config: { rateLimit: authentication() } }, handler)
  app.get('/reset-password', { config: { rateLimit: authentication() } }, handler)
  const get = (url: string, remoteAddress = '10.0.0.1', headers: Record<string, string> = {}) =>
    app.inject({ url, remoteAddress, headers })
  const admitted = async (tries: number, ...request: Parameters<typeof get>) => {
    let count = 0
    for (let i = 0; i < tries; i++) if ((await get(...request)).statusCode === 200) count++
    return count
  }
  return { app, get, admitted }
}

describe('a limit', () => {
  test('admits `max` requests of a client and no more, and says so', async () => {
    const { get } = await build({ max: 2 })
    const [first, second, third] = [await get('/'), await get('/'), await get('/')]
    assert.deepEqual(
      [first, second, third].map(({ statusCode }) => statusCode),
      [200, 200, 429],
    )
    assert.deepEqual(
      [first, second, third].map(({ headers }) => headers['ratelimit-remaining']),
      ['1', '0', '0'],
    )
    assert.deepEqual([third.headers['ratelimit-limit'], third.json().code], ['2', 'FLEET_ERR_RATE_LIMITED'])
    assert.equal((await get('/', '10.0.0.2')).statusCode, 200)
  })

  test('does not exist by default', async () => {
    const { get, admitted } = await build({})
    assert.equal(await admitted(200, '/'), 200)
    assert.equal((await get('/')).headers['ratelimit-limit'], undefined)
  })

  test('of one route does not count the requests of another', async () => {
    const { admitted } = await build({ max: 4 })
    assert.deepEqual([await admitted(5, '/'), await admitted(11, '/login'), await admitted(4, '/own')], [4, 10, 3])
  })

  test('does not apply to clients in `allow`, and to no others', async () => {
    const { admitted } = await build({ max: 1, allow: ['10.0.1.0/24', '10.0.3.7'] })
    const counts = ['10.0.1.9', '10.0.3.7', '10.0.2.9'].map((address) => admitted(3, '/', address))
    assert.deepEqual(await Promise.all(counts), [3, 3, 1])
  })

  test('per user follows the user, and the client without one', async () => {
    const { admitted } = await build({})
    const [ann, bob] = [{ user: 'ann' }, { user: 'bob' }]
    assert.equal(await admitted(2, '/user', '10.0.0.1', ann), 2)
    assert.equal(await admitted(1, '/user', '10.0.0.2', ann), 0)
    assert.equal(await admitted(3, '/user', '10.0.0.1', bob), 2)
    assert.equal(await admitted(3, '/user', '10.0.0.1'), 2)
  })

  test('per user tells a user from a client whose address is the name of that user', () => {
    const as = (user: unknown, address: string) =>
      byUser({ user, socket: { remoteAddress: address }, headers: {} } as never)
    assert.notEqual(as({ sub: '10.0.0.1' }, '10.0.0.2'), as(null, '10.0.0.1'))
  })

  test('for passwords is 10 per minute for all such routes together', async () => {
    const { admitted } = await build({})
    assert.equal(await admitted(6, '/login'), 6)
    assert.equal(await admitted(6, '/reset-password'), 4)
  })

  for (const [peers, share] of [
    [1, 7],
    [2, 3],
    [3, 2],
    [7, 1],
    [50, 1],
  ] as const)
    test(`of 7 with the scope of an instance is ${share} on each of ${peers} instances`, async () => {
      const { admitted } = await build({}, peers)
      assert.equal(await admitted(9, '/share'), share)
    })

  test('of 0 with the scope of an instance admits nothing', async () => {
    const { admitted } = await build({}, 3)
    assert.equal(await admitted(2, '/never'), 0)
  })

  test('is shared by the instances of the last second', async (t) => {
    let passed = 1_000
    const { app, admitted } = await build({}, 7)
    t.mock.method(performance, 'now', () => passed)
    let reads = 0
    app.fleet.peers = () => {
      reads++
      return [app.fleet.self()]
    }
    assert.deepEqual([await admitted(3, '/share'), reads], [3, 1])
    passed = 1_999
    assert.deepEqual([await admitted(1, '/share'), reads], [1, 1])
    passed = 2_000
    assert.deepEqual([await admitted(1, '/share'), reads], [1, 2])
  })
})

describe('without Redis', () => {
  test('the limit of an instance is its share of `max` with `onOutage: allow`, per client', async () => {
    const { get, admitted } = await build({ max: 7, onOutage: 'allow' }, 3)
    const { headers } = await get('/')
    assert.deepEqual([headers['ratelimit-limit'], headers['ratelimit-remaining']], ['7', '1'])
    assert.deepEqual([await admitted(3, '/'), await admitted(3, '/', '10.0.0.2')], [1, 2])
  })

  test('rejected requests do not count against the share', async (t) => {
    t.mock.timers.enable({ apis: ['Date'], now })
    const { admitted } = await build({ max: 7 }, 3)
    assert.equal(await admitted(1, '/'), 1)
    t.mock.timers.setTime(now + sliceMs)
    assert.equal(await admitted(4, '/'), 1)
    t.mock.timers.setTime(now + 11 * sliceMs)
    assert.equal(await admitted(4, '/'), 1, 'in place of the first request')
  })

  test('requests with a limit get 503 with `onOutage: reject`, and those of an instance do not', async () => {
    const { get, admitted } = await build({ max: 7, onOutage: 'reject' }, 3)
    assert.equal((await get('/')).statusCode, 503)
    assert.equal(await admitted(3, '/share'), 2)
  })
})

test('a store in Redis has one key for each limit, client and window, and passes on the limit', async () => {
  const calls: unknown[][] = []
  const fleetLimitTake = async (...args: unknown[]) => {
    calls.push(args)
    return [2, 30]
  }
  const client = { defineCommand: () => undefined, fleetLimitTake }
  const limits = new RedisLimitStore(client as never, (kind, id) => `${kind}:{${id}}`)
  assert.deepEqual(await limits.take('a', 1000, 5, true), { count: 2, resetMs: 30 })
  await limits.take('a', 1000, 5, false)
  assert.deepEqual(calls, [
    ['limit:{1000 a}', 1000, 5, 1, 10],
    ['limit:{1000 a}', 1000, 5, 0, 10],
  ])
})
