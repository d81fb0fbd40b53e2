import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type FakeGroup, outcome, replaced, restartMs, servingGroup, turn } from './fake-workers.ts'

const checkMs = 500
const beat = { fleet: 'beat', rss: 50 } as const

/** Lets time pass in which these workers, and no others, send heartbeats. */
async function passWithBeats(group: FakeGroup, ms: number, beating: readonly number[]): Promise<void> {
  for (let rest = ms; rest > 0; rest -= checkMs) {
    await group.pass(Math.min(checkMs, rest))
    for (const index of beating) await group.worker(index).tell(beat)
  }
}

describe('a worker without heartbeats', () => {
  it('is killed after more than stuckAfterMs and restarted as stuck; any message counts as a heartbeat', async (t) => {
    const group = await servingGroup(t, { stuckAfterMs: 3_000 })
    const { worker, workers, logged, pass } = group
    await passWithBeats(group, 3_000, [1])
    await worker(0).tell({ fleet: 'undrain' })
    await passWithBeats(group, 3_000, [1])
    assert.deepEqual([worker(0).signals, worker(1).signals], [[], []])
    await passWithBeats(group, checkMs, [1])
    assert.deepEqual([worker(0).signals, worker(1).signals], [['SIGKILL'], []])
    const line = { level: 'error', msg: 'worker stuck: killed', worker: 1, workerPid: 101, silentMs: 3_500 }
    assert.deepEqual(logged(line.msg), [line])
    await worker(0).end(null, 'SIGKILL')
    await pass(restartMs)
    assert.equal(workers.length, 3)
    assert.deepEqual(await replaced(group, 1), { crash: 0, stuck: 1, memory: 0, reload: 0 })
  })

  it('is not watched if it has no plugin, is starting, or is stopping', async (t) => {
    const group = await servingGroup(t, { stuckAfterMs: 1_000, workers: 3 })
    const { supervisor, worker, workers } = group
    worker(2).connected = false
    await worker(2).end(1)
    await passWithBeats(group, checkMs, [0, 1])
    await worker(3).listen()
    void supervisor.reload().catch(() => undefined)
    await turn()
    await worker(4).tell({ fleet: 'hello' })
    await passWithBeats(group, 4_000, [0, 1])
    assert.deepEqual(
      workers.map(({ signals }) => signals),
      [[], [], [], [], []],
    )
  })

  it('is not killed at once when it listens or is ready after a silent start', async (t) => {
    const group = await servingGroup(t, { stuckAfterMs: 1_000, workers: 1 })
    const { worker, pass } = group
    await worker(0).end(3)
    await pass(restartMs)
    await worker(1).tell({ fleet: 'hello' })
    await pass(2_000)
    await worker(1).listen()
    await pass(1_000)
    await worker(1).tell('ready')
    await pass(1_000)
    assert.deepEqual(worker(1).signals, [])
    await pass(checkMs)
    assert.deepEqual(worker(1).signals, ['SIGKILL'])
  })

  it('is not killed after this process itself stood still, but once it stays silent', async (t) => {
    const group = await servingGroup(t, { stuckAfterMs: 1_000, workers: 1 })
    let stood = 0
    const now = performance.now
    t.mock.method(performance, 'now', () => now() + stood)
    stood = 60_000
    await group.pass(checkMs)
    assert.deepEqual(group.worker(0).signals, [])
    await group.pass(1_000)
    assert.deepEqual(group.worker(0).signals, [])
    await group.pass(checkMs)
    assert.deepEqual(group.worker(0).signals, ['SIGKILL'])
  })

  it('is killed after a pause of this process of two seconds, but not after a longer one', async (t) => {
    for (const [pauseMs, signals] of [
      [2_000, ['SIGKILL']],
      [2_001, []],
    ] as const) {
      const group = await servingGroup(t, { stuckAfterMs: 1_000, workers: 1 })
      let paused = 0
      const now = performance.now
      t.mock.method(performance, 'now', () => now() + paused)
      paused = pauseMs - checkMs
      await group.pass(checkMs)
      assert.deepEqual(group.worker(0).signals, signals)
      t.mock.timers.reset()
      t.mock.restoreAll()
    }
  })

  it('is found while another slot waits for a restart', async (t) => {
    const group = await servingGroup(t, { stuckAfterMs: 1_000 }, 1)
    const { worker, workers, pass } = group
    for (let ended = 0; ended < 2; ended++) {
      await worker(ended === 0 ? 0 : 2).end(3)
      await passWithBeats(group, ended === 0 ? 500 : 100, [1])
    }
    assert.equal(workers.length, 3, 'the next restart is due after 900 ms')
    await pass(700)
    assert.equal(workers.length, 3)
    await pass(800)
    assert.deepEqual(worker(1).signals, ['SIGKILL'])
  })

  it('is not killed once the group stops', async (t) => {
    const group = await servingGroup(t, { stuckAfterMs: 1_000 })
    void group.supervisor.stop()
    await group.pass(5_000)
    assert.deepEqual(group.worker(0).signals, [])
  })
})

