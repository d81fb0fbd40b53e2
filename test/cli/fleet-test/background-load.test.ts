import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import { BackgroundLoad } from '../../../src/cli/smoke/background-load.ts'
import type { Connection, Target, TargetResponse } from '../../../src/cli/target.ts'
import { until } from '../../helpers/until.ts'
import { context, recorder, response, target } from './stand-ins.ts'

/** Load on a front whose responses are decided by the test, with the clock of the test. */
function loadOf(t: TestContext, respond: () => Partial<TargetResponse> | undefined) {
  let now = 0
  t.mock.method(performance, 'now', () => now)
  const waiting: (() => void)[] = []
  const request = async (): Promise<TargetResponse> => {
    for (;;) {
      const given = respond()
      if (given) return response(given)
      await new Promise<void>((resolve) => void waiting.push(resolve))
    }
  }
  const connect = (): Connection => ({ request, close: async () => undefined })
  const load = new BackgroundLoad(context({ front: { url: 'http://front', connect, request } as unknown as Target }))
  return {
    load,
    pass: (ms: number): void => {
      now += ms
    },
    wake: (): void => {
      for (const resolve of waiting.splice(0)) resolve()
    },
  }
}

describe('the load of a failover', () => {
  it('keeps the connections of half of its clients open', async () => {
    const uses = new Map<string, number>()
    const load = new BackgroundLoad(
      context({
        front: target((_path, _request, connection) => {
          uses.set(connection, (uses.get(connection) ?? 0) + 1)
          return { instanceId: 'a' }
        }),
      }),
    )
    await until(() => load.total >= 40, { what: 'forty requests' })
    await load.stop()
    const kept = [...uses.values()].filter((count) => count > 1)
    assert.equal(kept.length, 2)
    assert.ok(uses.size > 10, 'the others connect for each request')
  })

  it('calls an instance silent only after the time, and if the others responded 20 times each meanwhile', async (t) => {
    let next: string | undefined = 'a'
    let left = 1
    const { load, pass, wake } = loadOf(t, () => (left-- > 0 ? { instanceId: next } : undefined))
    await until(() => load.total === 1)
    pass(301)
    assert.equal(load.isSilent('a', 0, 300, 2), false, 'nothing responded')
    next = 'b'
    left = 40
    wake()
    await until(() => load.total === 41)
    assert.equal(load.isSilent('a', 0, 300, 2), false, 'two others could have responded 20 times each')
    left = 1
    wake()
    await until(() => load.total === 42)
    assert.equal(load.isSilent('a', 0, 300, 2), true)
    assert.equal(load.isSilent('a', 0, 301, 2), false, 'not longer than that')
    assert.equal(load.isSilent('a', 1, 300, 2), false, 'counted from the later moment')
    assert.equal(load.isSilent('b', 0, 300, 2), false)
    assert.equal(load.isSilent('never', 0, 300, 2), true)
    left = 1_000
    wake()
    await load.stop()
  })

  it('is drawn by intervals of 100 ms, with failures apart', async (t) => {
    const given: Partial<TargetResponse>[] = [{ instanceId: 'b-10' }, { instanceId: 'b-9' }, { status: 502 }, {}]
    const { load, pass, wake } = loadOf(t, () => given.shift())
    await until(() => load.total === 4)
    pass(249.6)
    assert.equal(load.mark('drain'), 249.6)
    given.push({ status: 0, error: 'ECONNRESET', instanceId: 'b-9' })
    wake()
    await until(() => load.total === 5)
    assert.equal(load.lastFailure, 249.6)
    assert.deepEqual([load.lastFrom('b-9'), load.lastFrom('none')], [249.6, 0])
    assert.deepEqual(load.timeline('kill'), {
      check: 'kill',
      bucketMs: 100,
      instances: [
        { instanceId: 'b-9', requests: [1, 0, 0] },
        { instanceId: 'b-10', requests: [1, 0, 0] },
        { instanceId: 'unknown instance', requests: [1, 0, 0] },
      ],
      failed: [1, 0, 1],
      events: [{ atMs: 250, text: 'drain' }],
    })
    const { results, said } = recorder()
    load.report(results, ', late', 'look')
    assert.deepEqual(said(), ['fail 2 of 5 requests failed, late: 1 × 502, 1 × ECONNRESET', '→ look'])
    given.push(...Array.from({ length: 1_000 }, () => ({})))
    wake()
    await load.stop()
  })
})
