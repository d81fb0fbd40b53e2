import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'
import {
  applyChanges,
  checkSize,
  difference,
  isAnonymous,
  parseRecord,
  type SessionRecord,
} from '../../../src/state/session/record.ts'
import { Sessions } from '../../../src/state/session/repository.ts'

const tooLarge = (error: unknown) => error instanceof FleetError && error.code === 'FLEET_ERR_SESSION_TOO_LARGE'
const now = 1_800_000_000_000

describe('the size of a session', () => {
  for (const [what, text] of [
    ['one byte', 'x'.repeat(100)],
    ['two bytes', 'é'.repeat(50)],
    ['three bytes', `${'€'.repeat(33)}x`],
  ] as const)
    test(`is counted in bytes, up to and including \`maxBytes\`, for characters of ${what}`, () => {
      checkSize(text, 100)
      checkSize(text, 101)
      assert.throws(() => checkSize(text, 99), tooLarge)
      assert.throws(() => checkSize(`${text}x`, 100), tooLarge)
    })

  test('beyond a lowered limit may shrink or stay, and not grow', () => {
    const before = 'x'.repeat(120)
    for (const size of [119, 120]) checkSize('x'.repeat(size), 100, before)
    assert.throws(() => checkSize('x'.repeat(121), 100, before), tooLarge)
  })

  test('is limited for new sessions, for changes, and for what remains after a merge', () => {
    const sessions = new Sessions(new MemoryRecordStore(), { maxBytes: 60 })
    const data = (length: number) => ({ a: 'x'.repeat(length) })
    const largest = 60 - Buffer.byteLength(sessions.snapshot(data(0)))
    sessions.create('1', data(largest), {})
    assert.throws(() => sessions.create('2', data(largest + 1), {}), tooLarge)
    const baseline = sessions.snapshot(data(largest))
    const replacing = new Sessions(new MemoryRecordStore(), { maxBytes: 60, merge: false })
    replacing.create('1', data(largest), {})
    assert.throws(() => replacing.update('1', data(largest + 1), baseline, {}), tooLarge)
    assert.throws(() => sessions.update('1', data(largest + 1), baseline), tooLarge)
    const text = `{"cookie":{}${sessions.snapshot({ a: 'x' })}`
    const size = Buffer.byteLength(sessions.snapshot({ a: 'x', b: 1 }))
    applyChanges(text, new Map([['"b"', '1']]), size)
    assert.throws(() => applyChanges(text, new Map([['"b"', '1']]), size - 1), tooLarge)
    assert.throws(() => applyChanges(text, new Map([['"b"', '10']]), size), tooLarge)
  })
})

describe('the index of a user', () => {
  test('loses the sessions that are ended or belong to another user, and lives as long as they do', async () => {
    const store = new MemoryRecordStore()
    const calls: unknown[] = []
    store.removeFromUser = (...args: unknown[]) => void calls.push(['remove', ...args])
    store.addToUser = (...args: unknown[]) => void calls.push(['add', ...args])
    store.idsOfUser = () => ['1', '2', '3', 'gone']
    const sessions = new Sessions(store)
    sessions.create('1', { userId: 'ann' }, {})
    sessions.create('2', { userId: 7 }, { expires: Date.now() + 60_000 })
    const [, [, user, id, life]] = calls.splice(0) as [unknown, [string, string, string, number]]
    assert.deepEqual([user, id, life > 50_000 && life <= 60_000], ['7', '2', true])
    sessions.create('3', { userId: 'ann' }, {})
    assert.deepEqual(calls.splice(0), [['add', 'ann', '3', 86_400_000]], 'a day without a cookie')
    const listed = await sessions.list('ann')
    assert.deepEqual([listed.map(({ sessionId }) => sessionId), sessions.counts.loaded], [['1', '3'], 3])
    const stale = [
      ['remove', 'ann', '2'],
      ['remove', 'ann', 'gone'],
    ]
    assert.deepEqual(calls.splice(0), stale)
    assert.equal(await sessions.destroyAll('ann', { except: '1' }), 2)
    assert.deepEqual(calls.splice(0), [['remove', 'ann', '2'], ['remove', 'ann', '3'], stale[1]])
    assert.deepEqual([sessions.counts.destroyed, sessions.counts.created], [2, 3])
  })

  test('still names the sessions that destroyAll() could not end, so that it can be repeated', async (t) => {
    const store = new MemoryRecordStore()
    const sessions = new Sessions(store)
    for (const id of ['1', '2']) sessions.create(id, { userId: 'ann' }, {})
    const destroy = t.mock.method(store, 'destroy', () => Promise.reject(new Error('no Redis')))
    await assert.rejects(sessions.destroyAll('ann'), /no Redis/)
    destroy.mock.restore()
    assert.equal(await sessions.destroyAll('ann'), 2)
    assert.equal(store.size, 0)
  })

  test('lives as long as a session whose lifetime is extended, or a day after a login without that', (t) => {
    t.mock.method(Date, 'now', () => now)
    const store = new MemoryRecordStore()
    const lives: unknown[] = []
    store.addToUser = (...[user, , life]: unknown[]) => void lives.push([user, life])
    const sessions = new Sessions(store)
    sessions.create('1', {}, {})
    sessions.update('1', { userId: 'ann' }, sessions.snapshot({}))
    const month = 30 * 86_400_000
    sessions.update('1', { userId: 'ann' }, sessions.snapshot({ userId: 'ann' }), { expires: now + month })
    assert.deepEqual(lives, [
      ['ann', 86_400_000],
      ['ann', month],
    ])
  })
})

