import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it } from 'node:test'
import { internalErrors } from '../../../src/edge/boundary.ts'
import { type Script, script } from './scripted.ts'

const inflight = ({ balancer }: Script): number => balancer.targets.reduce((sum, target) => sum + target.inflight, 0)
const one = [{ maxConnections: 1 }]
const waiting = ({ balancer }: Script): number => balancer.context.waitingRoom.length

describe('a request without a free target', () => {
  it('waits for the end of another request', (t) => {
    const all = script(t, one)
    all.ask()
    const { events } = all.ask({ method: 'POST', body: 'x' })
    assert.deepEqual([all.sent.length, waiting(all)], [1, 1])
    all.last().start().head(200).end()
    assert.deepEqual([all.sent.length, waiting(all)], [2, 0])
    all.last().start().head(201).end()
    assert.deepEqual([events, inflight(all)], [[201, 'end'], 0])
  })

  it('waits until queue.timeoutMs are over, also after further attempts to get one', (t) => {
    const all = script(t, one, { queue: { timeoutMs: 100 } })
    all.ask()
    const { events } = all.ask()
    all.advance(60)
    all.balancer.context.waitingRoom.wake()
    all.advance(39)
    assert.deepEqual([events, waiting(all)], [[], 1])
    all.advance(1)
    assert.deepEqual([events, waiting(all)], [['FLEET_ERR_NO_TARGET'], 0])
  })

  it('is rejected at once when queue.size requests wait', (t) => {
    const all = script(t, one, { queue: { size: 2 } })
    const asked = Array.from({ length: 4 }, () => all.ask().events)
    assert.deepEqual(asked, [[], [], [], ['FLEET_ERR_QUEUE_FULL']])
    assert.equal(waiting(all), 2)
  })

  it('is rejected at once without a queue, by what is missing', (t) => {
    const full = script(t, one, { queue: { timeoutMs: 0 } })
    full.ask()
    assert.deepEqual(full.ask().events, ['FLEET_ERR_QUEUE_FULL'])
    const none = script(t, [], { queue: { timeoutMs: 0 } })
    assert.deepEqual(none.ask().events, ['FLEET_ERR_NO_TARGET'])
  })

  it('waits only for what is left of queue.timeoutMs since the last target was lost', (t) => {
    const all = script(t, [{ weight: 0, maxConnections: 1 }], { queue: { timeoutMs: 100 } })
    all.ask()
    all.advance(70)
    const { events } = all.ask()
    all.advance(29)
    assert.deepEqual(events, [])
    all.advance(1)
    assert.deepEqual(events, ['FLEET_ERR_NO_TARGET'])
    assert.deepEqual(all.ask().events, ['FLEET_ERR_NO_TARGET'])
  })

  it('leaves the queue when the client gives up', (t) => {
    const all = script(t, one)
    all.ask()
    const { exchange, events } = all.ask()
    exchange.abort(new Error('gone'))
    exchange.abort(new Error('again'))
    assert.deepEqual([events, waiting(all)], [['gone'], 0])
    all.last().start().head(200).end()
    assert.equal(all.sent.length, 1)
  })
})

describe('an exchange', () => {
  it('is not sent when its client gives up at its start', (t) => {
    const all = script(t, 2)
    const { events } = all.ask({}, { onRequestStart: (controller) => controller.abort(new Error('gone')) })
    assert.deepEqual([events, all.sent.length, inflight(all)], [['gone'], 0, 0])
  })

  it('aborts the attempt when its client gives up, before and after the response has begun', (t) => {
    for (const begun of [false, true]) {
      const all = script(t, 2)
      const { events, exchange } = all.ask()
      all.last().start()
      if (begun) all.last().head(200)
      const gone = new Error('gone')
      exchange.abort(gone)
      assert.equal(all.last().aborted, gone)
      assert.deepEqual([events, all.sent.length, inflight(all)], [begun ? [200, 'gone'] : ['gone'], 1, 0])
      assert.equal(all.balancer.targets[0]?.failed, 0)
    }
  })

  it('forwards nothing after it has ended', (t) => {
    const all = script(t, 2)
    const { events, exchange } = all.ask()
    all.last().start().head(200)
    const controller = all.last()
    exchange.abort(new Error('gone'))
    controller.head(200).data('late').end()
    assert.deepEqual(events, [200, 'gone'])
  })

  it('pauses and resumes its response until it is done; then the connection may carry another one', (t) => {
    const all = script(t, 2)
    const { exchange } = all.ask()
    exchange.pause()
    assert.deepEqual([exchange.paused, exchange.target], [false, undefined])
    const sent = all.last().start().head(200)
    exchange.pause()
    assert.deepEqual([sent.paused, exchange.paused, exchange.target], [true, true, all.balancer.targets[0]])
    exchange.resume()
    assert.deepEqual([sent.paused, exchange.done], [false, false])
    exchange.pause()
    sent.end()
    exchange.resume()
    assert.deepEqual([sent.paused, exchange.done], [true, true])
    const next = all.ask()
    all.last().start().head(200).end()
    next.exchange.pause()
    assert.equal(all.last().paused, false)
  })

  it('ends with the error that its client throws, and aborts the attempt', (t) => {
    for (const step of ['onResponseStart', 'onResponseData'] as const) {
      const all = script(t, 2)
      const before = internalErrors()
      const thrown = new Error('bug')
      const { events, exchange } = all.ask({}, { [step]: () => assert.fail(thrown) })
      all.last().start().head(200).data('a').end()
      assert.deepEqual([events.at(-1), all.last().aborted, exchange.done], ['bug', thrown, true])
      assert.deepEqual([internalErrors() - before, inflight(all), all.sent.length], [1, 0, 1])
    }
  })

  it('reports an error that its client throws at the end', (t) => {
    const all = script(t, 2)
    const { events, exchange } = all.ask({}, { onResponseEnd: () => assert.fail(new Error('bug')) })
    all.last().start().head(200).end()
    assert.deepEqual([events, exchange.done, inflight(all)], [[200, 'bug'], true, 0])
  })

  it('ends when its client throws while it hears of an error', (t) => {
    const all = script(t, 1)
    const before = internalErrors()
    const { exchange } = all.ask({ method: 'POST' }, { onResponseError: () => assert.fail(new Error('bug')) })
    all.last().start().fail('ECONNRESET')
    assert.deepEqual([exchange.done, internalErrors() - before, inflight(all)], [true, 1, 0])
  })

  it('counts a tunnel as in flight until it closes', async (t) => {
    const all = script(t, 1)
    const { exchange, events } = all.ask(
      { upgrade: 'websocket' },
      { onRequestUpgrade: (_, status) => void events.push(status) },
    )
    const socket = new PassThrough()
    all.last().start().upgrade(101, socket)
    assert.deepEqual([events, exchange.done, inflight(all), all.balancer.targets[0]?.served], [[101], true, 1, 1])
    socket.destroy(new Error('broken'))
    await new Promise((resolve) => socket.once('close', resolve))
    assert.equal(inflight(all), 0)
  })
})
