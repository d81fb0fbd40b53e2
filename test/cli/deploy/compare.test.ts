import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Sample, summarise, whyWorse } from '../../../src/cli/deploy/compare.ts'

describe('the comparison', () => {
  const limits = { errorMargin: 0.01, p95Factor: 1.5, minRequests: 50 }
  const good = { requests: 1000, errors: 0, p95: 20 }

  test('reports errors at once and latency at the end', () => {
    assert.equal(whyWorse({ requests: 100, errors: 0, p95: 25 }, good, limits, true), undefined)
    assert.match(
      whyWorse({ requests: 100, errors: 10, p95: 20 }, good, limits, false) ?? '',
      /10 % of its responses are 5xx/,
    )
    assert.match(whyWorse({ requests: 100, errors: 0, p95: 40 }, good, limits, true) ?? '', /its p95 is 40 ms/)
    assert.equal(whyWorse({ requests: 100, errors: 0, p95: 40 }, good, limits, false), undefined)
  })

  test('passes a canary exactly at a limit and fails it above', () => {
    const canary = { requests: 100, errors: 1, p95: 30 }
    assert.equal(whyWorse(canary, good, limits, true), undefined)
    const errors = whyWorse({ ...canary, requests: 1_000, errors: 11 }, good, limits, true)
    assert.equal(errors, "1.1 % of its responses are 5xx, 0 % of the stable side's")
    const slow = whyWorse({ ...canary, p95: 31 }, good, limits, true)
    assert.equal(slow, "its p95 is 31 ms, the stable side's 20 ms")
    const noise = { ...good, p95: 10 }
    assert.equal(whyWorse({ ...canary, p95: 20 }, noise, limits, true), undefined)
    assert.notEqual(whyWorse({ ...canary, p95: 21 }, noise, limits, true), undefined)
    assert.equal(whyWorse({ ...canary, requests: 50, errors: 0 }, good, limits, true), undefined)
    const few = whyWorse({ ...canary, requests: 49, errors: 0 }, good, limits, true)
    assert.equal(few, 'it received 49 requests; a comparison needs 50')
    const unused = { requests: 0, errors: 0, p95: 0 }
    assert.match(whyWorse({ ...canary, errors: 2 }, unused, limits, false) ?? '', /^2 % .* 0 % of the stable/)
  })

  test('tolerates errors of both sides, and noise', () => {
    assert.equal(whyWorse({ requests: 100, errors: 10, p95: 20 }, { ...good, errors: 100 }, limits, true), undefined)
    const more = whyWorse({ requests: 100, errors: 12, p95: 20 }, { ...good, errors: 100 }, limits, true)
    assert.equal(more, "12 % of its responses are 5xx, 10 % of the stable side's")
    assert.equal(whyWorse({ requests: 100, errors: 0, p95: 9 }, { ...good, p95: 1 }, limits, true), undefined)
  })

  test('fails a canary with too few requests', () => {
    assert.equal(whyWorse({ requests: 3, errors: 3, p95: 1 }, good, limits, false), undefined)
    assert.match(whyWorse({ requests: 3, errors: 0, p95: 1 }, good, limits, true) ?? '', /a comparison needs 50/)
  })

  test('counts from the first sample and ignores earlier latency', () => {
    const side: Sample[][] = [
      [
        { requests: 1000, errors: 900, p95: 999 },
        { requests: 1100, errors: 901, p95: 10 },
      ],
      [
        { requests: 0, errors: 0, p95: 999 },
        { requests: 50, errors: 0, p95: 30 },
      ],
    ]
    assert.deepEqual(summarise(side), { requests: 150, errors: 1, p95: 30 })
    const one = { requests: 7, errors: 3, p95: 9 }
    assert.deepEqual(summarise([[one], []]), { requests: 0, errors: 0, p95: 0 })
    const many = [5, 1, 4, 2, 3].map((p95) => ({ ...one, p95 }))
    assert.equal(summarise([[one, ...many]]).p95, 3)
  })
})