describe('overlapping changes', () => {
  test('of different fields are all kept, and of one field the last one', () => {
    const sessions = new Sessions(new MemoryRecordStore())
    sessions.create('1', { a: 1, b: 1, gone: 1 }, {})
    const baseline = sessions.snapshot({ a: 1, b: 1, gone: 1 })
    assert.equal(sessions.update('1', { a: 2, b: 1, gone: 1 }, baseline), true)
    assert.equal(sessions.update('1', { a: 1, b: 3, c: 4 }, baseline), true)
    const { cookie: _, ...data } = (sessions.load('1') as SessionRecord).data
    assert.deepEqual(data, { a: 2, b: 3, c: 4 })
  })

  test('without `merge` replace the whole session', () => {
    const sessions = new Sessions(new MemoryRecordStore(), { merge: false })
    const before = { a: 1, b: 1 }
    sessions.create('1', before, {})
    sessions.update('1', { a: 2, b: 1 }, sessions.snapshot(before), {})
    sessions.update('1', { a: 1, b: 3 }, sessions.snapshot(before), {})
    assert.equal((sessions.load('1') as SessionRecord).data.a, 1)
  })

  test('contain what differs and nothing else; an empty text removes', () => {
    const text = (data: object) => new Sessions(new MemoryRecordStore()).snapshot(data as Record<string, unknown>)
    const found = difference(text({ a: 1, b: 2, c: 3 }), text({ a: 1, b: 4, d: 5 }))
    assert.deepEqual(
      [...found],
      [
        ['"b"', '4'],
        ['"d"', '5'],
        ['"c"', ''],
      ],
    )
  })

  test('of an ended session write nothing and leave no trace in the index of its user', async () => {
    const store = new MemoryRecordStore()
    const sessions = new Sessions(store)
    const data = { userId: 'ann' }
    sessions.create('1', data, {})
    sessions.destroy('1', sessions.snapshot(data))
    assert.equal(sessions.update('1', { userId: 'ann', a: 1 }, sessions.snapshot(data), {}), false)
    assert.equal(store.size, 0)
    assert.deepEqual(store.idsOfUser('ann'), [])
    assert.deepEqual([sessions.counts.saved, sessions.counts.destroyed], [0, 1])
  })
})

