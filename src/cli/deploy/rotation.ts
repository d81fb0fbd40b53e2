import type { Step } from './step.ts'

/** `full`: the configured weight; `none`: out of rotation; a number: this weight. */
export type Share = 'full' | 'none' | number

/** The instances of a front by address (`host:port`); absent ones receive no requests. */
export type Shares = ReadonlyMap<string, Share>

/** A front whose rotation can be changed at run time. */
export interface Rotation {
  /** The current rotation, read from the front. */
  readonly now: Shares
  /** Steps from one rotation to another; none if they are equal. Instances are added before others are removed. */
  change(from: Shares, to: Shares): readonly Step[]
}

export const sameShares = (a: Shares, b: Shares): boolean =>
  a.size === b.size && [...a].every(([address, share]) => b.get(address) === share)

/** The largest weight that every front accepts. */
const maxWeight = 256

/** Weights that give the canaries `percent` of the requests, and the stable instances equal shares of the rest. */
export function canaryShares(stable: readonly string[], canary: readonly string[], percent: number): Shares {
  const [each, its] = [(100 - percent) / stable.length, percent / canary.length]
  const scale = maxWeight / Math.max(each, its)
  const weight = (part: number): number => Math.max(1, Math.round(part * scale))
  return new Map([
    ...stable.map((address) => [address, weight(each)] as const),
    ...canary.map((address) => [address, weight(its)] as const),
  ])
}
