import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  type FakeGroup,
  killMarginMs,
  outcome,
  readyTimeoutMs,
  replaced,
  restartMs,
  servingGroup,
  shutdownTimeoutMs,
  turn,
} from './fake-workers.ts'

const handover = { fleet: 'shutdown', handover: true }
const sent = ({ workers }: FakeGroup): unknown[] => workers.map((worker) => worker.sent)

describe('reload', () => {
  it('replaces one worker after the other, and stops an old one only when the new one is ready', async (t) => {
    const group = await servingGroup(t)
    const { supervisor, workers, worker, logged, pass } = group
    const reloaded = outcome(supervisor.reload())
    await turn()
    assert.equal(workers.length, 3)
    const { FLEET_WORKER, FLEET_READY_TIMEOUT, INSTANCE_ID } = worker(2).env
    assert.deepEqual([FLEET_WORKER, FLEET_READY_TIMEOUT], [1, String(readyTimeoutMs + killMarginMs)])
    assert.match(String(INSTANCE_ID), /^app-1-/)
    await worker(2).tell({ fleet: 'hello' })
    await worker(2).listen()
    assert.deepEqual(sent(group), [[], [], []], 'listening is not ready')
    await worker(2).tell('ready')
    assert.deepEqual(sent(group), [[handover], [], []])
    assert.equal(worker(0).released, false, 'the parent keeps its sockets for the successor')
    assert.deepEqual([workers.length, reloaded, supervisor.serving.ready], [3, {}, 2])
    await worker(0).end(0)
    assert.equal(workers.length, 4)
    await worker(3).serve()
    assert.deepEqual([sent(group), reloaded], [[[handover], [handover], [], []], {}])
    await worker(1).end(0)
    assert.deepEqual(reloaded, { value: 'done' })
    const ready = { level: 'info', msg: 'worker ready', reason: 'reload' }
    assert.deepEqual(logged('worker ready').slice(2), [
      { ...ready, worker: 1, workerPid: 103, replaces: 101 },
      { ...ready, worker: 2, workerPid: 104, replaces: 102 },
    ])
    assert.deepEqual([logged('reloading').length, logged('reloaded').length], [1, 1])
    assert.deepEqual([logged('worker ended'), workers.length], [[], 4], 'an old worker is not restarted')
    assert.deepEqual(await replaced(group, 2), { crash: 0, stuck: 0, memory: 0, reload: 2 })
    await worker(3).end(3)
    await pass(restartMs)
    assert.equal(workers.length, 5, 'a new one that ends is restarted')
  })

  for (const [what, begin, expected] of [
    ['ends', async ({ worker }: FakeGroup) => await worker(2).end(1), 'ended before it was ready'],
    ['does not listen', async () => undefined, 'was not ready within 5000 ms'],
    [
      'listens without being ready',
      async ({ worker }: FakeGroup) => {
        await worker(2).tell({ fleet: 'hello' })
        await worker(2).listen()
      },
      'was not ready within 5000 ms',
    ],
  ] as const) {
    it(`is abandoned if a new worker ${what}: it is stopped and all old ones keep serving`, async (t) => {
      const group = await servingGroup(t)
      const { supervisor, workers, worker, logged, pass } = group
      const reloaded = outcome(supervisor.reload())
      await turn()
      await begin(group)
      await pass(readyTimeoutMs - 1)
      const asked = [...worker(2).sent, ...worker(2).signals]
      assert.deepEqual(asked, what === 'ends' ? ['SIGTERM'] : [])
      await pass(1)
      const expectedSignals = what === 'listens without being ready' ? [] : ['SIGTERM']
      assert.deepEqual([worker(2).signals, worker(2).released], [expectedSignals, false])
      assert.deepEqual(worker(2).sent, what === 'listens without being ready' ? [handover] : [])
      if (what !== 'ends') await worker(2).end(0)
      assert.equal(reloaded.error?.code, 'FLEET_ERR_WORKER_NOT_READY')
      assert.ok(reloaded.error.message.includes(`new worker 1 ${expected}; the old one keeps serving`))
      const [{ replaced, kept, level } = {} as never, ...more] = logged('reload abandoned')
      assert.deepEqual([replaced, kept, level, more], [0, 2, 'error', []])
      await pass(restartMs * 3)
      assert.deepEqual([worker(0).sent, worker(1).sent, workers.length], [[], [], 3])
      assert.deepEqual(supervisor.serving, { up: 2, ready: 2, of: 2 })
    })
  }

  it('can follow one that was abandoned', async (t) => {
    const { supervisor, worker } = await servingGroup(t, { workers: 1 })
    const first = outcome(supervisor.reload())
    await turn()
    await worker(1).end(1)
    assert.equal(first.error?.code, 'FLEET_ERR_WORKER_NOT_READY')
    const second = outcome(supervisor.reload())
    await turn()
    await worker(2).serve()
    await worker(0).end(0)
    assert.deepEqual(second, { value: 'done' })
  })

  it('leaves no successor twice if the old worker ends first, and keeps the new one', async (t) => {
    const { supervisor, workers, worker, pass } = await servingGroup(t, { workers: 1 })
    const reloaded = outcome(supervisor.reload())
    await turn()
    await worker(0).end(3)
    await pass(restartMs * 3)
    assert.equal(workers.length, 2, 'its replacement is on its way')
    await worker(1).serve()
    assert.deepEqual([reloaded, supervisor.serving.ready, workers.length], [{ value: 'done' }, 1, 2])
  })

  it('restarts a worker whose old process ended while its replacement failed', async (t) => {
    const { supervisor, workers, worker, pass } = await servingGroup(t, { workers: 1 })
    const reloaded = outcome(supervisor.reload())
    await turn()
    await worker(0).end(3)
    await worker(1).end(1)
    assert.equal(reloaded.error?.code, 'FLEET_ERR_WORKER_NOT_READY')
    await pass(restartMs)
    assert.equal(workers.length, 3)
    await worker(2).serve()
    assert.equal(supervisor.serving.ready, 1)
  })

  it('replaces the restart of a crashed worker that was still waiting', async (t) => {
    const { supervisor, workers, worker, pass } = await servingGroup(t, { workers: 1 })
    await worker(0).end(3)
    const reloaded = outcome(supervisor.reload())
    await turn()
    assert.equal(workers.length, 2)
    await pass(restartMs * 3)
    assert.equal(workers.length, 2)
    await worker(1).serve()
    assert.deepEqual(reloaded, { value: 'done' })
  })

  it('reports an old worker that did not drain in time: it is killed, and the reload succeeds', async (t) => {
    const { supervisor, worker, logged, pass } = await servingGroup(t, { workers: 1 })
    const reloaded = outcome(supervisor.reload())
    await turn()
    await worker(1).serve()
    await pass(shutdownTimeoutMs + killMarginMs - 1)
    assert.deepEqual(worker(0).signals, [])
    await pass(1)
    assert.deepEqual(worker(0).signals, ['SIGKILL'])
    await worker(0).end(null, 'SIGKILL')
    assert.deepEqual(reloaded, { value: 'done' })
    const line = { level: 'warn', msg: 'old worker was killed before it had drained', worker: 1, workerPid: 101 }
    assert.deepEqual(logged(line.msg), [line])
  })

  it('follows the one that runs, once for all that were requested meanwhile', async (t) => {
    const { supervisor, workers, worker } = await servingGroup(t, { workers: 1 })
    const first = outcome(supervisor.reload())
    await turn()
    const [second, third] = [supervisor.reload(), supervisor.reload()]
    assert.equal(second, third)
    await worker(1).serve()
    await worker(0).end(0)
    assert.deepEqual([first, workers.length], [{ value: 'done' }, 3])
    const followed = outcome(second)
    await worker(2).serve()
    await worker(1).end(0)
    assert.deepEqual([followed, workers.length], [{ value: 'done' }, 3])
  })

  it('does not begin while the group stops, and stops its replacement too', async (t) => {
    const { supervisor, workers, worker } = await servingGroup(t, { workers: 2 })
    const reloaded = outcome(supervisor.reload())
    await turn()
    await worker(2).tell({ fleet: 'hello' })
    const stopped = outcome(supervisor.stop())
    await turn()
    assert.deepEqual(worker(2).sent[0], { fleet: 'shutdown', handover: false })
    for (const running of [...workers]) await running.end(0)
    assert.equal(reloaded.error?.code, 'FLEET_ERR_WORKER_NOT_READY')
    assert.deepEqual([stopped, workers.length], [{ value: 0 }, 3])
    const later = outcome(supervisor.reload())
    await turn()
    assert.match(later.error?.message ?? '', /the group is not running/)
    assert.equal(workers.length, 3)
  })
})

