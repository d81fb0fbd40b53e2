import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import type { BalancerOptions } from '../../../src/edge/balancer/balancer.ts'
import { type Script, script } from './scripted.ts'

const post = { method: 'POST', body: 'x' } as const
const states = ({ balancer }: Script): string[] => balancer.targets.map(({ state }) => state)
const inflight = ({ balancer }: Script): number => balancer.targets.reduce((sum, target) => sum + target.inflight, 0)

/** Loses each attempt after it was sent, until no other one follows. @returns how often the request was sent */
function loseAll(t: TestContext, targets: number, retry: BalancerOptions['retry'], request = {}, code = 'ECONNRESET') {
  const all = script(t, targets, { retry })
  const { events } = all.ask(request)
  for (let i = 0; i < all.sent.length; i++) {
    all.sent[i]?.start().fail(code)
    all.advance(1000)
  }
  assert.deepEqual(events, [code])
  assert.equal(inflight(all), 0)
  return all.sent.length
}

describe('a refused attempt', () => {
  it('of any method goes to the next target and does not count as sent', (t) => {
    const all = script(t, 3, { retry: { attempts: 1, budget: 0, minPerSecond: 0 } })
    const { events } = all.ask(post)
    all.last().fail('ECONNREFUSED')
    all.last().fail('ECONNREFUSED')
    all.last().start().head(200).end()
    assert.deepEqual([...all.sent.map(({ to }) => to)].sort(), [0, 1, 2])
    assert.deepEqual(events, [200, 'end'])
    assert.equal(all.balancer.context.stats.retries, 2)
    assert.equal(inflight(all), 0)
  })

  it('leaves all of the attempts for the next target', (t) => {
    const all = script(t, 3, { retry: { attempts: 2 } })
    const { events } = all.ask()
    all.last().fail('ECONNREFUSED')
    all.last().start().fail('ECONNRESET')
    assert.equal(all.sent.length, 3)
    all.last().start().head(200).end()
    assert.deepEqual(events, [200, 'end'])
  })

  it('ejects its target, and a lost one does not', (t) => {
    for (const [sent, state] of [
      [false, 'ejected'],
      [true, 'up'],
    ] as const) {
      const all = script(t, 3, { outliers: { consecutive: 0, maxEjectedShare: 1 } })
      all.ask()
      const [first] = all.sent
      if (sent) first?.start()
      first?.fail('ECONNRESET')
      assert.equal(all.balancer.targets[first?.to ?? -1]?.state, state)
    }
  })

  it('waits for a target that it has tried when all refuse', (t) => {
    const all = script(t, 2, { queue: { timeoutMs: 100 } })
    const { events } = all.ask(post)
    all.last().fail('ECONNREFUSED')
    all.last().fail('ECONNREFUSED')
    assert.equal(all.balancer.context.waitingRoom.length, 1)
    all.advance(50)
    all.balancer.context.waitingRoom.wake()
    assert.equal(all.sent.length, 3)
    all.last().fail('ECONNREFUSED')
    all.last().fail('ECONNREFUSED')
    all.advance(49)
    assert.deepEqual(events, [])
    all.advance(1)
    assert.deepEqual(events, ['FLEET_ERR_NO_TARGET'])
    assert.equal(all.sent.length, 4)
  })
})

