import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LoadMeter } from '../../../src/instance/metrics/load.ts'

describe('load meter', () => {
  it('reports zeros before the first second is over', () => {
    const load = new LoadMeter()
    load.observe(5, false)
    assert.deepEqual([load.read().rps, load.read().p95], [0, 0])
  })

  it('computes percentiles within its buckets in any order of observations', () => {
    for (const order of [1, -1]) {
      const load = new LoadMeter()
      const times = Array.from({ length: 1000 }, (_, i) => i + 1).sort((a, b) => order * (a - b))
      for (const ms of times) load.observe(ms, ms % 10 === 0)
      load.tick()
      const { p50, p95, p99, rps, errorRate } = load.read()
      assert.equal(rps, 1000)
      assert.equal(errorRate, 0.1)
      for (const [found, exact] of [
        [p50, 500],
        [p95, 950],
        [p99, 990],
      ] as const) {
        assert.ok(found >= exact && found <= exact * 1.16, `${found} for ${exact}`)
      }
    }
  })

  it('forgets after ten seconds and keeps its totals', () => {
    const load = new LoadMeter()
    load.observe(100, true)
    for (let second = 0; second < 10; second++) load.tick()
    assert.equal(load.read().rps, 0.1)
    load.tick()
    assert.deepEqual([load.read().rps, load.read().p99], [0, 0])
    assert.deepEqual(load.totals, { requests: 1, errors: 1 })
  })

  it('accepts extreme values', () => {
    const load = new LoadMeter()
    for (const ms of [0, 0.001, 1e9]) load.observe(ms, false)
    load.tick()
    assert.ok(load.read().p99 > 60_000)
  })
})
