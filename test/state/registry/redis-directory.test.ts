import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { type HeartbeatReply, type Position, RedisDirectory } from '../../../src/state/registry/redis-directory.ts'
import { ownRedis } from '../own-redis.ts'
import { scriptClock } from '../redis-clock.ts'

const own = ownRedis()
const setTime = scriptClock(own)

const start = 1_800_000_000_000
const leaseMs = 3_000
/** Time for the instances to reconnect after an outage, ms. */
const graceMs = leaseMs + 3_000
const key = (kind: string): string => `test:registry-${kind}:{all}`
let directory: RedisDirectory
let at = 0
const pass = (ms: number): Promise<void> => {
  at += ms
  return setTime(start + at)
}
beforeEach(async () => {
  await own.client.flushall()
  at = 0
  await pass(0)
  directory = new RedisDirectory(own.client, (kind, id) => `test:${kind}:{${id}}`)
})

const nowhere = { epoch: '', version: 0, cursor: '' }
interface Beat {
  boot?: string
  facts?: string
  load?: string
  leaseMs?: number
  claim?: boolean
  from?: Partial<Position>
  sample?: string[]
}
function beat(id: string, given: Beat = {}): Promise<HeartbeatReply> {
  const { boot = 'boot', facts = 'facts', load = 'load', from, ...options } = given
  const position = { ...nowhere, ...from }
  return directory.beat({ id, boot, facts, load }, { leaseMs, claim: false, sample: [], from: position, ...options })
}
const read = (from: Partial<Position> = nowhere, sample: string[] = []): Promise<HeartbeatReply> =>
  directory.beat(undefined, { leaseMs, claim: false, from: { ...nowhere, ...from }, sample })
const listed = async (): Promise<string[]> => [...(await read()).changes.keys()]
const score = async (kind: string, id: string): Promise<number> => Number(await own.client.zscore(key(kind), id))

