export interface Fit {
  /** Σ (observed − expected)² / expected */
  readonly statistic: number
  readonly degreesOfFreedom: number
  /** Probability that a front that follows the weights deviates at least this much, 0 to 1. */
  readonly p: number
  /** False when the expected count of a class is below 5, where the approximation is invalid (Cochran 1954). */
  readonly reliable: boolean
}

/**
 * Pearson's chi-square test of goodness of fit: do counts follow weights?
 *
 * @param observed how often each class was seen
 * @param weights positive, on any scale; default: equal
 * @throws RangeError with fewer than two classes, nothing observed, or a weight that is not positive
 */
export function chiSquare(observed: readonly number[], weights: readonly number[] = observed.map(() => 1)): Fit {
  const total = observed.reduce((sum, count) => sum + count, 0)
  if (observed.length < 2 || total <= 0) throw new RangeError('chi-square needs two classes and an observation')
  if (weights.length !== observed.length || !weights.every((weight) => weight > 0)) {
    throw new RangeError('chi-square needs one positive weight for each class')
  }
  const weight = weights.reduce((sum, each) => sum + each, 0)
  const expected = weights.map((each) => (total * each) / weight)
  const statistic = observed.reduce((sum, count, i) => sum + (count - (expected[i] ?? 0)) ** 2 / (expected[i] ?? 1), 0)
  const degreesOfFreedom = observed.length - 1
  return {
    statistic,
    degreesOfFreedom,
    p: upperTail(statistic, degreesOfFreedom),
    reliable: Math.min(...expected) >= 5,
  }
}

/** Probability that a chi-square variable exceeds `x`: Q(degreesOfFreedom / 2, x / 2) (NIST DLMF 8.2.4, Abramowitz & Stegun 26.4.19). */
export function upperTail(x: number, degreesOfFreedom: number): number {
  return regularisedUpperGamma(degreesOfFreedom / 2, x / 2)
}

/**
 * Q(a, x) = Γ(a, x) / Γ(a) for whole and half a > 0, x ≥ 0. Series for γ(a, x) below x = a + 1 (DLMF 8.11.4), continued
 * fraction for Γ(a, x) above (DLMF 8.9.2), because each converges quickly there (Press et al., Numerical Recipes,
 * 6.2).
 */
function regularisedUpperGamma(a: number, x: number): number {
  if (x <= 0) return 1
  const scale = Math.exp(a * Math.log(x) - x - logGamma(a))
  return x < a + 1 ? 1 - scale * series(a, x) : scale * continuedFraction(a, x)
}

const precision = 1e-15

/** Σ xⁿ / (a (a + 1) … (a + n)) */
function series(a: number, x: number): number {
  let term = 1 / a
  let sum = term
  for (let n = 1; term > sum * precision; n++) {
    term *= x / (a + n)
    sum += term
  }
  return sum
}

/** 1 / (x + 1 − a − 1(1 − a) / (x + 3 − a − …)) by the modified Lentz method (Thompson & Barnett 1986). */
function continuedFraction(a: number, x: number): number {
  const tiny = 1e-300
  let b = x + 1 - a
  let c = 1 / tiny
  let d = 1 / b
  let value = d
  for (let i = 1, change = 0; Math.abs(change - 1) > precision && i < 10_000; i++) {
    const numerator = i * (a - i)
    b += 2
    d = 1 / (numerator * d + b || tiny)
    c = b + numerator / c || tiny
    change = c * d
    value *= change
  }
  return value
}

/** ln Γ(a) for whole and half a, exactly by Γ(a + 1) = a Γ(a) from Γ(1) = 1 and Γ(½) = √π. */
function logGamma(a: number): number {
  let sum = Number.isInteger(a) ? 0 : Math.log(Math.PI) / 2
  for (let n = a - 1; n > 0; n--) sum += Math.log(n)
  return sum
}
