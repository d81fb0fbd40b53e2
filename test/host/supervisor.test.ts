import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { describe, it } from 'node:test'
import type { FromWorker } from '../../src/host/messages.ts'
import {
  fakeGroup,
  killMarginMs,
  outcome,
  readyTimeoutMs,
  restartMs,
  servingGroup,
  shutdownTimeoutMs,
  turn,
} from './fake-workers.ts'

describe('start', () => {
  it('forks all workers, each with its number and its own id, and waits for the last one', async (t) => {
    const env = { PORT: '3000', NODE_OPTIONS: undefined }
    const { supervisor, workers, worker, logged, setUp } = fakeGroup(t, { env })
    assert.deepEqual(setUp, [{ exec: 'app.js', args: ['--color', 'green'] }])
    assert.equal(cluster.schedulingPolicy, cluster.SCHED_NONE)
    const started = outcome(supervisor.start())
    await turn()
    assert.deepEqual(
      workers.map(({ env: { INSTANCE_ID, ...rest } }) => [String(INSTANCE_ID).replace(/[\da-f]{6}$/, '…'), rest]),
      [1, 2].map((number) => [`app-${number}-…`, { FLEET_WORKERS: 2, FLEET_WORKER: number, ...env }]),
    )
    assert.notEqual(String(worker(0).env.INSTANCE_ID).slice(-6), String(worker(1).env.INSTANCE_ID).slice(-6))
    await worker(0).serve()
    assert.deepEqual([started, supervisor.serving], [{}, { up: 1, ready: 1, of: 2 }])
    await worker(1).tell({ fleet: 'hello' })
    await worker(1).listen()
    assert.deepEqual([started, supervisor.serving], [{}, { up: 2, ready: 1, of: 2 }])
    await worker(1).tell('ready')
    assert.deepEqual([started, supervisor.serving], [{ value: 'done' }, { up: 2, ready: 2, of: 2 }])
    assert.deepEqual(
      logged('worker ready').map(({ worker, workerPid }) => [worker, workerPid]),
      [
        [1, 101],
        [2, 102],
      ],
    )
  })

  it('gives each worker its own number and id, whatever the environment of the group has', async (t) => {
    const { supervisor, workers } = fakeGroup(t, { env: { FLEET_WORKER: '9', INSTANCE_ID: 'same' } })
    void supervisor.start()
    await turn()
    assert.deepEqual(
      workers.map(({ env }) => [env.FLEET_WORKER, String(env.INSTANCE_ID).slice(0, 6)]),
      [
        [1, 'app-1-'],
        [2, 'app-2-'],
      ],
    )
  })

  it('takes an app without the plugin as ready when it listens', async (t) => {
    const { supervisor, worker } = fakeGroup(t, { workers: 1 })
    const started = outcome(supervisor.start())
    await turn()
    await worker(0).listen()
    assert.deepEqual([started, supervisor.serving.ready], [{ value: 'done' }, 1])
  })

  it('takes a program as ready that says so without listening', async (t) => {
    const { supervisor, worker } = fakeGroup(t, { workers: 1 })
    const started = outcome(supervisor.start())
    await turn()
    await worker(0).tell('ready')
    assert.deepEqual([started, supervisor.serving], [{ value: 'done' }, { up: 1, ready: 1, of: 1 }])
  })

  it('keeps a worker that listens but is not ready in time, and kills and restarts one that does not listen', async (t) => {
    const { supervisor, worker, workers, logged, pass } = fakeGroup(t)
    const started = outcome(supervisor.start())
    await turn()
    await worker(0).tell({ fleet: 'hello' })
    await worker(0).listen()
    await pass(readyTimeoutMs - 1)
    assert.deepEqual([worker(1).signals, started], [[], {}])
    await pass(1)
    assert.deepEqual([worker(0).signals, worker(1).signals, started], [[], ['SIGKILL'], {}])
    await worker(1).end(null, 'SIGKILL')
    assert.deepEqual([started, supervisor.serving], [{ value: 'done' }, { up: 1, ready: 0, of: 2 }])
    const afterMs = readyTimeoutMs
    const listens = { level: 'warn', msg: 'worker listens but is not ready; keeping it' }
    assert.deepEqual(logged(listens.msg), [{ ...listens, worker: 1, workerPid: 101, afterMs }])
    assert.deepEqual(logged('worker ready'), [])
    const silent = { level: 'error', msg: 'worker did not listen in time: killed' }
    assert.deepEqual(logged(silent.msg), [{ ...silent, worker: 2, workerPid: 102, afterMs }])
    assert.equal(workers.length, 2)
    await pass(restartMs)
    assert.equal(workers.length, 3)
    assert.equal(worker(2).env.FLEET_WORKER, 2)
  })

  it('fails if no worker serves, with the reason the workers gave, and restarts none', async (t) => {
    const serve = async (...messages: FromWorker[]) => {
      const { supervisor, worker, workers, pass } = fakeGroup(t)
      const started = outcome(supervisor.start())
      await turn()
      await worker(0).tell(...messages)
      await worker(0).end(1)
      assert.deepEqual(started, {})
      await worker(1).end(1)
      await pass(restartMs * 3)
      assert.equal(workers.length, 2)
      t.mock.timers.reset()
      t.mock.restoreAll()
      return started.error
    }
    assert.equal((await serve())?.code, 'FLEET_ERR_WORKER_NOT_READY')
    const refused = await serve({ fleet: 'refused', detail: 'in memory' } as FromWorker)
    assert.equal(refused?.code, 'FLEET_ERR_MEMORY_IN_WORKERS')
    assert.match(refused?.message ?? '', /in memory/)
  })
})

