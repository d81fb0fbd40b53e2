import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'
import { RedisRecordStore } from '../../../src/state/session/redis-store.ts'
import type { RecordStore } from '../../../src/state/session/store.ts'
import { ownRedis } from '../own-redis.ts'

const own = ownRedis()
const key = (id: string): string => `shop:session:{${id}}`
beforeEach(() => own.client.flushall())
const ttlIn = async (name: string, above: number, most: number): Promise<void> => {
  const ttlMs = await own.client.pttl(name)
  assert.ok(ttlMs > above && ttlMs <= most, `${name}: ${ttlMs} ms`)
}
const text = '{"cookie":{"at":1}\n,"a":1\n,"b":{"c":[2]}\n}'
const tooLarge = { code: 'FLEET_ERR_SESSION_TOO_LARGE' }

for (const engine of ['memory', 'Redis'])
  describe(`session records in ${engine}`, () => {
    let store: RecordStore
    beforeEach(() => {
      store = engine === 'memory' ? new MemoryRecordStore() : new RedisRecordStore(own.client, 'shop')
    })
    const merge = async (changes: Record<string, string>, maxBytes = 1_000, ttlMs = 60_000): Promise<boolean> =>
      store.merge('s', new Map(Object.entries(changes)), ttlMs, maxBytes)
    const read = async (id = 's'): Promise<unknown> => store.read(id)

    test('are replaced and merged only if they exist', async () => {
      assert.equal(await store.replace('s', text, 60_000), false)
      assert.equal(await merge({ '"a"': '2' }), false)
      assert.equal(await read(), null)
      await store.write('s', text, 60_000)
      assert.equal(await store.replace('s', '{}', 60_000), true)
      assert.equal(await read(), '{}')
      assert.equal(await read('t'), null)
    })

    test('are destroyed once', async () => {
      await store.write('s', text, 60_000)
      await store.write('t', text, 60_000)
      assert.deepEqual([await store.destroy('s'), await store.destroy('s')], [true, false])
      assert.deepEqual([await read('s'), await read('t')], [null, text])
    })

    test('merge changed, added and removed members, in their order', async () => {
      await store.write('s', text, 60_000)
      assert.equal(await merge({ '"c"': '3', '"a"': '', '"cookie"': '{"at":2}', '"gone"': '', '"d"': 'null' }), true)
      assert.equal(await read(), '{"cookie":{"at":2}\n,"b":{"c":[2]}\n,"c":3\n,"d":null\n}')
      assert.equal(await merge({ '"b"': '"x,\\n\\"b\\":1"' }), true)
      assert.equal(await read(), '{"cookie":{"at":2}\n,"b":"x,\\n\\"b\\":1"\n,"c":3\n,"d":null\n}')
    })

    test('may have as many bytes as allowed, and no more', async () => {
      await store.write('s', text, 60_000)
      const bytes = '\n,"a":"ü"\n,"b":{"c":[2]}\n}'.length + 1
      await assert.rejects(merge({ '"a"': '"ü"' }, bytes - 1), tooLarge)
      assert.equal(await read(), text)
      assert.equal(await merge({ '"a"': '"ü"', '"cookie"': '{"at":22222222222}' }, bytes), true)
      assert.equal(await read(), '{"cookie":{"at":22222222222}\n,"a":"ü"\n,"b":{"c":[2]}\n}')
    })

    test('that exceed a lowered limit may shrink or keep their size, and not grow', async () => {
      await store.write('s', text, 60_000)
      await assert.rejects(merge({ '"a"': '22' }, 5), tooLarge)
      await assert.rejects(merge({ '"n"': '1' }, 5), tooLarge)
      assert.equal(await merge({ '"a"': '2', '"cookie"': '{"at":22222222222}' }, 5), true)
      assert.equal(await merge({ '"b"': '2' }, 5), true)
      assert.equal(await read(), '{"cookie":{"at":22222222222}\n,"a":2\n,"b":2\n}')
    })

    test('are listed by their user, until they are removed', async () => {
      for (const id of ['s', 't']) {
        await store.write(id, text, 60_000)
        await store.addToUser('ann', id, 60_000)
      }
      await store.write('u', text, 60_000)
      await store.addToUser('bob', 'u', 60_000)
      await store.removeFromUser('bob', 's')
      assert.deepEqual([...(await store.idsOfUser('ann'))].sort(), ['s', 't'])
      await store.removeFromUser('ann', 's')
      assert.deepEqual(await store.idsOfUser('ann'), ['t'])
      assert.deepEqual(await store.idsOfUser('bob'), ['u'])
      assert.deepEqual(await store.idsOfUser('carl'), [])
    })
  })

