import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chiSquare, upperTail } from '../../../src/cli/smoke/chi-square.ts'

const near = (actual: number, expected: number, relative = 1e-11): void =>
  assert.ok(Math.abs(actual - expected) <= Math.abs(expected) * relative, `${actual} is not ${expected}`)

test('the upper tail agrees with tables and with SciPy', () => {
  // [x, degrees of freedom, P(X > x)]; the .05 rows are the critical values of every statistics book.
  for (const [x, df, p] of [
    [3.841458820694124, 1, 0.05],
    [5.991464547107979, 2, 0.05],
    [9.487729036781154, 4, 0.05],
    [18.307038053275146, 10, 0.05],
    [124.342113404004, 100, 0.05],
    [6.634896601021213, 1, 0.01],
    [10.827566170662733, 1, 0.001],
    [1, 1, 0.31731050786291404],
    [1, 3, 0.8012519569012008],
    [10, 5, 0.0752352461465122],
    [0.1, 7, 0.9999976885812013],
    [30, 31, 0.5172965493148958],
    [1000, 999, 0.4851314892749026],
    [60, 3, 5.878230727906912e-13],
    [100, 1, 1.5239706048320995e-23],
  ] as const) {
    near(upperTail(x, df), p)
  }
  assert.equal(upperTail(0, 3), 1)
  assert.equal(upperTail(5000, 2), 0)
})

test('the upper tail agrees with its closed form for even degrees of freedom, on both sides of the split', () => {
  for (let df = 2; df <= 60; df += 2) {
    for (const x of [0.01, 0.5, df / 2, df, df + 1.9, df + 2.1, 2 * df, 5 * df]) {
      let term = Math.exp(-x / 2)
      let sum = term
      for (let i = 1; i < df / 2; i++) sum += term *= x / 2 / i
      near(upperTail(x, df), sum, 1e-10)
    }
  }
})

test('the upper tail obeys the recurrence that joins odd degrees of freedom (DLMF 8.8.6)', () => {
  // Q(a + 1, x) = Q(a, x) + xᵃ e⁻ˣ / Γ(a + 1)
  let gamma = Math.sqrt(Math.PI) / 2 // Γ(3/2)
  for (let a = 0.5; a < 20; a++) {
    for (const x of [0.2, 1, 3, 7.5, 15]) {
      near(upperTail(2 * x, 2 * a + 2), upperTail(2 * x, 2 * a) + (x ** a * Math.exp(-x)) / gamma, 1e-10)
    }
    gamma *= a + 1
  }
})

test('goodness of fit: the two examples of R’s chisq.test', () => {
  const even = chiSquare([20, 15, 25])
  near(even.statistic, 2.5)
  assert.equal(even.degreesOfFreedom, 2)
  near(even.p, Math.exp(-1.25))
  const weighted = chiSquare([89, 37, 30, 28, 2], [40, 20, 20, 15, 5])
  assert.equal(weighted.statistic.toFixed(4), '9.9901')
  assert.equal(weighted.p.toFixed(5), '0.04059')
  assert.equal(weighted.reliable, true)
})

test('the test keeps its significance level for a fair die', () => {
  let seed = 7
  const random = (): number => {
    seed = (seed * 48271) % 2147483647 // Park & Miller 1988: the same run every time
    return seed / 2147483647
  }
  let rejected = 0
  for (let run = 0; run < 2000; run++) {
    const rolls = Array.from({ length: 200 }, () => Math.floor(random() * 4))
    const counts = [0, 1, 2, 3].map((side) => rolls.filter((roll) => roll === side).length)
    if (chiSquare(counts).p < 0.05) rejected++
  }
  // 2000 runs at 5 %: 100 ± 5 standard deviations of 9.7.
  assert.ok(rejected > 50 && rejected < 150, `${rejected} of 2000`)
})

test('rejects invalid observations and weights', () => {
  assert.throws(() => chiSquare([10]), RangeError)
  assert.throws(() => chiSquare([0, 0]), RangeError)
  assert.throws(() => chiSquare([1, 2], [1]), RangeError)
  assert.throws(() => chiSquare([1, 2], [1, 0]), RangeError)
  assert.equal(chiSquare([3, 1, 2]).reliable, false)
  assert.equal(chiSquare([500, 0]).p < 1e-100, true)
})