describe('a worker', () => {
  it('stays ready when it listens on a second port', async (t) => {
    const { supervisor, worker } = await servingGroup(t)
    await worker(0).listen()
    assert.deepEqual(supervisor.serving, { up: 2, ready: 2, of: 2 })
  })

  it('that ends by itself is reported by another one that serves, unless its exit code is 0', async (t) => {
    const { workers, worker, pass } = await servingGroup(t)
    const instance = worker(0).env.INSTANCE_ID
    await worker(0).end(null, 'SIGKILL')
    assert.deepEqual(worker(1).sent, [{ fleet: 'ended', instance, how: 'SIGKILL' }])
    await pass(restartMs)
    assert.equal(workers.length, 3)
    await worker(2).tell({ fleet: 'hello' })
    await worker(1).end(3)
    assert.deepEqual(worker(2).sent, [], 'it does not serve yet')
    await worker(2).serve()
    await pass(restartMs)
    await worker(3).serve()
    await worker(3).end(0)
    assert.deepEqual(worker(2).sent, [])
  })

  it('may use its channel for messages of its own', async (t) => {
    const { supervisor, workers, worker, pass } = await servingGroup(t)
    for (const message of [null, 'other', 7, { type: 'axm:reply' }]) await worker(0).tell(message as never)
    await pass(restartMs)
    assert.deepEqual([supervisor.serving, workers.length], [{ up: 2, ready: 2, of: 2 }, 2])
    assert.deepEqual(worker(1).sent, [])
  })

  it('whose channel fails does not end the group', async (t) => {
    const { supervisor, worker } = await servingGroup(t)
    worker(0).emit('error', new Error('write EPIPE'))
    assert.deepEqual(supervisor.serving, { up: 2, ready: 2, of: 2 })
  })

  it('that was asked to stop does not count as serving, whatever it reports', async (t) => {
    const { supervisor, worker } = await servingGroup(t)
    void supervisor.stop()
    await worker(0).listen()
    await worker(1).tell('ready')
    assert.deepEqual(supervisor.serving, { up: 0, ready: 0, of: 2 })
  })
})

describe('a worker that ends', () => {
  it('is restarted after a delay, with a new id, and counted by its reason', async (t) => {
    const { supervisor, worker, workers, logged, pass, changes } = await servingGroup(t)
    await pass(5_000)
    const before = changes()
    await worker(0).end(3)
    assert.deepEqual([changes(), supervisor.serving], [before + 1, { up: 1, ready: 1, of: 2 }])
    const ended = { level: 'error', msg: 'worker ended', worker: 1, workerPid: 101, code: 3, signal: null }
    assert.deepEqual(logged('worker ended'), [{ ...ended, uptimeMs: 5_000 }])
    assert.deepEqual(logged('restarting worker')[0]?.delayMs, restartMs)
    await pass(restartMs - 1)
    assert.equal(workers.length, 2)
    await pass(1)
    const { FLEET_WORKER, INSTANCE_ID } = worker(2).env
    assert.equal(FLEET_WORKER, 1)
    assert.notEqual(INSTANCE_ID, worker(0).env.INSTANCE_ID)
    await worker(2).serve()
    assert.deepEqual([changes(), supervisor.serving], [before + 2, { up: 2, ready: 2, of: 2 }])
  })

  it('is restarted after the shortest delay again once it has run for more than 30 seconds', async (t) => {
    const { worker, logged, pass } = await servingGroup(t, { workers: 1, stuckAfterMs: 600_000 }, 1)
    for (const [index, ranMs] of [0, 0, 30_100].entries()) {
      await pass(ranMs)
      await worker(index).end(3)
      await pass(1_000)
      await worker(index + 1).serve()
    }
    assert.deepEqual(
      logged('restarting worker').map(({ delayMs }) => delayMs),
      [300, 900, 300],
    )
  })

  it('is not restarted while the group stops', async (t) => {
    const { supervisor, worker, workers, pass } = await servingGroup(t)
    await worker(0).end(3)
    const stopped = outcome(supervisor.stop())
    await worker(1).end(0)
    await pass(restartMs * 10)
    assert.deepEqual([workers.length, stopped], [2, { value: 0 }])
  })
})

