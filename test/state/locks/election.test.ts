import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Candidate } from '../../../src/state/locks/election.ts'
import { mockTimers } from '../../helpers/clock.ts'
import { until } from '../../helpers/until.ts'
import { clock, FakeStore } from './fake-store.ts'

const ttlMs = 3_000

/** A candidate whose store, eligibility and job the test controls. `events` has what happens, in order. */
function campaign(t: TestContext, { heldForMs, eligible = true }: { heldForMs?: number; eligible?: boolean } = {}) {
  const events: string[] = []
  const store = new FakeStore()
  if (heldForMs !== undefined) store.attempt = { heldForMs }
  store.onCommand = (command) => events.push(command)
  const state = { eligible }
  const job = { run: async (_signal: AbortSignal): Promise<unknown> => undefined }
  const log = {
    info: () => {},
    warn: (_details: object, text: string) => events.push(`warn ${/job ignores/.exec(text)}`),
    error: (_details: object, text: string) => events.push(`error ${/job failed/.exec(text)}`),
  }
  const candidate = new Candidate({
    store,
    name: 'leader job',
    ttlMs,
    log: log as never,
    eligible: () => state.eligible,
    announce: async () => void events.push('announce'),
    fn: (signal) => {
      events.push('lead')
      signal.addEventListener('abort', () => events.push('abort'))
      return job.run(signal)
    },
  })
  // Not awaited: the job of a failed test may never end.
  t.after(() => void candidate.stop())
  return { candidate, store, state, job, events }
}

/** Passes time, in which the steps of an election follow one another. */
async function pass(t: TestContext, ms: number): Promise<void> {
  for (let i = 0; i < 3; i++) await turn()
  t.mock.timers.tick(ms)
  for (let i = 0; i < 3; i++) await turn()
}

