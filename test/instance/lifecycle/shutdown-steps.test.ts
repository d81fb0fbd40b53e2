import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, it } from 'node:test'
import { endStream, rememberSource } from '../../../src/instance/lifecycle/streams.ts'
import { shutDown, shutdownTimeoutMs, stream, webSocket } from './fake-shutdown.ts'

const quietMs = 250
const handoverQuietMs = 2_000
const sweepEveryMs = 50

describe('shutdown', () => {
  it('drains, stops listening, sweeps sockets until none is open, and closes', async (t) => {
    const shutdown = shutDown(t)
    const { steps, log, connections, result, pass } = shutdown
    connections.open = 1
    await shutdown.begin()
    assert.deepEqual(steps, ['draining', 'goAway', 'stopListening', `sweep ${quietMs}`])
    await pass(sweepEveryMs)
    assert.deepEqual(steps.slice(4), [`sweep ${quietMs}`])
    connections.open = 0
    await pass(sweepEveryMs)
    assert.deepEqual(steps.slice(5), ['destroy', 'closed', 'close'])
    assert.deepEqual(result, { code: 0 })
    assert.deepEqual(log, [
      ['info', { reason: 'SIGTERM', handover: false, inFlight: 3 }, 'draining'],
      ['info', { code: 0 }, 'closed'],
    ])
  })

  it('with handover stops listening at once, reports no drain, and gives sockets longer', async (t) => {
    const shutdown = shutDown(t, { handover: true, times: { drainDelayMs: 5_000 } })
    shutdown.connections.open = 1
    await shutdown.begin()
    assert.deepEqual(shutdown.steps, ['goAway', 'stopListening', `sweep ${handoverQuietMs}`])
    assert.equal(shutdown.lifecycle.state, 'serving')
    shutdown.connections.open = 0
    await shutdown.pass(sweepEveryMs)
    assert.deepEqual(shutdown.steps.slice(3), ['destroy', 'closed', 'close'])
    assert.deepEqual(shutdown.log[0], ['info', { reason: 'SIGTERM', handover: true, inFlight: 3 }, 'draining'])
  })

  for (const [what, given, waitMs] of [
    ['waits for the drain delay', {}, 1_000],
    ['counts the time for which it was drained before', { drainedMs: 700 }, 300],
  ] as const) {
    it(`${what}, and serves until then`, async (t) => {
      const shutdown = shutDown(t, { times: { drainDelayMs: 1_000 }, ...given })
      await shutdown.begin()
      await shutdown.pass(waitMs - 12)
      assert.equal(shutdown.lifecycle.state, 'draining')
      assert.ok(!shutdown.steps.includes('goAway'))
      await shutdown.pass(20)
      assert.ok(shutdown.steps.includes('stopListening'))
      assert.deepEqual(shutdown.result, { code: 0 })
    })
  }

  for (const [what, given] of [
    ['that was drained for longer than the delay', { drainedMs: 5_000 }],
    ['that never served', { starting: true }],
  ] as const) {
    it(`waits for no delay in an instance ${what}`, async (t) => {
      const shutdown = shutDown(t, { times: { drainDelayMs: 1_000 }, ...given })
      await shutdown.begin()
      assert.deepEqual(shutdown.steps, ['goAway', 'stopListening', 'destroy', 'closed', 'close'])
      assert.deepEqual(shutdown.result, { code: 0 })
    })
  }

  it('ends the drain delay at the deadline', async (t) => {
    const shutdown = shutDown(t, { times: { drainDelayMs: 60_000, shutdownTimeoutMs: 500 } })
    await shutdown.begin()
    await shutdown.pass(480)
    assert.deepEqual([shutdown.steps, shutdown.result], [['draining'], {}])
    await shutdown.pass(30)
    assert.deepEqual(shutdown.result, { code: 0 })
  })

  it('cuts the requests that outlast the deadline, logs each and returns 1', async (t) => {
    const shutdown = shutDown(t)
    const requests = ['/a', '/b'].map((route) => ({ method: 'GET', route, ageMs: 5 }))
    Object.assign(shutdown.connections, { open: 1, requests })
    await shutdown.begin()
    await shutdown.pass(shutdownTimeoutMs - 12)
    assert.ok(!shutdown.steps.includes('destroy'))
    await shutdown.pass(20)
    assert.deepEqual(shutdown.steps.slice(-3), ['destroy', 'closed', 'close'])
    assert.deepEqual(shutdown.result, { code: 1 })
    const cut = requests.map((request) => ['error', request, 'request cut at the shutdown deadline'])
    assert.deepEqual(shutdown.log.slice(1), [...cut, ['info', { code: 1 }, 'closed']])
  })

  it('stops listening only after the load balancer has noticed', async (t) => {
    const gate = Promise.withResolvers<void>()
    const noticed = shutDown(t, { hooks: { beforeListenerCloses: () => gate.promise } })
    await noticed.begin()
    await noticed.pass(300)
    assert.deepEqual(noticed.steps, ['draining', 'goAway'])
    gate.resolve()
    await noticed.pass(10)
    assert.deepEqual(noticed.steps.slice(2), ['stopListening', 'destroy', 'closed', 'close'])
  })

  it('stops listening at the deadline if no load balancer notices', async (t) => {
    const forever = (): Promise<never> => new Promise(() => undefined)
    const shutdown = shutDown(t, { hooks: { beforeListenerCloses: forever }, times: { shutdownTimeoutMs: 100 } })
    await shutdown.begin()
    await shutdown.pass(80)
    assert.deepEqual(shutdown.steps, ['draining', 'goAway'])
    await shutdown.pass(40)
    assert.deepEqual(shutdown.steps.slice(2), ['stopListening', 'destroy', 'closed', 'close'])
    assert.deepEqual(shutdown.result, { code: 0 })
  })

  it('returns 0 if only idle sockets are left at the deadline', async (t) => {
    const shutdown = shutDown(t, { times: { shutdownTimeoutMs: 100 } })
    shutdown.connections.open = 1
    await shutdown.begin()
    await shutdown.pass(120)
    assert.deepEqual([shutdown.result, shutdown.steps.at(-3)], [{ code: 0 }, 'destroy'])
  })

  it('ends event streams, also those that start while it waits', async (t) => {
    const shutdown = shutDown(t, { times: { drainDelayMs: 100 } })
    const [early, late, pending] = [stream(), stream(), { ...stream(), headersSent: false }]
    let atListener = ''
    const stopListening = async (): Promise<void> => {
      atListener = early.sent
    }
    Object.assign(shutdown.connections, { open: 1, streams: [early, pending], stopListening })
    await shutdown.begin()
    assert.equal(early.sent, '', 'streams are served during the drain delay')
    await shutdown.pass(110)
    const last = 'event: shutdown\ndata: {"reason":"service restart"}\n\n'
    assert.deepEqual([early.sent, atListener], [last, last])
    shutdown.connections.streams.push(late)
    await shutdown.pass(sweepEveryMs)
    assert.deepEqual([early.sent, late.sent, pending.sent], [last, last, ''])
  })

  it('closes WebSockets over the window before it stops listening, then late ones, and terminates after 1 s', async (t) => {
    const clients = [webSocket(), webSocket()]
    const shutdown = shutDown(t, { clients, times: { evictWindowMs: 400 } })
    shutdown.connections.open = 1
    const closed = (): number[] => clients.map((client) => client.closed.length)
    await shutdown.begin()
    assert.deepEqual(closed(), [1, 0])
    await shutdown.pass(180)
    assert.deepEqual(closed(), [1, 0])
    await shutdown.pass(30)
    assert.deepEqual(closed(), [1, 1])
    clients.push(webSocket())
    await shutdown.pass(210)
    assert.deepEqual(clients[2]?.closed, [[1012, 'service restart']])
    await shutdown.pass(560)
    assert.equal(clients[0]?.terminated, 0)
    await shutdown.pass(40)
    assert.equal(clients[0]?.terminated, 1)
  })
})

