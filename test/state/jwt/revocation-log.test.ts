import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import Fastify from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { identity } from '../../../src/instance/identity.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { jwt } from '../../../src/state/jwt/index.ts'
import { RedisTokenStore } from '../../../src/state/jwt/redis-store.ts'
import { type Revocation, RevocationFeed } from '../../../src/state/jwt/revocations.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { ownRedis, testKey } from '../own-redis.ts'
import { scriptClock } from '../redis-clock.ts'
import { code, secret } from './contract.ts'

const own = ownRedis()
const setRedisTime = scriptClock(own)

describe('the log of revocations in Redis', () => {
  const log = 'test:jwt-revoked:{log}'
  const now = Math.floor(Date.now() / 1000)
  const micros = now * 1_000_000
  let store: RedisTokenStore
  beforeEach(async () => {
    await own.client.flushall()
    await setRedisTime(now * 1000)
    store = new RedisTokenStore(own.client, testKey)
  })
  const revocation = (id: string, until = now + 900): Revocation => ({ until, cutoff: 0, kind: 'token', id })
  const scores = (): Promise<string[]> => own.client.zrange(log, 0, '-1', 'WITHSCORES')

  test('has rising times, also in one microsecond and after a clock that was set back', async () => {
    await store.record(revocation('a'))
    await store.record(revocation('b'))
    await setRedisTime(now * 1000 - 5_000)
    await store.record(revocation('c'))
    await setRedisTime(now * 1000 + 5_000.25)
    await store.record(revocation('d'))
    const times = [micros, micros + 1, micros + 2, micros + 5_000_250].map(String)
    assert.deepEqual(
      await scores(),
      ['a', 'b', 'c', 'd'].flatMap((id, i) => [`${now + 900} 0 token ${id}`, times[i] as string]),
    )
    const ttl = await own.client.ttl(log)
    assert.ok(ttl > 32 * 86_400 - 60 && ttl <= 32 * 86_400, `${ttl} s`)
  })

  test('loses entries whose tokens have expired, and no others', async () => {
    await own.client.zadd(log, 1, `${now - 1} 0 token gone`, 2, `${now} 0 token last`, 3, 'unknown')
    await store.record(revocation('a'))
    assert.deepEqual(await own.client.zrange(log, 0, '-1'), [`${now} 0 token last`, `${now + 900} 0 token a`])
  })

  test('loses entries more than a day ahead, which the fleet did not write', async () => {
    const ahead = micros + 86_400_000_000
    await own.client.zadd(log, ahead + 1, `${now + 900} 0 token far`, ahead, `${now + 900} 0 token near`)
    await store.record(revocation('a'))
    assert.deepEqual(await scores(), [
      ...[`${now + 900} 0 token near`, String(ahead)],
      ...[`${now + 900} 0 token a`, String(ahead + 1)],
    ])
  })

  test('replaces a value of another type, which reads as empty', async () => {
    await own.client.set(log, 'text')
    assert.deepEqual(await store.since('0'), { cursor: '0', revocations: [], more: false })
    await store.record(revocation('a'))
    assert.deepEqual((await store.since('0')).revocations, [revocation('a')])
  })

  test('is read after the cursor, without entries of another format or more than a day ahead', async () => {
    const ahead = micros + 86_460_000_000
    await own.client.zadd(log, 5, '1 2 user x', 6, '1 2 session s s', 7, '1 2 subject u\n', ahead, '1 2 token far')
    const [session, subject] = [
      { until: 1, cutoff: 2, kind: 'session', id: 's s' },
      { until: 1, cutoff: 2, kind: 'subject', id: 'u\n' },
    ]
    assert.deepEqual(await store.since('0'), { cursor: '7', revocations: [session, subject], more: false })
    assert.deepEqual(await store.since('6'), { cursor: '7', revocations: [subject], more: false })
    assert.deepEqual(await store.since('7'), { cursor: '7', revocations: [], more: false })
    await own.client.zadd(log, micros + 86_000_000_000, '1 2 token near')
    assert.equal((await store.since('7')).revocations.length, 1)
  })

  test('records a revocation while Redis is full', async () => {
    await store.record(revocation('a'))
    await own.client.config('SET', 'maxmemory', '1')
    try {
      await store.record(revocation('b'))
    } finally {
      await own.client.config('SET', 'maxmemory', '0')
    }
    assert.equal((await store.since('0')).revocations.length, 2)
  })

  test('is read in pages of a thousand', async () => {
    await own.client.zadd(log, ...Array.from({ length: 1_001 }, (_, i) => [i + 1, `1 0 token ${i + 1}`]).flat())
    const page = await store.since('0')
    assert.deepEqual([page.cursor, page.revocations.length, page.more], ['1000', 1_000, true])
    const { more, revocations } = await store.since(page.cursor)
    assert.deepEqual([more, revocations.map(({ id }) => id)], [false, ['1001']])
  })
})

test('an instance reads it at once after an announcement, anew after a lost connection, and not once it is closed', async (t) => {
  const calls: string[] = []
  for (const name of ['pull', 'restart', 'close'] as const)
    t.mock.method(RevocationFeed.prototype, name, () => void calls.push(name))
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'feed' })
  await app.register(redis, { client: own.client })
  await app.register(broadcast)
  // Only the test calls the listeners.
  const subscribe = t.mock.method(app.fleet, 'subscribe', () => () => {})
  await app.register(jwt, { secret })
  const { arguments: given } = subscribe.mock.calls.find((call) => call.arguments[0] === 'fleet:jwt') ?? assert.fail()
  const [, announced, events] = given
  announced?.(null)
  events?.onReconnect?.()
  assert.deepEqual(calls, ['pull', 'restart'])
  await app.close()
  assert.deepEqual(calls, ['pull', 'restart', 'close'])
})

test('an instance announces each revocation to the others, which need not wait for their next read', async (t) => {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'announced' })
  await app.register(redis, { client: own.client })
  await app.register(broadcast)
  await app.register(jwt, { secret })
  const { accessToken } = await app.tokens.issue('ann')
  const published = t.mock.method(app.fleet, 'publish', async () => {})
  await app.tokens.revoke(accessToken)
  await app.tokens.revokeAll('ann')
  assert.deepEqual(
    published.mock.calls.map((call) => call.arguments),
    [
      ['fleet:jwt', null],
      ['fleet:jwt', null],
    ],
  )
})

test('an instance that could not read it at boot accepts no token until it has', async (t) => {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { name: 'unread' })
  await app.register(redis, { client: own.client })
  await app.register(broadcast)
  const since = t.mock.method(RedisTokenStore.prototype, 'since', async () => {
    throw new FleetError('FLEET_ERR_STATE_UNAVAILABLE')
  })
  await app.register(jwt, { secret })
  const { accessToken } = await app.tokens.issue('ann')
  for (let i = 0; i < 2; i++) await assert.rejects(app.tokens.verify(accessToken), code('FLEET_ERR_STATE_UNAVAILABLE'))
  since.mock.restore()
  assert.equal((await app.tokens.verify(accessToken)).sub, 'ann')
})
