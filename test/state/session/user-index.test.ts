import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import Fastify from 'fastify'
import { session } from '../../../src/state/session/index.ts'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'
import { CachedRecord } from '../../../src/state/session/record.ts'
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

  test('is created: before the session exists, so that destroyAll() finds every session', () => {
    const steps: string[] = []
    store.addToUser = () => void steps.push('index')
    store.write = () => void steps.push('session')
    sessions.create('s', { userId: 'ann' }, {})
    assert.deepEqual(steps, ['index', 'session'])
  })

  test('holds no id of a user: it is saved, and reported', () => {
    const reported: unknown[] = []
    sessions.onUnlisted = (field, value) => reported.push([field, value])
    const noIds = [{ id: 7 }, ['ann'], true, Number.NaN, 'undefined', 'null', '[object Object]']
    for (const userId of [...noIds, undefined, null, false, '', 0, 'ann']) {
      const calls = during(() => sessions.create('s', { userId }, {}))
      assert.equal(calls.length, userId === 0 || userId === 'ann' ? 1 : 0, String(userId))
    }
    update({}, { userId: { id: 8 } })
    assert.deepEqual(
      reported,
      [...noIds, { id: 8 }].map((value) => ['userId', value]),
    )
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

describe('list() and destroyAll()', () => {
  test('reject what identifies no user', async () => {
    const sessions = new Sessions(new MemoryRecordStore())
    for (const value of ['undefined', 'null', '', '[object Object]', Number.NaN, undefined, null, {}, ['ann'], true])
      for (const method of ['list', 'destroyAll'] as const)
        await assert.rejects(sessions[method](value as string), { code: 'FLEET_ERR_OPTION_INVALID' }, String(value))
    await assert.rejects(sessions.list('undefined'), {
      message: /must be the id of a user, not the string 'undefined'/,
    })
    assert.equal(await sessions.destroyAll(7n as never), 0)
  })

  test('find no session whose user is an object; one warning names the field and the type', async (t) => {
    const warnings: string[] = []
    const stream = { write: (line: string) => warnings.push(JSON.parse(line).msg) }
    const app = Fastify({ logger: { level: 'warn', stream } })
    t.after(() => app.close())
    await app.register(session, { secret: 'x'.repeat(32), cookie: { secure: false }, userId: 'account' })
    app.get('/', async ({ session }) => {
      Object.assign(session, { account: { id: 7 } })
      return ''
    })
    for (let i = 0; i < 2; i++) assert.equal((await app.inject('/')).cookies.length, 1)
    const said = warnings.filter((line) => line.includes('not listed by user'))
    assert.equal(said.length, 1)
    assert.match(String(said), /`session\.account` holds an object/)
    assert.deepEqual(await app.sessions.list('7'), [])
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

  test('has data of its own, which its caller may change', async () => {
    const store = new MemoryRecordStore()
    const sessions = new Sessions(store)
    const data = { userId: 'ann', list: [{ a: 1 }] }
    sessions.create('s', data, {})
    const cached = new CachedRecord('s', String(store.read('s')))
    store.read = () => cached as never
    const [listed] = await sessions.list('ann')
    const list = listed?.data.list as object[]
    Object.assign(list[0] ?? {}, { a: 2 })
    list.push({ a: 3 })
    const [again] = await sessions.list('ann')
    assert.deepEqual(again?.data, data)
    assert.deepEqual(cached.load()?.data.list, data.list)
  })
})
