import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Heartbeat, type RegistryHealth } from '../../../src/state/registry/heartbeat.ts'
import type { HeartbeatReply, RedisDirectory, RegistryEntry } from '../../../src/state/registry/redis-directory.ts'
import { clock, entries, leaseMs, nothing, peer, stored } from './fake-peers.ts'

function open(t: TestContext) {
  const beats: { entry: RegistryEntry | undefined; options: Parameters<RedisDirectory['beat']>[1] }[] = []
  const directory = {
    reply: async (): Promise<HeartbeatReply> => nothing,
    left: async (): Promise<boolean> => true,
    beat(entry: RegistryEntry | undefined, options: Parameters<RedisDirectory['beat']>[1]) {
      beats.push({ entry, options })
      return directory.reply()
    },
    leave: () => directory.left(),
  }
  const health: RegistryHealth[] = []
  const logged: string[] = []
  let announced = 0
  const log = {
    warn: (_details: object, text: string) => logged.push(`warn ${text}`),
    error: (_details: object, text: string) => logged.push(`error ${text}`),
  }
  const heartbeat = new Heartbeat({
    ...{ entries: entries(), boot: 'boot', leaseMs, self: () => peer('self') },
    directory: directory as unknown as RedisDirectory,
    log: log as never,
    announce: async () => void announced++,
    onHealth: (state) => health.push(state),
  })
  t.after(() => heartbeat.close())
  const replyOnce = (reply: Partial<HeartbeatReply>): void => {
    directory.reply = async () => {
      directory.reply = async () => nothing
      return { ...nothing, ...reply }
    }
  }
  return { heartbeat, directory, beats, health, logged, replyOnce, announced: () => announced }
}

