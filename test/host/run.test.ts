import assert from 'node:assert/strict'
import childProcess from 'node:child_process'
import { EventEmitter } from 'node:events'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { askReload } from '../../src/host/control.ts'
import { check, run } from '../../src/host/run.ts'
import '../helpers/cleanup.ts'
import { mockBuiltins } from '../helpers/mock-builtins.ts'
import { fakeCluster, groupOptions, outcome, readyTimeoutMs, turn } from './fake-workers.ts'

/** `receive` gets each message to the service manager, and the process that sends it, until that emits `close`. */
function serviceManager(t: TestContext, receive: (assignments: string, sender: EventEmitter) => void): void {
  const spawn = (_: string, assignments: readonly string[]): EventEmitter => {
    const sender = new EventEmitter()
    receive(assignments.join(' '), sender)
    return sender
  }
  mockBuiltins(t, () => t.mock.method(childProcess, 'spawn', spawn as never))
}

describe('check', () => {
  const options = { ...groupOptions, env: { PORT: '3000', NOTIFY_SOCKET: undefined } }
  const started = async (t: TestContext) => {
    const group = fakeCluster(t)
    const checked = outcome(check({ ...options, log: group.log }))
    await turn()
    return { ...group, checked }
  }

  it('starts one worker, on free ports and without a share of the requests, and stops it', async (t) => {
    const { workers, worker, checked } = await started(t)
    const { INSTANCE_ID: _, ...env } = worker(0).env
    const free = { PORT: '0', FLEET_ADMIN_PORT: undefined, FLEET_WEIGHT: '0' }
    assert.deepEqual(env, { FLEET_WORKERS: 1, FLEET_WORKER: 1, NOTIFY_SOCKET: undefined, ...free })
    await worker(0).serve()
    assert.deepEqual([worker(0).sent, checked], [[{ fleet: 'shutdown', handover: false }], {}])
    await worker(0).end(0)
    assert.deepEqual([checked, workers.length], [{ value: true }, 1])
  })

  it('gives the worker a free port for operators if the environment names one', async (t) => {
    process.env.FLEET_ADMIN_PORT = '9000'
    t.after(() => void delete process.env.FLEET_ADMIN_PORT)
    const { worker } = await started(t)
    assert.equal(worker(0).env.FLEET_ADMIN_PORT, '0')
    await worker(0).end(0)
  })

  it('fails for a worker that listens but is not ready in time', async (t) => {
    const { worker, checked, pass } = await started(t)
    await worker(0).tell({ fleet: 'hello' })
    await worker(0).listen()
    await pass(readyTimeoutMs)
    await worker(0).end(0)
    assert.deepEqual(checked.value, false)
  })

  it('fails for a worker that ends, and starts no other', async (t) => {
    const { workers, worker, checked, pass } = await started(t)
    await worker(0).end(1)
    await pass(60_000)
    assert.deepEqual([checked.value, workers.length], [false, 1])
  })
})

describe('run', () => {
  const open = (): string => join(temporaryFolder('run'), 'control')

  it('fails and closes its control socket if no worker serves', async (t) => {
    const control = open()
    const { log, workers } = fakeCluster(t)
    const running = outcome(run({ ...groupOptions, log, control }))
    await until(() => workers.length === 2)
    for (const worker of workers) await worker.end(1)
    assert.equal(running.error?.code, 'FLEET_ERR_WORKER_NOT_READY')
    await assert.rejects(askReload(control), { code: 'FLEET_ERR_CONTROL' })
  })

  it('reloads on SIGHUP and on the control socket, and survives a failed reload', async (t) => {
    const control = open()
    const { log, logged, workers, worker } = fakeCluster(t)
    const running = outcome(run({ ...groupOptions, workers: 1, log, control }))
    await until(() => workers.length === 1)
    await worker(0).serve()
    assert.deepEqual(running, { value: 'done' })
    process.emit('SIGHUP')
    await turn()
    await worker(1).end(1)
    assert.equal(logged('reload abandoned').length, 1)
    const asked = outcome(askReload(control))
    await until(() => workers.length === 3)
    await worker(2).serve()
    await worker(0).end(0)
    await until(() => 'value' in asked)
    assert.equal(logged('reloaded').length, 1)
    // A signal of a later test stops this group too.
    await worker(2).end(0)
  })

  it('stops the workers on SIGTERM and exits with their code, after which no reload is possible', async (t) => {
    const control = open()
    const exits: unknown[] = []
    t.after(() => {
      process.exitCode = undefined
    })
    t.mock.method(process, 'exit', ((code: number) => void exits.push(code)) as never)
    const { log, logged, workers, worker } = fakeCluster(t)
    void run({ ...groupOptions, workers: 1, log, control })
    await until(() => workers.length === 1)
    await worker(0).serve()
    process.emit('SIGTERM')
    await turn()
    assert.deepEqual(logged('stopping'), [{ level: 'info', msg: 'stopping', reason: 'SIGTERM', workers: 1 }])
    assert.deepEqual([worker(0).sent, exits], [[{ fleet: 'shutdown', handover: false }], []])
    await assert.rejects(askReload(control), { code: 'FLEET_ERR_CONTROL' })
    await worker(0).end(1)
    await until(() => exits.length > 0)
    assert.deepEqual(exits, [1])
  })

  it('sends keep-alive pings twice per timeout of the service manager, one at a time', async (t) => {
    const pings: EventEmitter[] = []
    serviceManager(t, (assignments, sender) => {
      if (assignments === 'WATCHDOG=1') pings.push(sender)
      else setImmediate(() => sender.emit('close'))
    })
    const { log, workers, worker, pass } = fakeCluster(t)
    const running = outcome(run({ ...groupOptions, workers: 1, log, notifySocket: '/run/x', watchdogUsec: 1_000_000 }))
    await until(() => workers.length === 1)
    await worker(0).serve()
    await until(() => 'value' in running)
    await pass(499)
    assert.equal(pings.length, 0)
    await pass(1)
    assert.equal(pings.length, 1)
    await pass(1_000)
    assert.equal(pings.length, 1, 'it is pending')
    pings[0]?.emit('close')
    await turn()
    assert.equal(pings.length, 1, 'none was queued')
    await pass(500)
    assert.equal(pings.length, 2)
  })

  it('tells the service manager that it is ready again after a reload that was abandoned', async (t) => {
    const sent: string[] = []
    serviceManager(t, (assignments, sender) => {
      sent.push(assignments)
      setImmediate(() => sender.emit('close'))
    })
    const { log, workers, worker } = fakeCluster(t)
    const running = outcome(run({ ...groupOptions, workers: 1, log, notifySocket: '/run/x' }))
    // The signal itself would reload the groups of earlier tests, too.
    const reload = process.listeners('SIGHUP').at(-1) as () => void
    await until(() => workers.length === 1)
    await worker(0).serve()
    await until(() => 'value' in running)
    const ready = 'READY=1 STATUS=1 of 1 workers serve'
    const states = (): string[] => sent.filter((line) => !line.startsWith('STATUS='))
    assert.deepEqual(states(), [ready])
    reload()
    await turn()
    assert.deepEqual(states(), [ready, 'RELOADING=1'])
    await worker(1).end(1)
    for (let turns = 0; turns < 10; turns++) await turn()
    assert.deepEqual(states(), [ready, 'RELOADING=1', ready])
  })
})

/** Like the helper, but by turns of the event loop: the clock is the test's. */
async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; !condition(); turns++) {
    assert.ok(turns < 1_000_000)
    await turn()
  }
}