describe('a lost attempt', () => {
  for (const attempts of [1, 2, 3, 5]) {
    it(`of a GET is sent ${attempts} times with attempts: ${attempts}, to as many targets or to one`, (t) => {
      assert.equal(loseAll(t, 6, { attempts }), attempts)
      assert.equal(loseAll(t, 1, { attempts }), attempts)
    })
  }

  it('of a POST is never sent again, with or without a key that the option does not honour', (t) => {
    for (const [retry, request] of [
      [{ idempotencyKey: true }, post],
      [{ idempotencyKey: false }, { ...post, headers: { 'idempotency-key': 'k' } }],
    ] as const) {
      assert.equal(loseAll(t, 3, retry, request), 1)
    }
  })

  it('of a POST with an idempotency key is sent again if the option is on', (t) => {
    assert.equal(loseAll(t, 3, { idempotencyKey: true }, { ...post, headers: { 'Idempotency-Key': 'k' } }), 3)
  })

  it('is sent again exactly as often as the budget allows', (t) => {
    assert.equal(loseAll(t, 3, { budget: 0, minPerSecond: 0 }), 1)
    // The first second of 0.1 per second funds one retry; pauses of under a second add less than another one.
    assert.equal(loseAll(t, 5, { attempts: 5, budget: 0, minPerSecond: 0.1 }), 2)
  })

  it('funds a retry with the share of a request', (t) => {
    const all = script(t, 3, { retry: { budget: 0.5, minPerSecond: 0 } })
    const seen = [1, 2].map(() => {
      const { events } = all.ask()
      all.last().start().fail('ECONNRESET')
      return events
    })
    assert.deepEqual(seen, [['ECONNRESET'], []])
    assert.equal(all.sent.length, 3)
  })

  it('that timed out is sent to another target, but not to the same one again', (t) => {
    assert.equal(loseAll(t, 2, {}, {}, 'UND_ERR_HEADERS_TIMEOUT'), 2)
    assert.equal(loseAll(t, 1, {}, {}, 'UND_ERR_HEADERS_TIMEOUT'), 1)
  })

  it('is followed by the second at once and by later ones after a growing pause', (t) => {
    const all = script(t, 5, { retry: { attempts: 4 } })
    all.ask()
    all.last().start().fail('ECONNRESET')
    assert.equal(all.sent.length, 2)
    for (const [pause, sends] of [
      [20, 3],
      [40, 4],
    ] as const) {
      all.last().start().fail('ECONNRESET')
      all.advance(pause - 1)
      assert.equal(all.sent.length, sends - 1)
      all.advance(1)
      assert.equal(all.sent.length, sends)
    }
    assert.equal(all.balancer.context.stats.retries, 3)
  })

  it('is followed by a pause before the same target is tried again', (t) => {
    const all = script(t, 1)
    all.ask()
    all.last().start().fail('ECONNRESET')
    all.advance(19)
    assert.equal(all.sent.length, 1)
    all.advance(1)
    assert.deepEqual([all.sent.length, all.last().to, all.balancer.context.stats.retries], [2, 0, 1])
  })

  it('is not sent again when the client gives up during the pause', (t) => {
    const all = script(t, 1)
    const { exchange, events } = all.ask()
    all.last().start().fail('ECONNRESET')
    exchange.abort(new Error('gone'))
    all.advance(1000)
    assert.deepEqual([events, all.sent.length, exchange.done], [['gone'], 1, true])
  })

  it('whose response had begun ends the request', (t) => {
    const all = script(t, 3)
    const { events, exchange } = all.ask()
    all.last().start().head(200).data('a').fail('ECONNRESET')
    assert.deepEqual([events, all.sent.length], [[200, 'a', 'ECONNRESET'], 1])
    assert.equal(exchange.target?.failed, 1)
  })

  it('by a fault of the request blames no target and is not sent again', (t) => {
    const errors: Error[] = [
      new FleetError('FLEET_ERR_BODY_TOO_LARGE'),
      ...['UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'].map((code) =>
        Object.assign(new Error(code), { code }),
      ),
    ]
    const all = script(t, 3)
    for (const [i, error] of errors.entries()) {
      const { events } = all.ask()
      all.last().start().fail(error)
      assert.deepEqual([events.length, all.sent.length], [1, i + 1], String(error))
    }
    assert.ok(all.balancer.targets.every(({ served, failed }) => served === 0 && failed === 0))
    assert.deepEqual(states(all), ['up', 'up', 'up'])
  })
})