describe('a heartbeat', () => {
  test('writes the entry with its lease, and replies with all entries to a reader without a position', async () => {
    const { epoch, ...reply } = await beat('a', { sample: ['a', 'b'] })
    assert.deepEqual(reply, {
      ...{ version: 1, cursor: '', more: false, full: true, changed: true, rival: undefined, reset: false },
      ...{ changes: new Map([['a', 'boot facts']]), removed: new Map(), loads: new Map([['a', 'load']]) },
    })
    assert.equal(epoch, '1800000000.000000')
    assert.equal(await score('lease', 'a'), start + leaseMs)
    assert.deepEqual(await own.client.hgetall(key('meta')), { epoch, version: '1', beat: String(start) })
  })

  test('renews the lease and the load without a change', async () => {
    const { epoch, version } = await beat('a')
    await pass(1_000)
    const { changes, ...reply } = await beat('a', { load: 'more', from: { epoch, version }, sample: ['a'] })
    assert.deepEqual([changes.size, reply.changed, reply.full, reply.version], [0, false, false, 1])
    assert.deepEqual(reply.loads, new Map([['a', 'more']]))
    assert.equal(await score('lease', 'a'), start + 1_000 + leaseMs)
  })

  test('replies with the changes after the position of the reader, and no others', async () => {
    const { epoch } = await beat('a')
    await beat('b')
    const changed = await beat('a', { facts: 'new', from: { epoch, version: 2 } })
    assert.deepEqual([changed.changed, changed.version], [true, 3])
    assert.deepEqual(changed.changes, new Map([['a', 'boot new']]))
    for (const [version, ids] of [
      [0, ['b', 'a']],
      [1, ['b', 'a']],
      [2, ['a']],
      [3, []],
    ] as const) {
      const reply = await read({ epoch, version })
      assert.deepEqual([[...reply.changes.keys()], reply.full, reply.changed], [ids, false, false])
    }
  })

  test('replies with all entries to a reader of another epoch or ahead of the changes', async () => {
    const { epoch } = await beat('a')
    await beat('b')
    for (const from of [
      { epoch: 'other', version: 2 },
      { epoch, version: 3 },
    ]) {
      const reply = await read(from)
      assert.deepEqual([[...reply.changes.keys()], reply.full, reply.epoch], [['a', 'b'], true, epoch])
    }
  })

  test('keeps a thousand changes, and replies with all entries to a reader further behind', async () => {
    const { epoch } = await beat('a')
    await own.client.hset(key('meta'), 'version', 1_500)
    const changes = Array.from({ length: 1_000 }, (_, i) => [i + 501, `p${i + 501}`]).flat()
    await own.client.zadd(key('changes'), ...changes)
    await own.client.zrem(key('changes'), 'a')
    assert.equal((await read({ epoch, version: 499 })).full, true)
    const behind = await read({ epoch, version: 500 })
    assert.deepEqual([behind.full, behind.changes.size, behind.changes.get('p501')], [false, 100, undefined])
    assert.deepEqual([behind.more, behind.version], [true, 600])
    const last = await read({ epoch, version: 1_400 })
    assert.deepEqual([last.changes.size, last.more, last.version], [100, false, 1_500])
    await beat('b')
    assert.equal(await own.client.zcard(key('changes')), 1_000)
    assert.deepEqual([await score('changes', 'b'), await own.client.zscore(key('changes'), 'p501')], [1_501, null])
  })

  test('replies with pages of all entries, and with the changes meanwhile, to a reader without a position', async () => {
    const ids = Array.from({ length: 400 }, (_, i) => `p${i}`)
    await beat('a')
    await own.client.zadd(key('lease'), ...ids.flatMap((id) => [start + leaseMs, id]))
    await own.client.hset(key('facts'), ...ids.flatMap((id) => [id, `boot ${id}`]))
    const found = new Map<string, string | undefined>()
    let [reply, calls, from] = [await read(), 1, 0]
    assert.deepEqual([reply.full, reply.more], [true, true])
    for (; ; calls++) {
      assert.ok(reply.changes.size < 200, `${reply.changes.size} in one reply`)
      for (const [id, stored] of reply.changes) found.set(id, stored)
      if (!reply.more) break
      if (calls === 1) await beat('p7', { facts: 'changed', claim: true })
      from = reply.version
      reply = await read(reply)
      assert.deepEqual([reply.full, reply.version >= from], [false, true])
    }
    assert.ok(calls >= 4, `${calls} calls`)
    assert.deepEqual(new Set(found.keys()), new Set(['a', ...ids]))
    assert.deepEqual([found.get('p8'), found.get('p7'), reply.cursor], ['boot p8', 'boot changed', ''])
    assert.deepEqual([(await read(reply)).changes.size, (await read(reply)).more], [0, false])
  })

  test('only reads without an entry', async () => {
    const { epoch, ...reply } = await read()
    assert.deepEqual([reply.changes.size, reply.version, reply.changed], [0, 0, false])
    await pass(1)
    assert.equal((await read()).epoch, epoch)
    assert.deepEqual(await own.client.exists(key('lease'), key('facts'), key('load'), key('changes')), 0)
  })
})

describe('an expired instance', () => {
  test('is removed when its lease ends, not before', async () => {
    await beat('a')
    await pass(2_999)
    const { epoch, version } = await beat('b')
    assert.deepEqual(await listed(), ['a', 'b'])
    await pass(1)
    const reply = await beat('b', { from: { epoch, version } })
    assert.deepEqual([reply.changes, reply.changed], [new Map([['a', undefined]]), true])
    assert.deepEqual(await listed(), ['b'])
    for (const kind of ['facts', 'load']) assert.equal(await own.client.hexists(key(kind), 'a'), 0)
  })

  test('is removed with at most 99 others by one heartbeat', async () => {
    await beat('a', { leaseMs: 60_000 })
    await own.client.zadd(key('lease'), ...Array.from({ length: 150 }, (_, i) => [start - 1, `p${i}`]).flat())
    for (const left of [51, 1]) {
      await read()
      assert.equal(await own.client.zcard(key('lease')), left)
    }
  })

  test('stays after an outage until all instances had time to reconnect', async () => {
    await beat('a')
    await pass(leaseMs + 1)
    await beat('b', { leaseMs })
    assert.equal(await own.client.hget(key('meta'), 'spare'), String(start + leaseMs + 1 + graceMs))
    for (const ms of [2_000, 2_000, 1_999]) {
      await pass(ms)
      await beat('b')
      assert.deepEqual(await listed(), ['a', 'b'])
    }
    await pass(1)
    assert.deepEqual(await listed(), ['b'])
  })

  test('is removed at once if the last heartbeat of any instance was one lease ago', async () => {
    await beat('a')
    await pass(leaseMs)
    await beat('b')
    assert.deepEqual(await listed(), ['b'])
  })
})