describe('a heartbeat', () => {
  test('does not hold up the start of an instance for longer than its limit', async (t) => {
    const { heartbeat, directory, logged } = open(t)
    directory.reply = () => new Promise((done) => setImmediate(done, { ...nothing, more: true }))
    await heartbeat.start(20)
    assert.match(logged.join(), /warn registry: Redis is slow; serving before/)
    directory.reply = async () => nothing
    await heartbeat.start(60_000)
    assert.equal(logged.length, 1)
  })

  test('comes three times per lease, and renews for 55 % of it', async (t) => {
    const pass = clock(t)
    const { heartbeat, beats } = open(t)
    heartbeat.join()
    await pass(0)
    assert.deepEqual([beats.length, beats[0]?.options.leaseMs], [1, 1_650])
    await pass(999)
    assert.equal(beats.length, 1)
    await pass(1)
    assert.equal(beats.length, 2)
    heartbeat.close()
    await pass(10_000)
    assert.equal(beats.length, 2)
  })

  test('is repeated after a twelfth of the lease while Redis is unavailable, with one warning', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats, health, logged } = open(t)
    directory.reply = () => Promise.reject(new Error('no Redis'))
    heartbeat.join()
    await pass(0)
    await pass(249)
    assert.equal(beats.length, 1)
    await pass(1)
    assert.equal(beats.length, 2)
    assert.deepEqual([health, logged.length], [['last-known'], 1])
    directory.reply = async () => nothing
    await pass(250)
    assert.deepEqual(health, ['last-known', 'live'])
  })

  test('claims the id once: with the first success since the instance joined', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats } = open(t)
    await heartbeat.beat()
    assert.deepEqual([beats[0]?.entry, beats[0]?.options.claim], [undefined, false], 'it has not joined')
    directory.reply = () => Promise.reject(new Error('no Redis'))
    heartbeat.join()
    await pass(0)
    directory.reply = async () => nothing
    await pass(250)
    await pass(1_000)
    assert.deepEqual(
      beats.map(({ options }) => options.claim),
      [false, true, true, false],
    )
    assert.equal(beats[1]?.entry?.id, 'self')
  })

  test('requested during another one follows at once; one for a peer, 50 ms later', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats } = open(t)
    for (const [request, ms] of [
      [() => heartbeat.changed(), 0],
      [() => heartbeat.peerChanged(), 50],
    ] as const) {
      const reply = Promise.withResolvers<HeartbeatReply>()
      directory.reply = () => reply.promise
      heartbeat.beat()
      const before = beats.length
      request()
      request()
      assert.equal(beats.length, before)
      directory.reply = async () => nothing
      reply.resolve(nothing)
      for (let i = 0; i < 3; i++) await turn()
      if (ms > 0) await pass(ms - 1)
      assert.equal(beats.length, before)
      await pass(1)
      assert.equal(beats.length, before + 1)
    }
  })

  test('for the change of a peer comes at once, or 50 ms after the last one', async (t) => {
    const pass = clock(t)
    const { heartbeat, beats } = open(t)
    heartbeat.peerChanged()
    await pass(0)
    assert.equal(beats.length, 1)
    await pass(20)
    heartbeat.peerChanged()
    heartbeat.peerChanged()
    await pass(29)
    assert.equal(beats.length, 1)
    await pass(1)
    assert.equal(beats.length, 2)
    await pass(50)
    heartbeat.peerChanged()
    assert.equal(beats.length, 3)
  })

  test('for changes of peers comes at most once per millisecond for each peer, so that large fleets do not overload Redis', async (t) => {
    const pass = clock(t)
    const { heartbeat, beats, replyOnce } = open(t)
    replyOnce({ changes: new Map(Array.from({ length: 200 }, (_, i) => [`p${i}`, stored(`p${i}`)])) })
    heartbeat.peerChanged()
    await pass(0)
    heartbeat.peerChanged()
    await pass(199)
    assert.equal(beats.length, 1)
    await pass(1)
    assert.equal(beats.length, 2)
    await pass(200)
    heartbeat.peerChanged()
    heartbeat.peerChanged() // While a heartbeat runs.
    await pass(0)
    await pass(199)
    assert.equal(beats.length, 3)
    await pass(1)
    assert.equal(beats.length, 4)
  })

  test('announces a change, reads from where the last one ended, and anew after a loss of the connection', async (t) => {
    const pass = clock(t)
    const { heartbeat, beats, replyOnce, announced } = open(t)
    replyOnce({ changed: true, version: 7 })
    heartbeat.join()
    await pass(0)
    await pass(1_000)
    assert.deepEqual([announced(), beats[1]?.options.from], [1, { epoch: 'e', version: 7, cursor: '' }])
    heartbeat.restart()
    await pass(0)
    assert.deepEqual(beats[2]?.options.from, { epoch: '', version: 0, cursor: '' })
    await pass(1_000)
    assert.deepEqual(beats[3]?.options.from, { epoch: 'e', version: 1, cursor: '' })
  })

  test('reads all pages at once the first time, and one per 50 ms after that', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats } = open(t)
    const readThree = (): void => {
      let left = 3
      directory.reply = async () => ({ ...nothing, more: --left > 0, cursor: left > 0 ? String(left) : '' })
    }
    readThree()
    await heartbeat.beat()
    assert.deepEqual(
      beats.map(({ options }) => options.from.cursor),
      ['', '2', '1'],
    )
    readThree()
    await heartbeat.beat()
    assert.equal(beats.length, 4)
    for (const count of [5, 6, 6]) {
      await pass(50)
      assert.equal(beats.length, count)
    }
  })

  test('reads the figures of 8 peers; a survey reads all, at most every half second', async (t) => {
    const pass = clock(t)
    const { heartbeat, beats, replyOnce } = open(t)
    replyOnce({ changes: new Map(Array.from({ length: 20 }, (_, i) => [`p${i}`, stored(`p${i}`)])) })
    heartbeat.join()
    await pass(0)
    await pass(1_000)
    const samples = (): number[] => beats.map(({ options }) => options.sample.length)
    assert.deepEqual(samples(), [0, 8])
    assert.equal((await heartbeat.survey()).length, 21)
    assert.deepEqual(samples(), [0, 8, 20])
    await pass(500)
    await heartbeat.survey()
    assert.deepEqual(samples(), [0, 8, 20])
    await pass(1)
    await heartbeat.survey()
    assert.deepEqual(samples(), [0, 8, 20, 20])
  })

  test('that runs when the instance closes is the last one', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats } = open(t)
    const reply = Promise.withResolvers<HeartbeatReply>()
    directory.reply = () => reply.promise
    heartbeat.beat()
    heartbeat.close()
    reply.resolve(nothing)
    await pass(10_000)
    await pass(10_000)
    assert.equal(beats.length, 1)
  })

  test('makes figures as old as its request, however late the reply is', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats } = open(t)
    await pass(1_000)
    directory.reply = async () => {
      await pass(400)
      return nothing
    }
    await heartbeat.survey()
    await pass(101)
    const before = beats.length
    await heartbeat.survey()
    assert.equal(beats.length, before + 1)
  })

  test('that runs is waited for by a survey, which then reads all figures', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats, replyOnce } = open(t)
    replyOnce({ changes: new Map(Array.from({ length: 20 }, (_, i) => [`p${i}`, stored(`p${i}`)])) })
    heartbeat.join()
    await pass(0)
    const reply = Promise.withResolvers<HeartbeatReply>()
    directory.reply = () => reply.promise
    heartbeat.beat()
    const survey = heartbeat.survey()
    await turn()
    directory.reply = async () => nothing
    reply.resolve(nothing)
    await survey
    assert.deepEqual(
      beats.map(({ options }) => options.sample.length),
      [0, 8, 20],
    )
  })

  test('that failed was no survey: the next one reads again', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats } = open(t)
    await pass(1_000)
    directory.reply = () => Promise.reject(new Error('no Redis'))
    await heartbeat.survey()
    directory.reply = async () => nothing
    await heartbeat.survey()
    assert.equal(beats.length, 2)
  })

  test('keeps peers that are missing after a loss of data for a lease and the time to connect again', async (t) => {
    const pass = clock(t)
    const { heartbeat, replyOnce } = open(t)
    const ids = (): string => String(heartbeat.peers.map(({ id }) => id))
    const all = { full: true, changes: new Map(['p', 'q'].map((id) => [id, stored(id)])) }
    replyOnce(all)
    await heartbeat.beat()
    replyOnce({ full: true, changes: new Map([['q', stored('q')]]) })
    await heartbeat.beat()
    await pass(leaseMs + 2_999)
    await heartbeat.beat()
    assert.equal(ids(), 'p,q,self')
    await pass(1)
    await heartbeat.beat()
    assert.equal(ids(), 'q,self')
  })

  test('that runs ends before the instance leaves, because it would add it again', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory } = open(t)
    let leaves = 0
    directory.left = async () => ++leaves > 0
    heartbeat.join()
    await pass(0)
    const reply = Promise.withResolvers<HeartbeatReply>()
    directory.reply = () => reply.promise
    heartbeat.beat()
    const leaving = heartbeat.leave()
    for (let i = 0; i < 3; i++) await turn()
    assert.equal(leaves, 0)
    reply.resolve(nothing)
    await leaving
    assert.equal(leaves, 1)
  })

  test('leaves once, if the instance had joined, and announces that', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, beats, announced, logged } = open(t)
    let leaves = 0
    directory.left = async () => ++leaves > 0
    const outside = open(t)
    outside.directory.left = async () => ++leaves > 0
    await outside.heartbeat.leave()
    assert.equal(leaves, 0)
    heartbeat.join()
    await pass(0)
    const left = heartbeat.leave()
    assert.equal(heartbeat.leave(), left, 'both wait for the same reply')
    await left
    assert.deepEqual([leaves, announced()], [1, 1])
    await pass(1_000)
    assert.equal(beats.at(-1)?.entry, undefined, 'it only reads from now on')
    const foreign = open(t)
    foreign.directory.left = async () => false
    foreign.heartbeat.join()
    await pass(0)
    await foreign.heartbeat.leave()
    assert.equal(foreign.announced(), 0, 'another process has the id')
    const down = open(t)
    down.directory.left = () => Promise.reject(new Error('no Redis'))
    down.heartbeat.join()
    await pass(0)
    await down.heartbeat.leave()
    assert.deepEqual([down.announced(), down.logged.length, logged.length], [0, 1, 0])
  })
})

