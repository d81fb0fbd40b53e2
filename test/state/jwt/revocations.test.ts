import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import {
  type Revocation,
  RevocationFeed,
  type RevocationPage,
  Revocations,
} from '../../../src/state/jwt/revocations.ts'

const begun = 1_800_000_000
const revocation = (kind: Revocation['kind'], id: string, until: number, cutoff = 0): Revocation => ({
  ...{ kind, id, cutoff },
  until: begun + until,
})

describe('the revocations in memory', () => {
  test('are dropped once their tokens have expired, with an addition at least a minute after the last time', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: begun * 1000 })
    const revocations = new Revocations()
    const sizeAt = (ms: number): number => {
      t.mock.timers.setTime(begun * 1000 + ms)
      revocations.add(revocation('token', 'last', 1_000_000))
      return revocations.size
    }
    assert.equal(sizeAt(0), 1)
    for (const kind of ['token', 'session', 'subject'] as const) revocations.add(revocation(kind, 'a', 60))
    revocations.add(revocation('subject', 'b', 61))
    assert.deepEqual([sizeAt(59_999), sizeAt(60_000), sizeAt(61_000), sizeAt(119_999)], [5, 5, 5, 5])
    assert.equal(sizeAt(120_000), 1)
  })

  test('last as long as the longest one of a token, session or subject', (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: begun * 1000 })
    const revocations = new Revocations()
    for (const kind of ['token', 'session', 'subject'] as const)
      for (const until of [100, 50]) revocations.add(revocation(kind, 'a', until))
    t.mock.timers.setTime((begun + 100) * 1000)
    revocations.add(revocation('token', 'other', 1_000))
    assert.deepEqual([revocations.size, revocations.version], [4, 7])
  })
})

describe('the feed of revocations', () => {
  function open(t: TestContext) {
    t.mock.timers.enable({ apis: ['Date', 'setInterval'], now: begun * 1000 })
    const asked: string[] = []
    const replies: { resolve(page: RevocationPage): void; reject(error: Error): void }[] = []
    const since = (cursor: string): Promise<RevocationPage> => {
      asked.push(cursor)
      return new Promise((resolve, reject) => replies.push({ resolve, reject }))
    }
    const revocations = new Revocations()
    revocations.knownUntil = 0
    const feed = new RevocationFeed(since, revocations)
    t.after(() => feed.close())
    const reply = async (page: Partial<RevocationPage> | Error): Promise<void> => {
      const next = replies.shift()
      if (page instanceof Error) next?.reject(page)
      else next?.resolve({ cursor: '0', revocations: [], more: false, ...page })
      await turn()
    }
    const known = (): number => revocations.knownUntil - begun * 1000
    return { feed, revocations, asked, reply, known, pass: (ms: number) => t.mock.timers.tick(ms) }
  }

  test('reads every 400 ms from where it ended, and is known for a second from the begin of the read', async (t) => {
    const { feed, revocations, asked, reply, known, pass } = open(t)
    pass(399)
    assert.deepEqual(asked, [])
    pass(1)
    assert.deepEqual(asked, ['0'])
    pass(300)
    await reply({ cursor: '7', revocations: [revocation('token', 'a', 900)] })
    assert.deepEqual([known(), revocations.size], [1_400, 1])
    pass(100)
    assert.deepEqual(asked, ['0', '7'])
    pass(200)
    await reply(new Error('unavailable'))
    assert.equal(known(), 1_400)
    pass(200)
    assert.deepEqual(asked, ['0', '7', '7'])
    await reply({ cursor: '7' })
    assert.equal(known(), 2_200)
    feed.close()
    pass(5_000)
    assert.equal(asked.length, 3)
  })

  test('reads all pages at once, and is known as of the last one', async (t) => {
    const { feed, revocations, asked, reply, known, pass } = open(t)
    const reading = feed.sync()
    assert.equal(feed.sync(), reading)
    await reply({ cursor: '5', more: true, revocations: [revocation('token', 'a', 900)] })
    assert.deepEqual([asked, known()], [['0', '5'], -begun * 1000])
    pass(100)
    await reply({ cursor: '6', revocations: [revocation('token', 'b', 900)] })
    await reading
    assert.deepEqual([asked, revocations.size, known()], [['0', '5'], 2, 1_000])
  })

  test('reads again after an announcement that a read may have missed, once', async (t) => {
    const { feed, asked, reply } = open(t)
    feed.pull()
    await reply({ cursor: '1' })
    assert.deepEqual(asked, ['0'], 'no read was running')
    feed.pull()
    feed.pull()
    feed.pull()
    await reply({ cursor: '2' })
    assert.deepEqual(asked, ['0', '1', '2'])
    await reply({ cursor: '2' })
    assert.equal(asked.length, 3)
  })

  test('reads the whole log after a failover, although a read was running', async (t) => {
    const { feed, revocations, asked, reply, known } = open(t)
    feed.pull()
    await reply({ cursor: '9' })
    feed.pull()
    feed.restart()
    await reply({ cursor: '10' })
    assert.deepEqual(asked, ['0', '9', '0'])
    await reply({ cursor: '3', revocations: [revocation('session', 'a', 900)] })
    assert.deepEqual([revocations.size, known()], [1, 1_000])
    assert.deepEqual(asked, ['0', '9', '0', '3'])
  })

  test('reads the whole log after a failover during the first read', async (t) => {
    const { feed, revocations, asked, reply, known } = open(t)
    feed.pull()
    feed.restart()
    await reply({ cursor: '9' })
    assert.deepEqual([asked, known()], [['0', '0'], -begun * 1000])
    await reply({ cursor: '3', revocations: [revocation('session', 'a', 900)] })
    assert.deepEqual([asked, revocations.size, known()], [['0', '0', '3'], 1, 1_000])
  })

  test('rejects while Redis is unavailable', async (t) => {
    const { feed, reply } = open(t)
    const reading = feed.sync()
    await Promise.all([assert.rejects(reading, { message: 'unavailable' }), reply(new Error('unavailable'))])
  })
})