describe('of two processes with one id', () => {
  test('the second gets the entry of the first, and changes nothing without a claim', async () => {
    await beat('a', { boot: 'one' })
    await pass(1_000)
    const reply = await beat('a', { boot: 'two', load: 'other', sample: ['a'] })
    assert.deepEqual([reply.rival, reply.changed, reply.version], ['one facts', false, 1])
    assert.deepEqual([reply.changes.get('a'), reply.loads.get('a')], ['one facts', 'load'])
    assert.equal(await score('lease', 'a'), start + leaseMs)
  })

  test('the second takes the id with a claim, and gets the entry that it displaced', async () => {
    await beat('a', { boot: 'one' })
    await pass(1_000)
    const reply = await beat('a', { boot: 'two', load: 'other', sample: ['a'], claim: true })
    assert.deepEqual([reply.rival, reply.changed, reply.version], ['one facts', true, 2])
    assert.deepEqual([reply.changes.get('a'), reply.loads.get('a')], ['two facts', 'other'])
    assert.equal(await score('lease', 'a'), start + 1_000 + leaseMs)
    assert.equal((await beat('a', { boot: 'two' })).rival, undefined)
  })

  test('only the owner of the entry removes it when it leaves', async () => {
    const { epoch } = await beat('a', { boot: 'one' })
    await beat('b')
    assert.equal(await directory.leave({ id: 'a', boot: 'two' }), false)
    assert.equal(await directory.leave({ id: 'nobody', boot: 'one' }), false)
    assert.deepEqual(await listed(), ['a', 'b'])
    assert.equal(await directory.leave({ id: 'a', boot: 'one' }), true)
    const reply = await read({ epoch, version: 2 })
    assert.deepEqual([reply.changes, reply.version], [new Map([['a', undefined]]), 3])
    assert.equal(await directory.leave({ id: 'a', boot: 'one' }), false)
  })
})

test('an outage of Redis deletes nothing', async () => {
  for (const reason of ['Command timed out', 'Connection is closed.', 'OOM command not allowed', 'READONLY replica']) {
    const calls: string[] = []
    const beatFails = async (): Promise<never> => {
      calls.push('beat')
      throw new Error(reason)
    }
    const reset = async (): Promise<void> => void calls.push('reset')
    const client = {
      defineCommand() {},
      fleetRegistryBeat: beatFails,
      fleetRegistryLeave: reset,
      fleetRegistryReset: reset,
    }
    const failing = new RedisDirectory(client as never, key)
    await assert.rejects(failing.beat(undefined, { leaseMs, claim: false, from: nowhere, sample: [] }), /^FleetError/)
    assert.deepEqual(calls, ['beat'], reason)
  }
})