describe('a worker above its memory limit', () => {
  const limit = { memoryLimit: 100, stuckAfterMs: 600_000 }
  const above = { fleet: 'beat', rss: 101 } as const

  it('is replaced after six checks in a row, not earlier and not at the limit', async (t) => {
    const group = await servingGroup(t, { ...limit, workers: 1 })
    const { worker, workers, logged, pass } = group
    await worker(0).tell(above)
    await pass(checkMs * 5)
    await worker(0).tell({ fleet: 'beat', rss: 100 })
    await pass(checkMs * 20)
    await worker(0).tell(above)
    await pass(checkMs * 5)
    assert.deepEqual([workers.length, logged('worker above its memory limit')], [1, []])
    await pass(checkMs)
    const warning = { level: 'warn', msg: 'worker above its memory limit', worker: 1, workerPid: 101 }
    assert.deepEqual(logged(warning.msg), [{ ...warning, rss: 101, memoryLimit: 100 }])
    assert.equal(workers.length, 2)
    await worker(1).serve()
    assert.equal(logged('worker ready').at(-1)?.reason, 'memory')
    assert.deepEqual(worker(0).sent, [{ fleet: 'shutdown', handover: true }])
    assert.deepEqual(await replaced(group, 1), { crash: 0, stuck: 0, memory: 1, reload: 0 })
  })

  it('is replaced once, however long its replacement takes', async (t) => {
    const { worker, workers, logged, pass } = await servingGroup(t, { ...limit, workers: 1 })
    await worker(0).tell(above)
    await pass(checkMs * 20)
    assert.deepEqual([workers.length, worker(1).signals], [2, ['SIGTERM']])
    assert.equal(logged('worker above its memory limit').length, 1)
    await worker(1).end(0)
    assert.equal(workers.length, 2, 'no further attempt was queued')
  })

  it('is exempt until the delay is over if it cannot be replaced', async (t) => {
    const { worker, workers, logged, pass } = await servingGroup(t, { ...limit, workers: 1 }, 1)
    await worker(0).tell(above)
    await pass(checkMs * 6)
    await worker(1).end(1)
    assert.equal(logged('worker not replaced').length, 1)
    // Delays of 300 and then 900 ms.
    await pass(checkMs)
    assert.equal(workers.length, 3)
    await worker(2).end(1)
    await pass(checkMs)
    assert.equal(workers.length, 3)
    await pass(checkMs)
    assert.equal(workers.length, 4)
    assert.deepEqual(worker(0).sent, [])
  })

  it('is exempt for the shortest delay only if it has run for more than 30 seconds', async (t) => {
    const { worker, workers, pass } = await servingGroup(t, { ...limit, workers: 1 }, 1)
    await pass(31_000)
    await worker(0).tell(above)
    await pass(checkMs * 6)
    for (const attempt of [1, 2, 3]) {
      assert.equal(workers.length, attempt + 1)
      await worker(attempt).end(1)
      await pass(checkMs)
    }
  })

  it('has none with 0', async (t) => {
    const { worker, workers, pass } = await servingGroup(t, { ...limit, memoryLimit: 0 })
    await worker(0).tell({ fleet: 'beat', rss: Number.MAX_SAFE_INTEGER })
    await pass(checkMs * 10)
    assert.equal(workers.length, 2)
  })

  it('is not replaced twice if a reload has replaced it meanwhile', async (t) => {
    const { supervisor, worker, workers, pass } = await servingGroup(t, { ...limit, workers: 1 })
    const reloaded = outcome(supervisor.reload())
    await turn()
    await worker(0).tell(above)
    await pass(checkMs * 6)
    await worker(1).serve()
    await worker(0).end(0)
    assert.deepEqual([reloaded, workers.length], [{ value: 'done' }, 2])
  })
})