describe('stop', () => {
  it('closes the sockets of the parent, tells each worker to shut down without handover, and returns 0', async (t) => {
    const { supervisor, workers, worker, logged, pass } = await servingGroup(t)
    const stopped = outcome(supervisor.stop())
    await turn()
    for (const { sent, signals, released } of workers) {
      assert.deepEqual([sent, signals, released], [[{ fleet: 'shutdown', handover: false }], [], true])
    }
    assert.deepEqual(supervisor.serving, { up: 0, ready: 0, of: 2 })
    await worker(0).end(0)
    assert.deepEqual(stopped, {})
    await worker(1).end(null, 'SIGTERM')
    assert.deepEqual(stopped, { value: 0 })
    await pass(shutdownTimeoutMs * 2)
    assert.deepEqual([worker(0).signals, worker(1).signals], [[], []], 'no timer is left')
    assert.deepEqual(logged('worker ended'), [], 'its end was expected')
  })

  it('kills a worker that has not ended after its time and two seconds, and returns 1', async (t) => {
    const { supervisor, worker, pass } = await servingGroup(t, { workers: 1 })
    const stopped = outcome(supervisor.stop())
    await pass(shutdownTimeoutMs + killMarginMs - 1)
    assert.deepEqual(worker(0).signals, [])
    await pass(1)
    assert.deepEqual(worker(0).signals, ['SIGKILL'])
    await worker(0).end(null, 'SIGKILL')
    assert.deepEqual(stopped, { value: 1 })
  })

  it('returns 1 if one worker lost a request', async (t) => {
    const { supervisor, worker } = await servingGroup(t)
    const stopped = outcome(supervisor.stop())
    await worker(0).end(1)
    await worker(1).end(0)
    assert.deepEqual(stopped, { value: 1 })
  })

  it('returns 0 if a worker that had never listened fails', async (t) => {
    const { supervisor, worker } = fakeGroup(t)
    void supervisor.start()
    await turn()
    await worker(0).serve()
    const stopped = outcome(supervisor.stop())
    await worker(0).end(0)
    await worker(1).end(1)
    assert.deepEqual(stopped, { value: 0 })
  })

  it('sends SIGTERM to a worker without the plugin or without a channel', async (t) => {
    const { supervisor, worker } = fakeGroup(t)
    void supervisor.start()
    await turn()
    await worker(0).listen()
    await worker(1).serve()
    worker(1).connected = false
    void supervisor.stop()
    await turn()
    assert.deepEqual([worker(0).signals, worker(0).sent, worker(0).released], [['SIGTERM'], [], true])
    assert.deepEqual([worker(1).signals, worker(1).sent, worker(1).released], [['SIGTERM'], [], false])
  })

  it('during the start leaves the start without a failure and restarts none', async (t) => {
    const { supervisor, worker, workers, pass } = fakeGroup(t)
    const started = outcome(supervisor.start())
    await turn()
    const stopped = outcome(supervisor.stop())
    await turn()
    assert.deepEqual([started, stopped], [{ value: 'done' }, {}])
    await worker(0).end(null, 'SIGTERM')
    await worker(1).end(null, 'SIGTERM')
    await pass(restartMs * 2)
    assert.deepEqual([started, stopped, workers.length], [{ value: 'done' }, { value: 0 }, 2])
  })
})

it('kill ends every process, also a replacement that is not ready', async (t) => {
  const { supervisor, workers } = await servingGroup(t, { workers: 1 })
  void supervisor.reload().catch(() => undefined)
  await turn()
  supervisor.kill()
  assert.deepEqual(
    workers.map(({ signals }) => signals),
    [['SIGKILL'], ['SIGKILL']],
  )
})