describe('data of another application', () => {
  test('a lease further ahead than ten minutes is removed', async () => {
    await beat('a', { leaseMs: 600_000 })
    await own.client.zadd(key('lease'), start + 600_001, 'far')
    assert.deepEqual(await listed(), ['a'])
    assert.equal(await own.client.zscore(key('lease'), 'far'), null)
  })

  test('a time of grace further ahead than a lease could cause is ignored', async () => {
    for (const [aheadMs, ids] of [
      [603_000, ['b', 'a']],
      [603_001, ['a']],
    ] as const) {
      await beat('a')
      await own.client.zadd(key('lease'), start - 1, 'b')
      await own.client.hset(key('meta'), 'spare', start + aheadMs)
      assert.deepEqual(await listed(), ids)
    }
  })

  for (const version of ['x', '-1', '1.5', '10000000000001'])
    test(`begins a new epoch instead of the version ${version}`, async () => {
      const { epoch } = await beat('a')
      await own.client.hset(key('meta'), 'version', version)
      await pass(1)
      const reply = await beat('b', { from: { epoch, version: 1 } })
      assert.deepEqual([reply.full, reply.changed, reply.version, reply.epoch], [true, true, 1, '1800000000.001000'])
      assert.deepEqual(new Set(reply.changes.keys()), new Set(['a', 'b']))
      assert.deepEqual(await own.client.zrange(key('changes'), 0, '-1'), ['b'])
    })

  test('counts on from a large version', async () => {
    const { epoch } = await beat('a')
    await own.client.hset(key('meta'), 'version', '10000000000000')
    const reply = await beat('b', { from: { epoch, version: 10_000_000_000_000 } })
    assert.deepEqual([reply.full, reply.version, [...reply.changes.keys()]], [false, 10_000_000_000_001, ['b']])
  })

  test('ignores times that are not numbers', async () => {
    await beat('a')
    await own.client.hset(key('meta'), 'beat', 'x', 'spare', 'y')
    assert.deepEqual(await listed(), ['a'])
    assert.equal(await own.client.hget(key('meta'), 'spare'), 'y')
    await pass(leaseMs)
    assert.deepEqual(await listed(), [])
  })

  test('a change ahead of the version is removed by the next one, and not returned before', async () => {
    const { epoch } = await beat('a')
    await own.client.zadd(key('changes'), 500, 'ghost')
    assert.deepEqual((await read({ epoch, version: 0 })).changes, new Map([['a', 'boot facts']]))
    await beat('b')
    assert.deepEqual(await own.client.zrange(key('changes'), 0, '-1'), ['a', 'b'])
  })

  test('more changes than versions make a reader read all entries', async () => {
    const { epoch } = await beat('a')
    await beat('b')
    await own.client.zadd(key('changes'), 2, 'x', 2, 'y')
    const reply = await read({ epoch, version: 1 })
    assert.deepEqual([reply.full, [...reply.changes.keys()]], [true, ['a', 'b']])
  })

  test('an instance without facts is unknown, not gone', async () => {
    const { epoch, version } = await beat('a')
    await beat('b')
    await own.client.hdel(key('facts'), 'a', 'b')
    assert.deepEqual((await read({ epoch, version })).changes, new Map([['b', '?']]))
    assert.deepEqual((await read()).changes.get('a'), '?')
  })

  test('an entry or a load that is too long is not read', async () => {
    const [facts, load] = ['f'.repeat(16_384 - 'boot '.length), 'l'.repeat(1_024)]
    const longest = await beat('a', { facts, load, sample: ['a'] })
    assert.deepEqual([longest.changes.get('a'), longest.loads.get('a')], [`boot ${facts}`, load])
    const longer = await beat('a', { facts: `${facts}f`, load: `${load}l`, sample: ['a'] })
    assert.deepEqual([longer.changes.get('a'), longer.loads.has('a')], ['?', false])
    assert.equal((await beat('a', { boot: 'two' })).rival?.length, 16_384)
  })

  test('a reply has about a hundred entries of at most 16 KiB', async () => {
    const facts = 'f'.repeat(16_384)
    const ids = Array.from({ length: 10_001 }, (_, i) => `p${String(i).padStart(5, '0')}`)
    await own.client.zadd(key('lease'), ...ids.flatMap((id) => [start + 1_000, id]))
    await own.client.hset(key('facts'), Object.fromEntries(ids.map((id) => [id, facts])))
    const { changes, more } = await read()
    assert.ok(changes.size >= 100 && changes.size < 150, String(changes.size))
    assert.deepEqual([new Set(changes.values()), more], [new Set([facts]), true])
  })

  for (const kind of ['lease', 'facts', 'load', 'changes', 'meta'])
    test(`a value of another type in place of ${kind} is deleted with the rest`, async () => {
      await beat('a')
      await own.client.set(key(kind), 'text')
      const reply = await beat('b', { sample: ['b'] })
      assert.deepEqual([reply.reset, reply.version, reply.full, reply.changes.size], [true, 1, true, 1])
      assert.deepEqual([...reply.loads.keys()], ['b'])
    })
})
