import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Redis } from 'ioredis'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { RedisHistoryStore } from '../../../src/state/history/redis-store.ts'
import {
  goneMs,
  keptMs,
  limitMs,
  maxEvents,
  maxGone,
  maxRoutes,
  routesMs,
  startOf,
  stepMs,
} from '../../../src/state/history/store.ts'
import { keysOf } from '../../../src/state/redis/index.ts'
import { ownRedis } from '../own-redis.ts'
import { scriptClock } from '../redis-clock.ts'
import { back, contract, counts } from './contract.ts'

contract('memory', () => new MemoryHistoryStore())

describe('in Redis', () => {
  const own = ownRedis()
  let fleets = 0
  const open = (name = `f${fleets++}`): RedisHistoryStore => new RedisHistoryStore(own.client, keysOf(name))
  contract('Redis', () => open())

  test('keeps keys that expire in one slot, and a bounded number of events', async () => {
    const store = open('shop')
    const now = await store.time()
    const start = startOf(now, routesMs)
    const routes = new Map([['GET /', counts({ r: 1 })]])
    await store.add({ start, counts: counts({ n: 1 }), routes, process: 'a 1', back })
    await store.record({ kind: 'lost', text: 'x' }, { process: 'a 1', limit: 'x' })
    const keys = (await own.client.keys('shop:*')).sort()
    const at = start / 1_000
    const expected = ['events', 'gone', 'limits', `minute-${at}`, `routes-${at}`, `step-${at}`]
    assert.deepEqual(
      keys,
      expected.map((kind) => `shop:history-${kind}:{all}`),
    )
    for (const kind of ['step', 'minute', 'routes'] as const) {
      const ttl = await own.client.pttl(`shop:history-${kind}-${at}:{all}`)
      assert.ok(ttl > keptMs[kind] - 60_000 && ttl <= keptMs[kind], kind)
    }
    for (const [kind, most] of [
      ['gone', goneMs],
      ['limits', limitMs],
    ] as const) {
      const ttl = await own.client.pttl(`shop:history-${kind}:{all}`)
      assert.ok(ttl > most - 60_000 && ttl > 0 && ttl <= most, `${kind}: ${ttl} ms`)
    }
    await Promise.all(
      Array.from({ length: maxEvents + 300 }, (_, i) => store.record({ kind: 'deploy-step', text: `${i}` })),
    )
    const length = await own.client.xlen('shop:history-events:{all}')
    assert.ok(length >= maxEvents && length <= maxEvents + 100, `${length} events`)
  })

  test('forgets what another application wrote to its keys', async () => {
    const junk: ((client: Redis, key: string) => Promise<unknown>)[] = [
      (client, key) => client.set(key, 'junk'),
      (client, key) => client.hset(key, 'n', 'junk', 'i', 'nan', 'r', '9'.repeat(400), 'GET /', 'r:x y 1:2:3 :5'),
      (client, key) => client.rpush(key, 'junk'),
      (client, key) => client.xadd(key, '18446744073709551615-18446744073709551615', 'kind', 'x', 'entry', 'null'),
    ]
    for (const [i, put] of junk.entries()) {
      const name = `junk${i}`
      const store = open(name)
      const now = await store.time()
      const start = startOf(now, routesMs)
      const kinds = [
        'events',
        'gone',
        'limits',
        ...['minute', 'routes', 'step'].map((each) => `${each}-${start / 1_000}`),
      ]
      for (const kind of kinds) await put(own.client, `${name}:history-${kind}:{all}`)
      await store.events({ limit: 10 })
      await store.counts('step', [start])
      await store.routes([start])
      const routes = new Map([['GET /', counts({ r: 1, 3: 1 })]])
      await store.add({ start, counts: counts({ n: 1, r: 1 }), routes, process: 'a 1', back })
      assert.ok(await store.record({ kind: 'lost', text: 'x', instance: 'a' }, { process: 'a 1', limit: 'x' }))
      assert.deepEqual(
        (await store.events({ limit: 10 })).map(({ text }) => text),
        ['x'],
      )
      const [step] = await store.counts('step', [start])
      assert.equal(step?.get('n'), 1)
      assert.equal((await store.counts('minute', [start]))[0]?.get('i'), 1)
      assert.equal((await store.routes([start]))[0]?.get('GET /')?.get('3'), 1)
      assert.deepEqual(await store.unrecorded(['a 1', 'a 2']), ['a 2'])
    }
  })

  test('reads past entries of another application, however many follow one another', async () => {
    const name = `f${fleets}`
    const store = open(name)
    await store.record({ kind: 'lost', text: 'first' })
    await store.record({ kind: 'lost', text: 'second' })
    for (let i = 0; i < 7; i++) await own.client.xadd(`${name}:history-events:{all}`, '*', 'junk', `${i}`)
    await store.record({ kind: 'lost', text: 'third' })
    const texts = async (query: object): Promise<string[]> =>
      (await store.events({ limit: 2, ...query })).map(({ text }) => text)
    const [third, second, first] = await store.events({ limit: 3 })
    assert.deepEqual(await texts({ after: second?.id }), ['third'])
    assert.deepEqual(await texts({ after: first?.id }), ['third', 'second'])
    assert.deepEqual(await texts({ before: third?.id }), ['second', 'first'])
    assert.deepEqual(await texts({}), ['third', 'second'])
  })

  test('forgets the end of a process after a day, and the oldest of many', async () => {
    const setTime = scriptClock(own)
    const now = 1_800_000_000_000
    await setTime(now)
    const store = open()
    const end = (process: string): Promise<boolean> => store.record({ kind: 'lost', text: 'x' }, { process })
    assert.equal(await store.time(), now)
    await end('a')
    for (const [ms, left] of [
      [goneMs - 1, []],
      [goneMs, ['a']],
    ] as const) {
      await setTime(now + ms)
      await end('other')
      assert.deepEqual(await store.unrecorded(['a']), left, `${ms} ms`)
    }
    await Promise.all(Array.from({ length: maxGone }, (_, i) => end(`p${i}`)))
    assert.equal(await own.client.zcard(`f${fleets - 1}:history-gone:{all}`), maxGone)
  })

  test('counts the events of one name for a minute from the first of them', async () => {
    const store = open()
    const key = `f${fleets - 1}:history-limits:{all}`
    const record = () => store.record({ kind: 'limit-hit', text: 'x' }, { limit: 'x' })
    await record()
    await own.client.pexpire(key, limitMs / 2)
    await record()
    const ttl = await own.client.pttl(key)
    assert.ok(ttl > 0 && ttl <= limitMs / 2, `${ttl} ms`)
  })

  test('reads each of many buckets, at most 60 at the same time', async (t) => {
    const store = open()
    const starts = Array.from({ length: 125 }, (_, i) => 1_800_000_000_000 + i * stepMs)
    for (const [i, start] of [starts[0], starts[60], starts[124]].entries())
      await own.client.hset(`f${fleets - 1}:history-step-${Number(start) / 1_000}:{all}`, 'r', i + 1)
    let [reading, most] = [0, 0]
    const read = own.client.hgetall.bind(own.client)
    t.mock.method(own.client, 'hgetall', (key: string) => {
      most = Math.max(most, ++reading)
      return read(key).finally(() => reading--)
    })
    const found = (await store.counts('step', starts)).flatMap((each, i) => (each ? [[i, each.get('r')]] : []))
    assert.deepEqual(found, [
      [0, 1],
      [60, 2],
      [124, 3],
    ])
    assert.equal(most, 60)
  })

  test('reads at most 200 routes and their rest, whatever another application has added', async () => {
    const store = open()
    const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`GET /${i}`, 'r:1']))
    await own.client.hset(`f${fleets - 1}:history-routes-1800000000:{all}`, many)
    const [routes] = await store.routes([1_800_000_000_000])
    assert.equal(routes?.size, maxRoutes + 1)
  })
})

test('an outage of Redis is no empty history', async () => {
  const lost = async (): Promise<never> => {
    throw new Error('Connection is closed.')
  }
  const commands = ['fleetHistoryTime', 'fleetHistoryAdd', 'fleetHistoryRecord', 'fleetHistoryUnrecorded']
  const client = { defineCommand() {}, ...Object.fromEntries(commands.map((name) => [name, lost])) }
  const reads = { hgetall: lost, xrange: lost, xrevrange: lost }
  const store = new RedisHistoryStore({ ...client, ...reads } as never, keysOf('shop'))
  for (const reading of [
    store.time(),
    store.counts('step', [0]),
    store.routes([0]),
    store.events({ limit: 1 }),
    store.events({ after: '1-1', limit: 1 }),
    store.unrecorded(['a']),
    store.record({ kind: 'ready', text: '' }),
  ])
    await assert.rejects(reading, { code: 'FLEET_ERR_STATE_UNAVAILABLE' })
})