describe('the sessions of a user', () => {
  test('are listed and ended for that user only, and move when a session changes its user', async () => {
    const sessions = new Sessions(new MemoryRecordStore())
    const ann = { userId: 'ann' }
    for (const id of ['1', '2', '3']) sessions.create(id, ann, {})
    sessions.create('4', { userId: 'bob' }, {})
    sessions.update('3', { userId: 'bob' }, sessions.snapshot(ann))
    const ids = async (user: string) => (await sessions.list(user)).map(({ sessionId }) => sessionId).sort()
    assert.deepEqual([await ids('ann'), await ids('bob'), await ids('eve')], [['1', '2'], ['3', '4'], []])
    assert.equal(await sessions.destroyAll('ann', { except: '1' }), 1)
    assert.deepEqual([await ids('ann'), await ids('bob')], [['1'], ['3', '4']])
    assert.equal(await sessions.destroyAll('ann'), 1)
    assert.equal(await sessions.destroyAll('ann'), 0)
    assert.deepEqual(await ids('bob'), ['3', '4'])
  })

  test('do not include an ended session, or one of another user, that the index still names', async () => {
    const store = new MemoryRecordStore()
    const sessions = new Sessions(store)
    sessions.create('1', { userId: 'bob' }, {})
    for (const id of ['1', 'ended']) store.addToUser('ann', id)
    assert.deepEqual(await sessions.list('ann'), [])
    assert.deepEqual(store.idsOfUser('ann'), [], 'the index is corrected')
    store.addToUser('ann', 'ended')
    assert.equal(await sessions.destroyAll('ann'), 0)
    assert.ok(sessions.load('1'))
  })
})

describe('a session in memory', () => {
  const text = '{"cookie":{}\n}'

  test('ends at the millisecond, for reads and for changes', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now })
    const store = new MemoryRecordStore()
    for (const id of ['1', '2', '3']) store.write(id, text, 1000)
    t.mock.timers.setTime(now + 999)
    assert.equal(store.read('1'), text)
    assert.equal(store.merge('2', new Map([['"a"', '1']]), 0, 1000), true, 'keeps its time to live')
    t.mock.timers.setTime(now + 1000)
    assert.deepEqual([store.read('1'), store.read('2')], [null, null])
    assert.equal(store.merge('3', new Map([['"a"', '1']]), 5000, 1000), false)
    assert.equal(store.replace('3', text, 5000), false)
    assert.equal(store.read('3'), null)
  })

  test('lives for the time of its last change, if that gives one', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now })
    const store = new MemoryRecordStore()
    store.write('1', text, 1000)
    store.merge('1', new Map([['"a"', '1']]), 5000, 1000)
    t.mock.timers.setTime(now + 4999)
    assert.notEqual(store.read('1'), null)
    assert.equal(store.replace('1', text, 10), true)
    t.mock.timers.setTime(now + 5009)
    assert.equal(store.read('1'), null)
  })

  test('is evicted beyond the number and the size of sessions, and not at them', () => {
    const byNumber = new MemoryRecordStore({ maxSessions: 2 })
    for (const id of ['1', '2']) byNumber.write(id, text, 1000)
    assert.equal(byNumber.size, 2)
    byNumber.write('3', text, 1000)
    assert.deepEqual([byNumber.size, byNumber.read('1')], [2, null])
    const bySize = new MemoryRecordStore({ maxLength: 2 * text.length })
    for (const id of ['1', '2']) bySize.write(id, text, 1000)
    assert.equal(bySize.size, 2)
    bySize.write('2', `${text} `, 1000)
    assert.deepEqual([bySize.size, bySize.read('1')], [1, null])
  })

  test('is anonymous only if its cookie says so', () => {
    assert.equal(isAnonymous('{"cookie":{"anonymous":3600000}\n}'), true)
    assert.equal(isAnonymous('{"cookie":{}\n,"anonymous":1\n}'), false)
    assert.equal(isAnonymous('{"cookie":{}\n}'), false)
  })

  test('with a cookie that would fail every response counts as missing', () => {
    const load = (cookie: unknown) => parseRecord('1', `{"cookie":${JSON.stringify(cookie)}\n}`)
    assert.ok(load({ path: '/a', domain: 'a.example', sameSite: 'lax', originalMaxAge: 1, expires: now }))
    for (const cookie of [{ path: '/;' }, { path: 1 }, { domain: 'a b' }, { domain: '-a' }, { sameSite: 'some' }])
      assert.equal(load(cookie), undefined, JSON.stringify(cookie))
    for (const cookie of [{ originalMaxAge: 'x' }, { maxAge: 'x' }, { at: 'x' }, { expires: 'x' }, { priority: {} }])
      assert.equal(load(cookie), undefined, JSON.stringify(cookie))
    for (const text of ['', '{}', '{"cookie":{}}', '{"cookie":[]\n}', '{"cookie":{}\n,\n}', null])
      assert.equal(parseRecord('1', text), undefined, String(text))
  })
})