describe('a candidate', () => {
  test('leads until it stops, keeps the lease until its job has ended, and announces that afterwards', async (t) => {
    const { candidate, job, events } = campaign(t)
    const work = Promise.withResolvers<void>()
    job.run = () => work.promise
    await until(() => candidate.leading)
    const stopped = candidate.stop()
    assert.equal(candidate.leading, false)
    await turn()
    assert.deepEqual(events, ['acquire 3000', 'lead', 'abort'])
    work.resolve()
    await stopped
    assert.deepEqual(events, ['acquire 3000', 'lead', 'abort', 'release', 'announce'])
  })

  for (const [what, change] of [
    ['stops', ({ candidate }) => void candidate.stop()],
    ['may no longer lead', ({ state }) => void Object.assign(state, { eligible: false })],
  ] as [string, (of: ReturnType<typeof campaign>) => void][])
    test(`that ${what} during an attempt gives the lease back, and its job does not start`, async (t) => {
      const all = campaign(t, { heldForMs: 60_000 })
      const { candidate, store, events } = all
      await turn()
      events.length = 0
      store.attempt = { token: 1 }
      store.onAcquire = () => change(all)
      candidate.reconsider()
      await until(() => events.includes('announce'))
      assert.deepEqual([events, candidate.leading], [['acquire 3000', 'release', 'announce'], false])
    })

  test('tries again 1 ms after the lease of the leader ends, and not before', async (t) => {
    mockTimers(t)
    const { candidate, store } = campaign(t, { heldForMs: 700 })
    await pass(t, 700)
    assert.deepEqual([store.commands.length, candidate.leading], [1, false])
    store.attempt = { token: 2 }
    await pass(t, 1)
    assert.equal(candidate.leading, true)
  })

  test('tries again half a second after a failure of Redis', async (t) => {
    mockTimers(t)
    const { candidate, store } = campaign(t, { heldForMs: 0 })
    store.onAcquire = () => {
      throw new Error('no Redis')
    }
    candidate.reconsider()
    await pass(t, 0)
    const tried = (): number => store.commands.filter((command) => command.startsWith('acquire')).length
    const before = tried()
    await pass(t, 499)
    assert.equal(tried(), before)
    store.onAcquire = () => {}
    store.attempt = { token: 1 }
    await pass(t, 2)
    assert.equal(candidate.leading, true)
  })

  test('tries again at once when it reconsiders, also during an attempt', async (t) => {
    mockTimers(t)
    const { candidate, store } = campaign(t, { heldForMs: 60_000 })
    await pass(t, 0)
    assert.equal(store.commands.length, 1)
    store.onAcquire = () => {
      store.onAcquire = () => {
        store.attempt = { token: 1 }
      }
      candidate.reconsider()
    }
    candidate.reconsider()
    await pass(t, 0)
    assert.deepEqual([store.commands.length, candidate.leading], [3, true])
  })

  test('releases the lease of a failed job and pauses, so that another instance leads', async (t) => {
    mockTimers(t)
    t.mock.method(Math, 'random', () => 0)
    const { candidate, job, events } = campaign(t)
    job.run = async () => {
      job.run = async () => undefined
      throw new Error('not yet')
    }
    await pass(t, 499)
    assert.deepEqual(events, ['acquire 3000', 'lead', 'error job failed', 'abort', 'release', 'announce'])
    assert.equal(candidate.leading, false)
    await pass(t, 1)
    assert.deepEqual(events.slice(6), ['acquire 3000', 'lead'])
    assert.equal(candidate.leading, true)
  })

  test('pauses longer after each failure, up to 30 s, whatever other instances announce', async (t) => {
    const { pass: tick } = clock(t)
    t.mock.method(Math, 'random', () => 1)
    const { candidate, store, job, events } = campaign(t)
    const turns = async (): Promise<void> => {
      for (let i = 0; i < 8; i++) await turn()
    }
    const runs = (): number => events.filter((event) => event === 'lead').length
    job.run = async () => {
      throw new Error('not yet')
    }
    await turns()
    for (const [i, seconds] of [1, 2, 4, 8, 16, 30, 30].entries()) {
      candidate.reconsider()
      await tick(seconds * 1_000 - 1)
      await turns()
      assert.equal(runs(), i + 1, `${seconds} s`)
      await tick(1)
      await turns()
      assert.equal(runs(), i + 2, `${seconds} s`)
    }
    assert.equal(events.filter((event) => event === 'error job failed').length, runs())

    const work = Promise.withResolvers<void>()
    job.run = () => work.promise
    await tick(30_000)
    await turns()
    assert.equal(candidate.leading, true)
    store.renewed = async () => true
    for (let i = 0; i < 40; i++) await tick(1_000)
    work.reject(new Error('after 40 s'))
    await turns()
    const before = runs()
    await tick(1_000)
    await turns()
    assert.equal(runs(), before + 1, 'a long run starts over at the first pause')
  })

  test('that pauses after a failure ends at once when it stops', async (t) => {
    mockTimers(t)
    const { candidate, job, events } = campaign(t)
    job.run = async () => {
      throw new Error('not yet')
    }
    await pass(t, 0)
    assert.equal(events.at(-1), 'announce')
    assert.equal(await Promise.race([candidate.stop(), pass(t, 1).then(() => 'it waits')]), undefined)
    assert.equal(events.filter((event) => event === 'lead').length, 1)
  })

  test('reports no failure of a job that its own abort ended', async (t) => {
    const { candidate, job, events } = campaign(t)
    job.run = (signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))))
    await until(() => candidate.leading)
    await candidate.stop()
    assert.deepEqual(events, ['acquire 3000', 'lead', 'abort', 'release', 'announce'])
  })

  test('lets the lease expire if its job ignores the abort for ttlMs, and waits for the job', async (t) => {
    mockTimers(t)
    const { candidate, job, events } = campaign(t)
    const work = Promise.withResolvers<void>()
    job.run = () => work.promise
    await pass(t, 0)
    let ended = false
    const stopped = candidate.stop().then(() => {
      ended = true
    })
    await pass(t, ttlMs - 1)
    assert.deepEqual(
      events.filter((event) => /warn|release/.test(event)),
      [],
    )
    await pass(t, 1)
    assert.deepEqual(
      events.filter((event) => /warn|release/.test(event)),
      ['warn job ignores'],
    )
    assert.equal(ended, false)
    work.resolve()
    await stopped
    assert.ok(!events.includes('release'), 'another instance may have the lease by now')
  })

  test('that is not eligible sends no command, and leads when it becomes eligible', async (t) => {
    mockTimers(t)
    const { candidate, store, state } = campaign(t, { eligible: false })
    await pass(t, ttlMs - 1)
    assert.deepEqual(store.commands, [])
    state.eligible = true
    await pass(t, 1)
    assert.equal(candidate.leading, true)
    state.eligible = false
    candidate.reconsider()
    await pass(t, 0)
    assert.deepEqual([candidate.leading, store.commands.at(-1)], [false, 'release'])
  })

  test('that stopped tries no more', async (t) => {
    const { candidate, store } = campaign(t, { heldForMs: 5 })
    await candidate.stop()
    const { length } = store.commands
    candidate.reconsider()
    await turn()
    assert.deepEqual([store.commands.length, candidate.leading], [length, false])
  })
})
