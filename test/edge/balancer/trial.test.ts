import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import type { Target } from '../../../src/edge/balancer/target.ts'
import { type Script, script } from './scripted.ts'

const post = { method: 'POST' as const }

/** One target, which is back from an ejection and has received no request since. */
function onTrial(t: TestContext): Script & { target: Target } {
  const outliers = { consecutive: 5, errorShare: 0, latencyFactor: 0, maxEjectedShare: 1, ejectMs: 100 }
  const all = script(t, 1, { outliers, queue: { timeoutMs: 1000 } })
  const [target] = all.balancer.targets as [Target]
  for (let i = 0; i < 5; i++) {
    all.ask(post)
    all.last().start().fail('ECONNRESET')
  }
  assert.equal(target.state, 'ejected')
  all.advance(100)
  assert.deepEqual([target.state, target.onTrial], ['up', true])
  all.sent.length = 0
  return { ...all, target }
}

describe('a target on trial', () => {
  it('gets the next request when the response to the previous one begins, however long that lasts', (t) => {
    const { ask, last, sent, balancer, target } = onTrial(t)
    for (let i = 0; i < 3; i++) ask()
    assert.deepEqual([sent.length, balancer.context.waitingRoom.length], [1, 2])
    for (const count of [2, 3]) {
      last().start().head(200)
      assert.equal(sent.length, count)
    }
    assert.deepEqual([target.onTrial, target.inflight, target.pending], [true, 3, 1])
    last().start().head(200)
    assert.deepEqual([target.onTrial, target.inflight, target.pending], [false, 3, 0])
    for (const request of sent) request.end()
    assert.equal(target.inflight, 0)
  })

  it('gets the next request while a WebSocket is open', (t) => {
    const { ask, last, sent, target } = onTrial(t)
    ask({ upgrade: 'websocket' })
    const socket = new PassThrough()
    last().start().upgrade(101, socket)
    ask()
    assert.deepEqual([sent.length, target.inflight, target.pending], [2, 2, 1])
    socket.destroy()
  })

  it('gets the next request when a client leaves before its response', (t) => {
    const { ask, sent, target } = onTrial(t)
    const { exchange } = ask()
    ask()
    sent[0]?.start()
    exchange.abort(new Error('gone'))
    assert.deepEqual([sent.length, target.onTrial, target.inflight, target.pending], [2, true, 1, 1])
  })

  it('gets all that wait once it has passed', (t) => {
    const { ask, last, sent, balancer } = onTrial(t)
    for (let i = 0; i < 10; i++) ask()
    for (let i = 0; i < 3; i++) last().start().head(200)
    assert.deepEqual([sent.length, balancer.context.waitingRoom.length], [10, 0])
  })

  it('that fails gets none of those that wait', (t) => {
    const { ask, last, sent, balancer, target } = onTrial(t)
    for (let i = 0; i < 2; i++) ask(post)
    last().start().fail('ECONNRESET')
    assert.deepEqual([target.state, sent.length, balancer.context.waitingRoom.length], ['ejected', 1, 1])
  })
})