describe('drain', () => {
  it('reaches every other worker, and those that start later, until it is reverted', async (t) => {
    const group = await servingGroup(t, { workers: 3 })
    const { supervisor, worker, pass } = group
    await worker(1).tell({ fleet: 'drain' })
    assert.deepEqual(sent(group), [[{ fleet: 'drain' }], [], [{ fleet: 'drain' }]])
    await worker(0).end(3)
    await pass(restartMs)
    await worker(3).serve()
    assert.deepEqual(worker(3).sent, [{ fleet: 'drain' }])
    void supervisor.reload()
    await turn()
    await worker(4).serve()
    assert.deepEqual(worker(4).sent, [{ fleet: 'drain' }])
    await worker(3).end(0)
    await worker(2).tell({ fleet: 'undrain' })
    assert.deepEqual(worker(4).sent, [{ fleet: 'drain' }, { fleet: 'undrain' }])
    await worker(5).serve()
    assert.deepEqual(worker(5).sent, [{ fleet: 'undrain' }], 'it had been forked before')
    await worker(1).end(0)
    await worker(6).serve()
    assert.deepEqual(worker(6).sent, [])
  })
})

describe('scrape', () => {
  it('asks the workers that have the plugin and serve, and adds the counts of the group', async (t) => {
    const { supervisor, worker, pass } = await servingGroup(t, { workers: 3 })
    await worker(2).end(3)
    await pass(restartMs)
    await worker(3).tell({ fleet: 'hello' })
    await worker(0).tell({ fleet: 'scrape', id: 7 })
    assert.deepEqual(worker(3).sent, [], 'it does not serve yet')
    const requests = [0, 1].map((index) => worker(index).sent.at(-1))
    assert.deepEqual(
      requests,
      [1, 1].map((id) => ({ fleet: 'collect', id })),
    )
    const values = (value: number) => [{ name: 'hits', help: '', type: 'counter', values: [{ value, labels: {} }] }]
    await worker(0).tell({ fleet: 'figures', id: 1, snapshots: [values(5)] })
    await worker(1).tell({ fleet: 'figures', id: 1, snapshots: [values(6)] })
    const message = worker(0).sent.at(-1) as { fleet: string; id: number; snapshots: ReturnType<typeof values>[] }
    assert.deepEqual([message.fleet, message.id, worker(1).sent.length], ['group', 7, 1])
    const series = message.snapshots
      .flat()
      .flatMap(({ name, values }) =>
        values.map(({ value, labels }) => `${[name, ...Object.values(labels)].join(' ')} ${value}`),
      )
    assert.deepEqual(series.sort(), [
      'fleet_partial_scrapes_total 0',
      'fleet_worker_starts_total crash 1',
      'fleet_worker_starts_total memory 0',
      'fleet_worker_starts_total reload 0',
      'fleet_worker_starts_total stuck 0',
      'fleet_workers missing 1',
      'fleet_workers serving 2',
      'fleet_workers_silent 0',
      'hits 5',
      'hits 6',
    ])
    assert.equal(supervisor.serving.up, 2)
  })

  it('does not wait for a worker that ends', async (t) => {
    const { worker } = await servingGroup(t)
    await worker(0).tell({ fleet: 'scrape', id: 7 })
    await worker(0).tell({ fleet: 'figures', id: 1, snapshots: [] })
    assert.equal(worker(0).sent.at(-1)?.fleet, 'collect')
    await worker(1).end(0)
    assert.equal(worker(0).sent.at(-1)?.fleet, 'group')
  })

  it('waits a second for a worker that is silent', async (t) => {
    const { worker, pass } = await servingGroup(t)
    await worker(0).tell({ fleet: 'scrape', id: 7 })
    await worker(0).tell({ fleet: 'figures', id: 1, snapshots: [] })
    await pass(999)
    assert.equal(worker(0).sent.at(-1)?.fleet, 'collect')
    await pass(1)
    assert.equal(worker(0).sent.at(-1)?.fleet, 'group')
  })
})