describe('the source of an event stream', () => {
  for (const [what, more, last] of [
    ['is unpiped before the last event and then destroyed', { destroy: true }, ['unpipe', 'end', 'destroy']],
    ['that cannot be destroyed is unpiped', {}, ['unpipe', 'end']],
  ] as const)
    it(what, () => {
      const steps: string[] = []
      const response = Object.assign(new EventEmitter(), { end: () => void steps.push('end') })
      const source = {
        unpipe: (from: unknown) => void (from === response && steps.push('unpipe')),
        ...('destroy' in more && { destroy: () => void steps.push('destroy') }),
      }
      rememberSource(response as never)
      response.emit('pipe', source)
      endStream(response as never)
      assert.deepEqual(steps, last)
    })
})

describe('close of the plugins', () => {
  const forever = (): Promise<never> => new Promise(() => undefined)

  it('waits for code that was registered with onDrained, which starts before the listener closes', async (t) => {
    const gate = Promise.withResolvers<void>()
    const shutdown = shutDown(t, { hooks: { drained: [() => gate.promise, async () => undefined] } })
    await shutdown.begin()
    await shutdown.pass(500)
    assert.deepEqual(shutdown.steps.slice(-1), ['destroy'])
    gate.resolve()
    await shutdown.pass(10)
    assert.deepEqual(shutdown.steps.slice(-2), ['closed', 'close'])
  })

  it('goes on at the deadline if that code does not end, and a second later if no plugin closes', async (t) => {
    const drained = [forever]
    const close = async (): Promise<never> => {
      shutdown.steps.push('close')
      return await forever()
    }
    const shutdown = shutDown(t, { hooks: { drained, close }, times: { shutdownTimeoutMs: 100 } })
    await shutdown.begin()
    await shutdown.pass(80)
    assert.deepEqual(shutdown.steps.slice(-1), ['destroy'])
    await shutdown.pass(40)
    assert.deepEqual([shutdown.steps.slice(-2), shutdown.result], [['closed', 'close'], {}])
    await shutdown.pass(1_000)
    assert.deepEqual(shutdown.result, { code: 1 })
  })

  it('returns 1 if a plugin has not closed a second after the deadline', async (t) => {
    const shutdown = shutDown(t, {
      hooks: { close: forever, closing: forever() },
      times: { shutdownTimeoutMs: 100 },
    })
    await shutdown.begin()
    await shutdown.pass(1_080)
    assert.deepEqual(shutdown.result, {})
    await shutdown.pass(40)
    assert.deepEqual(shutdown.result, { code: 1 })
    assert.deepEqual(shutdown.log[1], ['error', 'a plugin did not close before the shutdown deadline', undefined])
  })

  it('logs the error of a plugin that failed to close', async (t) => {
    const err = new Error('no')
    const shutdown = shutDown(t, { hooks: { close: async () => await Promise.reject(err) } })
    await shutdown.begin()
    assert.deepEqual(shutdown.log[1], ['error', { err }, 'a plugin failed to close'])
    assert.deepEqual(shutdown.result, { code: 0 })
  })

  it('leaves no deadline that keeps the process alive', async (t) => {
    const shutdown = shutDown(t, { times: { shutdownTimeoutMs: 200 } })
    await shutdown.begin()
    assert.deepEqual(shutdown.result, { code: 0 })
    const { mock } = t.mock.method(AbortController.prototype, 'abort')
    await shutdown.pass(300)
    assert.equal(mock.callCount(), 0)
  })

  it('waits 300 ms for the other plugins of an app that never served', async (t) => {
    const shutdown = shutDown(t, { starting: true, hooks: { close: forever, closing: forever() } })
    await shutdown.begin()
    await shutdown.pass(280)
    assert.deepEqual(shutdown.result, {})
    await shutdown.pass(40)
    assert.deepEqual(shutdown.log[1], ['warn', 'exiting before all plugins are loaded'])
    assert.deepEqual(shutdown.result, { code: 0 })
  })

  it('waits for an app that never served but closes', async (t) => {
    const shutdown = shutDown(t, { starting: true, hooks: { close: forever } })
    await shutdown.begin()
    await shutdown.pass(1_000)
    assert.deepEqual([shutdown.result, shutdown.log.length], [{}, 1])
  })
})