describe('session records in Redis', () => {
  let store: RedisRecordStore
  beforeEach(() => {
    store = new RedisRecordStore(own.client, 'shop')
  })

  test('expire after their time to live, which a merge keeps or sets', async () => {
    await store.write('s', text, 60_000)
    await ttlIn(key('s'), 30_000, 60_000)
    await store.replace('s', text, 600_000)
    await ttlIn(key('s'), 540_000, 600_000)
    await store.merge('s', new Map([['"a"', '2']]), 0, 1_000)
    await ttlIn(key('s'), 540_000, 600_000)
    await store.merge('s', new Map([['"a"', '3']]), 60_000, 1_000)
    await ttlIn(key('s'), 30_000, 60_000)
    assert.ok((await store.timeToLive('s')) > 30_000)
    assert.ok((await store.timeToLive('t')) < 0)
  })

  test('of a user are in a list that lives as long as the longest of them', async () => {
    const list = 'shop:user-sessions:{ann}'
    await store.addToUser('ann', 'long', 600_000)
    await ttlIn(list, 540_000, 600_000)
    await store.addToUser('ann', 'short', 60_000)
    await ttlIn(list, 540_000, 600_000)
    await store.addToUser('ann', 'longest', 900_000)
    await ttlIn(list, 840_000, 900_000)
    const ends = Number(await own.client.zscore(list, 'short')) - Date.now()
    assert.ok(ends > 30_000 && ends <= 60_000, `${ends} ms`)
  })

  test('that have ended leave the list of their user', async (t) => {
    const now = Date.now()
    t.mock.timers.enable({ apis: ['Date'], now })
    await store.addToUser('ann', 'ended', 1_000)
    await store.addToUser('ann', 'lasting', 1_001)
    t.mock.timers.setTime(now + 1_000)
    await store.addToUser('ann', 'new', 60_000)
    assert.deepEqual(await store.idsOfUser('ann'), ['lasting', 'new'])
  })

  test('are unavailable after any other error', async () => {
    const lost = () => Promise.reject(new Error('Connection is closed.'))
    const client = { defineCommand: () => undefined, get: lost, zrange: lost, zrem: lost, unlink: lost, set: lost }
    const broken = new RedisRecordStore(client as never, 'shop')
    for (const work of [
      () => broken.read('s'),
      () => broken.idsOfUser('ann'),
      () => broken.removeFromUser('ann', 's'),
      () => broken.destroy('s'),
      () => broken.write('s', text, 1),
      () => broken.replace('s', text, 1),
    ])
      await assert.rejects(async () => work(), { code: 'FLEET_ERR_STATE_UNAVAILABLE' })
  })

  test('of another type are absent, and a list of another type is replaced', async () => {
    await own.client.rpush(key('s'), 'x')
    assert.equal(await store.read('s'), null)
    await own.client.set('shop:user-sessions:{ann}', 'x')
    assert.deepEqual(await store.idsOfUser('ann'), [])
    await store.removeFromUser('ann', 's')
    await store.addToUser('ann', 's', 60_000)
    assert.deepEqual(await store.idsOfUser('ann'), ['s'])
  })
})

describe('session records in memory', () => {
  test('expire at the millisecond, and a merge keeps or sets their time to live', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: 1_000_000 })
    const store = new MemoryRecordStore()
    store.write('s', text, 100)
    t.mock.timers.tick(99)
    assert.equal(store.read('s'), text)
    assert.equal(store.merge('s', new Map([['"a"', '2']]), 0, 1_000), true)
    t.mock.timers.tick(1)
    assert.deepEqual([store.merge('s', new Map(), 100, 1_000), store.read('s')], [false, null])
    store.write('s', text, 100)
    t.mock.timers.tick(50)
    store.merge('s', new Map(), 100, 1_000)
    t.mock.timers.tick(99)
    assert.equal(store.read('s'), text)
    t.mock.timers.tick(1)
    assert.equal(store.replace('s', text, 100), false)
  })

  test('beyond the limits are evicted: those without a login first, the oldest first', () => {
    const store = new MemoryRecordStore({ maxSessions: 3 })
    const anonymous = '{"cookie":{"anonymous":1}\n}'
    store.write('user', text, 1_000)
    store.write('one', anonymous, 1_000)
    store.write('two', anonymous, 1_000)
    assert.equal(store.size, 3)
    store.write('three', anonymous, 1_000)
    const stored = ['user', 'one', 'two', 'three'].filter((id) => store.read(id) !== null)
    assert.deepEqual(stored, ['user', 'two', 'three'])
    for (const id of ['a', 'b']) store.write(id, text, 1_000)
    assert.deepEqual(
      ['user', 'two', 'three', 'a', 'b'].filter((id) => store.read(id) !== null),
      ['user', 'a', 'b'],
    )
  })

  test('have a length in all, which ended and replaced ones do not count towards', () => {
    const store = new MemoryRecordStore({ maxLength: 10 })
    store.write('a', 'x'.repeat(6), 1_000)
    store.write('a', 'x'.repeat(4), 1_000)
    store.write('b', 'x'.repeat(6), 1_000)
    assert.equal(store.size, 2)
    store.destroy('b')
    store.write('c', 'x'.repeat(6), 1_000)
    assert.equal(store.size, 2)
    store.write('d', 'x', 1_000)
    assert.deepEqual([store.read('a'), store.read('c'), store.read('d')], [null, 'xxxxxx', 'x'])
  })

  test('stay with their user when they are written again, until they end', () => {
    const store = new MemoryRecordStore()
    store.write('s', text, 1_000)
    store.addToUser('ann', 's')
    store.write('s', '{}', 1_000)
    assert.deepEqual(store.idsOfUser('ann'), ['s'])
    store.destroy('s')
    assert.deepEqual(store.idsOfUser('ann'), [])
  })
})
