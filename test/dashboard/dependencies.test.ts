import assert from 'node:assert/strict'
import { channel } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { type TestContext, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { checksOf, RedisWatch } from '../../src/dashboard/dependencies.ts'
import { identity, type Peer } from '../../src/instance/identity.ts'
import { redis } from '../../src/state/redis/index.ts'

/** What Redis reports of itself. */
const infoOf = (given: object = {}): string => {
  const all = {
    ...{ redis_version: '7.2.4', role: 'master', used_memory: 1_000, used_memory_rss: 5, maxmemory: 4_000 },
    ...{ maxmemory_policy: 'noeviction', evicted_keys: 7, connected_clients: 3, keyspace_hits: 2, keyspace_misses: 1 },
    ...given,
  }
  return Object.entries(all)
    .map(([name, value]) => `${name}:${value}\r\n`)
    .join('')
}

/** A node that is no server. `info` is its report, or the error of the command. */
class Node extends EventEmitter {
  status = 'ready'
  info: () => Promise<string>
  calls = 0
  ping = async (): Promise<string> => 'PONG'
  hgetall = (): void => {}
  duplicate = (): void => {}

  constructor(text: string | Error = infoOf()) {
    super()
    this.info = async () => {
      this.calls++
      if (typeof text === 'string') return text
      throw text
    }
  }
}

async function watch(t: TestContext, client: Node | null, health?: object) {
  const app: FastifyInstance = Fastify()
  t.after(() => app.close())
  await app.register(identity, { id: 'a' })
  await app.register(redis, { client: client as never })
  if (health) app.decorate('health', health as never)
  return { app, redis: new RedisWatch(app) }
}

test('Redis is as its check says, else as the connection is', async (t) => {
  const client = new Node()
  const reports: { redis?: { status: string } } = {}
  const { redis: seen } = await watch(t, client, { reports })
  const states = ['up', 'degraded', 'down', 'pending'].map((status) => {
    reports.redis = { status }
    return seen.state.state
  })
  assert.deepEqual(states, ['ok', 'degraded', 'down', 'ok'])
  client.status = 'reconnecting'
  assert.equal(seen.state.state, 'down')
  reports.redis = { status: 'up' }
  assert.equal(seen.state.state, 'ok')
  const { redis: unchecked } = await watch(t, client)
  assert.equal(unchecked.state.state, 'down')
  const { redis: none } = await watch(t, null)
  assert.deepEqual([none.state.state, await none.report()], ['none', null])
})

test('Redis is in its state since that began, not since it was read', async (t) => {
  let now = 1_000
  t.mock.method(Date, 'now', () => now)
  const reports = { redis: { status: 'up' } }
  const { app, redis: seen } = await watch(t, new Node(), { reports })
  now = 2_000
  assert.equal(seen.state.since, 1_000)
  reports.redis.status = 'down'
  channel('fleet:check').publish({ check: 'redis', instance: 'a' })
  now = 3_000
  assert.deepEqual(seen.state, { state: 'down', since: 2_000 })
  reports.redis.status = 'up'
  assert.deepEqual(seen.state, { state: 'ok', since: 3_000 })
  await app.close()
  reports.redis.status = 'down'
  channel('fleet:check').publish({ check: 'redis', instance: 'a' })
  now = 4_000
  assert.equal(seen.state.since, 4_000, 'a closed instance listens no more')
})

test('the report of Redis has its memory, clients and hit rate, for 5 s', async (t) => {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  const client = new Node()
  client.ping = async () => {
    now += 1.26
    return 'PONG'
  }
  const { redis: seen } = await watch(t, client, { reports: { redis: { status: 'degraded' } } })
  const expected = {
    ...{ state: 'degraded', role: 'master', version: '7.2.4', usedMemory: 1_000, maxMemory: 4_000 },
    ...{ policy: 'noeviction', evictedKeys: 7, clients: 3, hitRate: 0.6667, latencyMs: 1.3 },
  }
  assert.deepEqual(await Promise.all([seen.report(), seen.report()]), [expected, expected])
  now = 5_000
  await seen.report()
  assert.equal(client.calls, 1)
  now = 5_000.1
  await seen.report()
  assert.equal(client.calls, 2)
})

test('the report of a Cluster has the sums of its primaries', async (t) => {
  const primaries = [new Node(), new Node(infoOf({ keyspace_hits: 7, keyspace_misses: 0 }))]
  const nodes = (role: string) => (role === 'master' ? primaries : [])
  const { redis: seen } = await watch(t, Object.assign(new Node(), { nodes }))
  const { latencyMs: _, ...report } = (await seen.report()) ?? assert.fail()
  assert.deepEqual(report, {
    ...{ state: 'ok', role: 'cluster', version: '7.2.4', usedMemory: 2_000, maxMemory: 8_000 },
    ...{ policy: 'noeviction', evictedKeys: 14, clients: 6, hitRate: 0.9 },
  })
})

test('the report of Redis has no figures that it does not get', async (t) => {
  const none = {
    ...{ role: null, version: null, usedMemory: null, maxMemory: null, policy: null },
    ...{ evictedKeys: null, clients: null, hitRate: null },
  }
  for (const [text, latency] of [
    [new Error('NOPERM this user has no permissions'), 'number'],
    [new Error('no reply'), 'object'],
    ['unknown:1', 'number'],
  ] as const) {
    const { redis: seen } = await watch(t, new Node(text))
    const { latencyMs, ...report } = (await seen.report()) ?? assert.fail()
    assert.deepEqual([report, typeof latencyMs], [{ state: 'ok', ...none }, latency])
  }
  for (const [reads, hitRate] of [
    [0, null],
    [9, 0.5],
  ]) {
    const text = infoOf({ keyspace_hits: reads, keyspace_misses: reads, role: 'x'.repeat(65) })
    const { redis: seen } = await watch(t, new Node(text))
    assert.partialDeepStrictEqual(await seen.report(), { hitRate, role: 'x'.repeat(64) })
  }
})

test('checks are listed by the number of instances on which they fail, then by name, at most 200', () => {
  const peer = (id: string, checks: string[], failing: string[] = []): Peer =>
    ({ id, checks, failing, degraded: [] }) as unknown as Peer
  const names = (...peers: Peer[]) => checksOf(peers).map(({ name, critical }) => `${name}${critical ? '!' : ''}`)
  assert.deepEqual(names(peer('a', ['c', 'b!', 'a'], ['c']), peer('b', ['b', 'c'])), ['c', 'a', 'b!'])
  assert.deepEqual(names(peer('b', ['b']), peer('a', ['b!'])), ['b!'])
  const many = Array.from({ length: 201 }, (_, i) => `check-${1_000 + i}`)
  assert.deepEqual(names(peer('a', many, ['check-1200'])).slice(-1), ['check-1198'])
})
