import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'
import { Sessions } from '../../../src/state/session/repository.ts'

describe('the index of a user, when a session', () => {
  let calls: unknown[][]
  let store: MemoryRecordStore
  let sessions: Sessions
  beforeEach(() => {
    calls = []
    store = new MemoryRecordStore()
    store.addToUser = (...args: unknown[]) => void calls.push(['add', ...args])
    store.removeFromUser = (...args: unknown[]) => void calls.push(['remove', ...args])
    sessions = new Sessions(store, { ttlMs: 5_000 })
  })
  const update = (before: Record<string, unknown>, after: Record<string, unknown>, cookie?: object): unknown =>
    sessions.update('s', after, sessions.snapshot(before), cookie)
  const during = (work: () => unknown): unknown[][] => {
    calls.length = 0
    work()
    return calls
  }

  test('is created', () => {
    assert.deepEqual(
      during(() => sessions.create('s', { userId: 'ann' }, {})),
      [['add', 'ann', 's', 5_000]],
    )
    assert.deepEqual(
      during(() => sessions.create('s', { userId: 7 }, {})),
      [['add', '7', 's', 5_000]],
    )
    for (const userId of [undefined, null, {}, ['ann'], true])
      assert.deepEqual(
        during(() => sessions.create('s', { userId }, {})),
        [],
      )
    assert.equal(sessions.counts.created, 7)
  })

  test('changes its user, or has none any more', () => {
    sessions.create('s', { userId: 'ann' }, {})
    const [ann, bob] = [{ userId: 'ann' }, { userId: 'bob' }]
    assert.deepEqual(
      during(() => update(ann, bob)),
      [
        ['add', 'bob', 's', 5_000],
        ['remove', 'ann', 's'],
      ],
    )
    assert.deepEqual(
      during(() => update(bob, {})),
      [['remove', 'bob', 's']],
    )
    assert.deepEqual(
      during(() => update({}, { a: 1 })),
      [],
    )
    assert.deepEqual(
      during(() => update({}, { userId: 7 })),
      [['add', '7', 's', 5_000]],
    )
    assert.equal(sessions.counts.saved, 4)
  })

  test('keeps its user: only with a longer lifetime', () => {
    sessions.create('s', { userId: 'ann' }, {})
    assert.deepEqual(
      during(() => update({ userId: 'ann' }, { userId: 'ann', a: 1 })),
      [],
    )
    const cookie = { expires: Date.now() + 60_000 }
    const [[add, user, id, life]] = during(() => update({ userId: 'ann' }, { userId: 'ann' }, cookie)) as [unknown[]]
    assert.deepEqual([add, user, id, Number(life) > 50_000], ['add', 'ann', 's', true])
  })

  test('has ended meanwhile', () => {
    const ended = during(() => assert.equal(update({ userId: 'ann' }, { userId: 'bob' }), false))
    assert.deepEqual(ended, [
      ['add', 'bob', 's', 5_000],
      ['remove', 'ann', 's'],
      ['remove', 'bob', 's'],
    ])
    assert.deepEqual([during(() => update({}, { a: 1 })), sessions.counts.saved], [[], 0])
  })

  test('is destroyed', () => {
    const baseline = sessions.snapshot({ userId: 'ann' })
    sessions.create('s', { userId: 'ann' }, {})
    assert.deepEqual(
      during(() => sessions.destroy('s', baseline)),
      [['remove', 'ann', 's']],
    )
    assert.equal(sessions.counts.destroyed, 1)
    assert.deepEqual(
      during(() => sessions.destroy('s', sessions.snapshot({ a: 1 }))),
      [],
    )
    assert.deepEqual(
      during(() => sessions.destroy('s')),
      [],
    )
    assert.deepEqual(
      during(() => sessions.destroy('s', '\n,"userId":[\n}')),
      [],
      'data in another form',
    )
    assert.equal(sessions.counts.destroyed, 1)
  })

  test('is named by another field', () => {
    sessions = new Sessions(store, { userId: 'account "id"' })
    assert.deepEqual(
      during(() => sessions.create('s', { userId: 'x', 'account "id"': 'ann' }, {})),
      [['add', 'ann', 's', 86_400_000]],
    )
    const baseline = sessions.snapshot({ 'account "id"': 'ann' })
    assert.deepEqual(
      during(() => sessions.destroy('s', baseline)),
      [['remove', 'ann', 's']],
    )
  })
})

describe('a listed session', () => {
  test('has the time and the device of its last visit, and its end', async () => {
    const store = new MemoryRecordStore()
    const sessions = new Sessions(store)
    const visit = async (cookie: object): Promise<unknown[]> => {
      sessions.create('s', { userId: 'ann', a: 1 }, cookie)
      const [{ sessionId, data, ...found } = assert.fail()] = await sessions.list('ann')
      assert.deepEqual([sessionId, data], ['s', { userId: 'ann', a: 1 }])
      return [found.expires?.getTime() ?? null, found.lastSeen?.getTime() ?? null, found.device]
    }
    const expires = Date.now() + 60_000
    assert.deepEqual(await visit({ at: 5, agent: 'Firefox' }), [null, 5, 'Firefox'])
    assert.deepEqual(await visit({ expires, originalMaxAge: 1_000 }), [expires, expires - 1_000, null])
    assert.deepEqual(await visit({ at: 5, expires, originalMaxAge: 1_000 }), [expires, 5, null])
    for (const cookie of [{ expires }, { originalMaxAge: 1_000 }])
      assert.equal((await visit(cookie))[1], null, JSON.stringify(cookie))
  })
})