describe('another process with the same id', () => {
  test('that this one displaced is a warning; that took the id is an error, once, and "displaced"', async (t) => {
    const pass = clock(t)
    const { heartbeat, directory, health, logged } = open(t)
    directory.reply = async () => ({ ...nothing, rival: stored('self', 'other') })
    heartbeat.join()
    await pass(0)
    assert.deepEqual(health, ['live'])
    assert.match(logged.join('\n'), /^warn registry: another process had this id/)
    await pass(1_000)
    await pass(1_000)
    assert.deepEqual(health, ['live', 'displaced'])
    assert.match(logged.slice(1).join('\n'), /^error registry: another process took this id[^\n]*$/)
    directory.reply = async () => nothing
    await pass(1_000)
    assert.deepEqual(health, ['live', 'displaced', 'live'])
  })

  for (const [what, rival, reason] of [
    ['an unsigned entry', 'other {}', 'unsigned'],
    ['an entry of another fleet', stored('self', 'other', entries('x'.repeat(32))), 'signature'],
  ] as const)
    test(`is not ${what}: it is counted and replaced`, async (t) => {
      const pass = clock(t)
      const { heartbeat, beats, health, replyOnce } = open(t)
      heartbeat.join()
      await pass(0)
      replyOnce({ rival })
      await pass(1_000)
      assert.deepEqual([health, heartbeat.rejections[reason]], [['live'], 1])
      await pass(49)
      assert.equal(beats.length, 2)
      await pass(1)
      assert.equal(beats[2]?.options.claim, true)
      await pass(1_000)
      assert.equal(beats[3]?.options.claim, false)
    })

  test('is not an entry signed before this process claimed the id, and written back later', async (t) => {
    const pass = clock(t)
    for (const [ms, expected] of [
      [0, 'live'],
      [1, 'displaced'],
    ] as const) {
      const { heartbeat, health, replyOnce } = open(t)
      const before = stored('self', 'other')
      await pass(1 - ms)
      heartbeat.join()
      await pass(0)
      replyOnce({ rival: before })
      await pass(1_000)
      assert.equal(health.at(-1), expected)
      assert.equal(heartbeat.rejections.stale, 1 - ms)
    }
  })

  test('foreign content that was deleted is counted', async (t) => {
    const pass = clock(t)
    const { heartbeat, replyOnce, logged } = open(t)
    replyOnce({ reset: true })
    heartbeat.join()
    await pass(0)
    assert.equal(heartbeat.rejections.foreign, 1)
    assert.equal(logged.length, 1)
  })
})
