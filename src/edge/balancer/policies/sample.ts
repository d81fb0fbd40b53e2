import type { Target } from '../target.ts'
import { perList } from './per-list.ts'

/** One target at random, in proportion to the weights. */
export type Sampler = () => Target

/**
 * O(1) per sample, whatever the weights. Source: Walker's alias method, in the form of Vose, "A Linear Algorithm for
 * Generating Random Numbers with a Given Distribution", IEEE TSE 1991.
 */
function aliasSampler(targets: readonly Target[]): Sampler {
  const n = targets.length
  const total = targets.reduce((sum, { weight }) => sum + weight, 0)
  if (total === 0 || targets.every(({ weight }) => weight === targets[0]?.weight)) {
    return () => targets[Math.floor(Math.random() * n)] as Target
  }
  const share = targets.map(({ weight }) => (weight * n) / total)
  const alias = targets.map((_, i) => i)
  const small = [...share.keys()].filter((i) => (share[i] as number) < 1)
  const large = [...share.keys()].filter((i) => (share[i] as number) >= 1)
  while (small.length > 0 && large.length > 0) {
    const poor = small.pop() as number
    const rich = large.at(-1) as number
    alias[poor] = rich
    share[rich] = (share[rich] as number) + (share[poor] as number) - 1
    if ((share[rich] as number) < 1) small.push(large.pop() as number)
  }
  // The remaining shares differ from 1 by rounding only.
  for (const i of [...small, ...large]) share[i] = 1
  return () => {
    const i = Math.floor(Math.random() * n)
    return targets[Math.random() < (share[i] as number) ? i : (alias[i] as number)] as Target
  }
}

export const samplerOf = (): ((targets: readonly Target[]) => Sampler) => perList(aliasSampler)

/** Two different targets, or the same one twice if it is the only one. */
export function samplePair(targets: readonly Target[], sample: Sampler): readonly [Target, Target] {
  const first = sample()
  if (targets.length === 1) return [first, first]
  for (let attempt = 0; attempt < 4; attempt++) {
    const second = sample()
    if (second !== first) return [first, second]
  }
  // One target has nearly all the weight: take any other.
  const i = Math.floor(Math.random() * (targets.length - 1))
  const second = targets[i] as Target
  return [first, second === first ? (targets.at(-1) as Target) : second]
}
