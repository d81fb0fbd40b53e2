import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Script, script } from './scripted.ts'

const post = { method: 'POST', body: 'x' } as const
const noBudget = { budget: 0, minPerSecond: 0 }
const draining = { draining: true }
const inflight = ({ balancer }: Script): number => balancer.targets.reduce((sum, target) => sum + target.inflight, 0)

describe('a response of 502 or 503', () => {
  for (const status of [502, 503]) {
    it(`(${status}) to a GET is replaced by that of another target, and its body is dropped`, (t) => {
      const all = script(t, 2)
      const { events } = all.ask()
      const [first] = all.sent
      first?.start().head(status)
      all.last().start().head(200).data('b')
      first?.data('a').end()
      all.last().end()
      assert.deepEqual(
        [events, all.sent.map(({ to }) => to)],
        [
          [200, 'b', 'end'],
          [0, 1],
        ],
      )
      assert.deepEqual([all.balancer.targets[0]?.failed, all.balancer.context.stats.retries, inflight(all)], [1, 1, 0])
    })

    it(`(${status}) is forwarded to a POST, without another target, attempt or budget`, (t) => {
      for (const [targets, retry, request] of [
        [2, {}, post],
        [1, {}, {}],
        [2, { attempts: 1 }, {}],
        [2, noBudget, {}],
        [2, { statuses: [] }, {}],
      ] as const) {
        const all = script(t, targets, { retry })
        const { events } = all.ask(request)
        all.last().start().head(status).data('a').end()
        assert.deepEqual([events, all.sent.length], [[status, 'a', 'end'], 1])
      }
    })
  }

  it('is the last one once all attempts are used', (t) => {
    const all = script(t, 5, { retry: { attempts: 3 } })
    const { events } = all.ask()
    for (let i = 0; i < 3; i++) all.last().start().head(503)
    assert.deepEqual([events, all.sent.length], [[503], 3])
  })

  it('is not confused with other statuses', (t) => {
    for (const status of [200, 404, 429, 500, 501, 504]) {
      const all = script(t, 2)
      const { events } = all.ask()
      all.last().start().head(status).end()
      assert.deepEqual([events, all.sent.length], [[status, 'end'], 1])
    }
  })

  it('has its connection closed after 64 KiB of a body that nobody needs', (t) => {
    const all = script(t, 2)
    all.ask()
    const [first] = all.sent
    first?.start().head(503).data('x'.repeat(65_535)).data('x')
    assert.ok(all.sent.every(({ aborted }) => !aborted))
    first?.data('x')
    assert.equal(first?.aborted?.message, 'response not needed')
    assert.deepEqual([all.sent.length, all.balancer.targets[0]?.failed], [2, 1])
  })
})

