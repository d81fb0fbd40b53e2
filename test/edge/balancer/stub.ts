import { resolveOptions } from '../../../src/base/options.ts'
import { balancerOptions, type ResolvedBalancerOptions } from '../../../src/edge/balancer/options.ts'
import { Target, type TargetOptions } from '../../../src/edge/balancer/target.ts'

export const balancerDefaults: ResolvedBalancerOptions = resolveOptions('balancer', balancerOptions)

/** A target without connections. */
export function stub(i: number, options: Partial<TargetOptions> = {}): Target {
  const target = new Target({ url: `http://10.0.${i >> 8}.${i & 255}:3000`, ...options }, balancerDefaults.connections)
  target.state = 'up'
  return target
}

export const stubs = (count: number, options: Partial<TargetOptions> = {}): Target[] =>
  Array.from({ length: count }, (_, i) => stub(i, options))

/** How often each target was picked in `times` picks. */
export function tally(times: number, pick: (i: number) => Target): Map<Target, number> {
  const counts = new Map<Target, number>()
  for (let i = 0; i < times; i++) {
    const target = pick(i)
    counts.set(target, (counts.get(target) ?? 0) + 1)
  }
  return counts
}

export function* permutations<T>(values: readonly T[]): Generator<T[]> {
  if (values.length <= 1) yield [...values]
  for (let i = 0; i < values.length; i++) {
    for (const rest of permutations(values.toSpliced(i, 1))) yield [values[i] as T, ...rest]
  }
}

/** Every assignment of `values` to `length` positions. */
export function* tuples<T>(values: readonly T[], length: number): Generator<T[]> {
  if (length === 0) yield []
  else for (const rest of tuples(values, length - 1)) for (const value of values) yield [...rest, value]
}

/** Pearson's statistic of `observed` against `expected` counts. */
export const chiSquare = (observed: readonly number[], expected: readonly number[]): number =>
  observed.reduce((sum, count, i) => sum + (count - (expected[i] as number)) ** 2 / (expected[i] as number), 0)
