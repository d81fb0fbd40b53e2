import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Script, script } from './scripted.ts'

const hedge = { retry: { hedgeMs: 30 } }
const failures = ({ balancer }: Script): number[] => balancer.targets.map(({ failed }) => failed)
const inflight = ({ balancer }: Script): number[] => balancer.targets.map((target) => target.inflight)

describe('a hedged request', () => {
  it('is sent to a second target after hedgeMs, and to no third one', (t) => {
    const all = script(t, 3, hedge)
    all.ask()
    all.last().start()
    all.advance(29)
    assert.equal(all.sent.length, 1)
    all.advance(1)
    assert.deepEqual(
      all.sent.map(({ to }) => to),
      [0, 1],
    )
    all.advance(300)
    assert.equal(all.sent.length, 2)
    const { stats } = all.balancer.context
    assert.deepEqual([stats.hedges, stats.retries], [1, 0])
  })

  for (const [why, targets, retry, request] of [
    ['hedgeMs is 0', 3, {}, {}],
    ['it is a POST', 3, hedge.retry, { method: 'POST', body: 'x' }],
    ['its body is a stream', 3, hedge.retry, { body: (async function* () {})() }],
    ['it is an upgrade', 3, hedge.retry, { upgrade: 'websocket' }],
    ['there is no other target', 1, hedge.retry, {}],
    ['the budget is used up', 3, { ...hedge.retry, budget: 0, minPerSecond: 0 }, {}],
    ['one attempt is allowed', 3, { ...hedge.retry, attempts: 1 }, {}],
  ] as const) {
    it(`is sent once when ${why}`, (t) => {
      const all = script(t, targets, { retry })
      all.ask(request as object)
      all.last().start()
      all.advance(100)
      assert.equal(all.sent.length, 1)
    })
  }

  it('is sent once when a response has begun or the client has given up', (t) => {
    const all = script(t, 3, hedge)
    all.ask()
    all.last().start().head(200)
    const { exchange } = all.ask()
    all.last().start()
    exchange.abort(new Error('gone'))
    all.advance(100)
    assert.equal(all.sent.length, 2)
  })

  it('is not hedged during the pause between two attempts', (t) => {
    const all = script(t, 3, hedge)
    all.ask()
    all.last().start()
    all.advance(20)
    all.last().fail('ECONNRESET')
    all.last().start().fail('ECONNRESET')
    all.advance(19)
    assert.equal(all.sent.length, 2)
    all.advance(1)
    assert.deepEqual([all.sent.length, all.balancer.context.stats.hedges], [3, 0])
  })

  for (const winner of [0, 1]) {
    it(`uses the response of the ${winner === 0 ? 'first' : 'second'} target and cancels the other without blame`, (t) => {
      const all = script(t, 3, hedge)
      const { events, exchange } = all.ask()
      all.last().start()
      all.advance(30)
      all.last().start()
      const [won, lost] = winner === 0 ? all.sent : all.sent.toReversed()
      won?.head(200)
      assert.equal(exchange.target, all.balancer.targets[won?.to ?? -1])
      assert.equal(lost?.aborted?.message, 'another attempt was faster')
      won?.data('a').end()
      assert.deepEqual(events, [200, 'a', 'end'])
      assert.deepEqual(
        [failures(all), inflight(all)],
        [
          [0, 0, 0],
          [0, 0, 0],
        ],
      )
    })
  }

  it('cancels an attempt that still waits for its connection as soon as it gets one', (t) => {
    const all = script(t, 3, hedge)
    const { events } = all.ask()
    all.last().start()
    all.advance(30)
    const [first, second] = all.sent
    first?.head(200).end()
    assert.ok(all.sent.every(({ aborted }) => !aborted))
    second?.start()
    assert.equal(second?.aborted?.message, 'another attempt was faster')
    assert.deepEqual(
      [events, inflight(all)],
      [
        [200, 'end'],
        [0, 0, 0],
      ],
    )
  })

  it('waits for the other attempt when one is lost, and fails when both are', (t) => {
    const all = script(t, 2, { retry: { ...hedge.retry, attempts: 2 } })
    const { events } = all.ask()
    all.last().start()
    all.advance(30)
    all.last().start()
    all.sent[0]?.fail('ECONNRESET')
    assert.deepEqual([events, all.sent.length], [[], 2])
    all.sent[1]?.fail('ECONNRESET')
    assert.deepEqual([events, all.sent.length, inflight(all)], [['ECONNRESET'], 2, [0, 0]])
  })

  it('drops a 503 for the other attempt, without budget', (t) => {
    const all = script(t, 3, { retry: { ...hedge.retry, budget: 0, minPerSecond: 0.1 } })
    const { events } = all.ask()
    all.last().start()
    all.advance(30)
    all.last().start()
    all.sent[0]?.head(503)
    assert.deepEqual([events, all.sent.length], [[], 2])
    all.sent[1]?.head(503)
    assert.deepEqual([events, all.sent.length], [[503], 2])
  })

  it('forwards interim responses of the only attempt, none while there are two', (t) => {
    const all = script(t, 2, hedge)
    const { events } = all.ask()
    all.last().start().head(103)
    all.advance(30)
    for (const each of all.sent) each.head(103)
    all.sent[1]?.start().head(200)
    assert.deepEqual(events, [103, 200])
  })

  it('that is refused does not count as sent', (t) => {
    const all = script(t, 3, { retry: { ...hedge.retry, attempts: 2 } })
    const { events } = all.ask()
    all.last().start()
    all.advance(30)
    all.last().fail('ECONNREFUSED')
    assert.equal(all.sent.length, 2)
    all.sent[0]?.fail('ECONNRESET')
    assert.equal(all.sent.length, 3)
    all.last().start().head(200).end()
    assert.deepEqual(events, [200, 'end'])
  })

  it('goes to another target when its last open attempt is refused', (t) => {
    const all = script(t, 3, hedge)
    const { events } = all.ask()
    all.last().start()
    all.advance(30)
    all.sent[0]?.fail('ECONNRESET')
    all.sent[1]?.fail('ECONNREFUSED')
    assert.deepEqual(
      all.sent.map(({ to }) => to),
      [0, 1, 2],
    )
    all.last().start().head(200).end()
    assert.deepEqual(
      [events, inflight(all)],
      [
        [200, 'end'],
        [0, 0, 0],
      ],
    )
  })

  it('cancels both attempts when the client gives up', (t) => {
    const all = script(t, 3, hedge)
    const { events, exchange } = all.ask()
    all.last().start()
    all.advance(30)
    all.last().start()
    const gone = new Error('gone')
    exchange.abort(gone)
    assert.deepEqual(
      all.sent.map(({ aborted }) => aborted),
      [gone, gone],
    )
    assert.deepEqual([events, failures(all), inflight(all)], [['gone'], [0, 0, 0], [0, 0, 0]])
    assert.deepEqual([exchange.aborted, exchange.reason, exchange.done], [true, gone, true])
  })
})