describe('a draining target', () => {
  it('serves those that wait for a place, when no other is up', (t) => {
    const all = script(t, [{ maxConnections: 1 }])
    const asked = [all.ask(), all.ask(), all.ask()]
    for (const target of all.balancer.targets) all.balancer.drain(target)
    for (const [i, { events }] of asked.entries()) {
      assert.equal(all.sent.length, i + 1)
      all.last().start().head(200).end()
      assert.deepEqual(events, [200, 'end'])
    }
  })

  it('that refuses wakes nobody, because those that wait would try it again without end', (t) => {
    const all = script(t, [{ maxConnections: 1 }])
    const asked = [all.ask(), all.ask()]
    for (const target of all.balancer.targets) all.balancer.drain(target)
    all.last().fail('ECONNREFUSED')
    assert.equal(all.sent.length, 1)
    all.advance(5_000)
    for (const { events } of asked) assert.deepEqual(events, ['FLEET_ERR_NO_TARGET'])
    assert.equal(all.sent.length, 1)
  })

  it('that rejects a GET with 502 drains, is not blamed, and costs no attempt and no budget', (t) => {
    const all = script(t, 2, { retry: { attempts: 1, statuses: [], ...noBudget } })
    const { events } = all.ask()
    assert.equal(all.last().rejectable, true)
    all.last().start().head(502, draining).end()
    all.last().start().head(200).end()
    assert.deepEqual(
      [events, all.sent.map(({ to }) => to)],
      [
        [200, 'end'],
        [0, 1],
      ],
    )
    const [target] = all.balancer.targets
    assert.deepEqual([target?.state, target?.served, target?.failed], ['draining', 0, 0])
  })

  it('that rejects a GET leaves all attempts for the other targets', (t) => {
    const all = script(t, 3, { retry: { attempts: 2 } })
    all.ask()
    all.last().start().head(502, draining).end()
    all.last().start().fail('ECONNRESET')
    assert.deepEqual(
      all.sent.map(({ to }) => to),
      [0, 2, 1],
    )
  })

  it('that responds 502 to a POST has executed it: the response is forwarded and the POST is sent once', (t) => {
    for (const request of [post, { method: 'DELETE' }, { ...post, headers: { 'idempotency-key': 'k' } }] as const) {
      const all = script(t, 3)
      const { events } = all.ask(request)
      assert.deepEqual([all.last().rejectable, all.last().repeatable], [false, false])
      all.last().start().head(502, draining).end()
      assert.deepEqual([events, all.sent.length], [[502, 'end'], 1])
      const [target] = all.balancer.targets
      assert.deepEqual([target?.state, target?.failed], ['draining', 1])
    }
  })

  it('is not asked to reject a request that has no other target', (t) => {
    const all = script(t, 1, { retry: noBudget })
    const { events } = all.ask()
    assert.deepEqual([all.last().rejectable, all.last().repeatable], [false, true])
    all.last().start().head(502, draining).end()
    assert.deepEqual([events, all.sent.length], [[502, 'end'], 1])
  })

  it('rejects with 502 alone: other statuses are responses, and 502 without a drain is a failure', (t) => {
    for (const [status, head] of [
      [200, draining],
      [503, draining],
      [502, {}],
    ] as const) {
      const all = script(t, 2, { retry: noBudget })
      const { events } = all.ask()
      all.last().start().head(status, head).end()
      assert.deepEqual([events, all.sent.length], [[status, 'end'], 1])
      assert.deepEqual(
        all.balancer.targets.map(({ state, served }) => [state, served]),
        [
          ['draining' in head ? 'draining' : 'up', 1],
          ['up', 0],
        ],
      )
    }
  })

  it('serves the request that it has rejected once no other target is left', (t) => {
    const all = script(t, 2, { retry: noBudget, outliers: { consecutive: 0, maxEjectedShare: 1 } })
    const { events } = all.ask()
    all.last().start().head(502, draining).end()
    all.last().fail('ECONNREFUSED')
    assert.deepEqual(
      all.sent.map(({ to, rejectable }) => [to, rejectable]),
      [
        [0, true],
        [1, false],
        [0, false],
      ],
    )
    all.last().start().head(200, draining).end()
    assert.deepEqual(events, [200, 'end'])
  })
})

describe('a suspect', () => {
  /** Two targets succeed, the other one has failed once. */
  const suspicious = (all: Script): void => {
    for (let i = 0; i < 3; i++) {
      all.ask(post)
      all
        .last()
        .start()
        .head(all.last().to === 0 ? 500 : 200)
        .end()
    }
  }

  it('has its second 500 replaced for a GET, but not for a POST or without the option', (t) => {
    for (const [request, retry, sends] of [
      [{}, {}, 2],
      [post, {}, 1],
      [{}, { suspects: false }, 1],
      [{}, { attempts: 1 }, 1],
    ] as const) {
      const all = script(t, 3, { retry })
      suspicious(all)
      const { events } = all.ask(request)
      all.last().start().head(500)
      if (sends === 2) all.last().start().head(200)
      assert.deepEqual([events, all.sent.length - 3], [[sends === 2 ? 200 : 500], sends])
    }
  })
})
