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
})
