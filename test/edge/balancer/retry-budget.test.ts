import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { RetryBudget } from '../../../src/edge/balancer/retry-budget.ts'

describe('a retry budget', () => {
  it('allows retries for a share of the requests, at any rate', () => {
    const budget = new RetryBudget(0.2, 0, 0)
    let retries = 0
    for (let i = 0; i < 1000; i++) {
      budget.deposit()
      if (budget.withdraw(0)) retries++
    }
    assert.ok(Math.abs(retries - 200) <= 1)
  })

  it('always allows the minimum rate', () => {
    const budget = new RetryBudget(0, 10, 0)
    let retries = 0
    for (let ms = 0; ms < 60_000; ms += 10) if (budget.withdraw(ms)) retries++
    assert.ok(retries > 500 && retries < 720, String(retries))
  })

  it('does not accumulate for ever', () => {
    const budget = new RetryBudget(1, 0, 0)
    for (let i = 0; i < 1000; i++) budget.deposit()
    assert.equal(budget.withdraw(120_000), false)
  })

  it('starts with ten seconds of the minimum rate, and allows a retry for a whole token', () => {
    for (const [perSecond, retries] of [
      [0, 0],
      [0.0999, 0],
      [0.1, 1],
      [0.2, 2],
      [1, 10],
      [10, 100],
    ] as const) {
      const budget = new RetryBudget(0, perSecond, 5)
      let allowed = 0
      while (budget.withdraw(5)) allowed++
      assert.equal(allowed, retries, String(perSecond))
    }
  })

  it('charges a whole token for a retry and nothing for a rejected one', () => {
    const budget = new RetryBudget(0.25, 0, 0)
    const withdrawn: boolean[] = []
    for (let i = 0; i < 8; i++) {
      budget.deposit()
      withdrawn.push(budget.withdraw(0))
    }
    assert.deepEqual(withdrawn, [false, false, false, true, false, false, false, true])
  })

  it('loses tokens with a time constant of ten seconds', () => {
    for (const [ms, retries] of [
      [0, 100],
      [10_000, 36],
      [20_000, 13],
      [50_000, 0],
    ] as const) {
      const budget = new RetryBudget(1, 0, 0)
      for (let i = 0; i < 100; i++) budget.deposit()
      let allowed = 0
      while (budget.withdraw(ms)) allowed++
      assert.equal(allowed, retries, String(ms))
    }
  })

  it('refills towards ten seconds of the minimum rate', () => {
    const budget = new RetryBudget(0, 1, 0)
    while (budget.withdraw(0));
    assert.equal(budget.withdraw(1053), false)
    const another = new RetryBudget(0, 1, 0)
    while (another.withdraw(0));
    assert.equal(another.withdraw(1054), true)
  })
})
