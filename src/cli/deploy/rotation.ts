import type { Step } from './step.ts'

/** `full`: as configured; `none`: known, but out of the rotation; a number: this weight. */
export type Share = 'full' | 'none' | number

/** Which instances a front sends requests to, by address (`host:port`); one that is not listed gets none. */
export type Shares = ReadonlyMap<string, Share>

/** A front whose rotation can be changed while it runs. */
export interface Rotation {
  /** As it is now: what runs tells it, not a file of ours. */
  readonly now: Shares
  /** Steps from one rotation to another, none when they are alike. Who comes is in before who leaves is out. */
  change(from: Shares, to: Shares): readonly Step[]
}

/** Another share for one instance. */
export const withShare = (shares: Shares, address: string, share: Share): Shares =>
  new Map([...shares, [address, share]])

export const alike = (a: Shares, b: Shares): boolean =>
  a.size === b.size && [...a].every(([address, share]) => b.get(address) === share)

/** Largest weight that every front takes. */
const heaviest = 256

/** Weights by which the canary gets `percent` of the requests, and each stable instance the same. */
export function canaryShares(stable: readonly string[], canary: readonly string[], percent: number): Shares {
  const [each, its] = [(100 - percent) / stable.length, percent / canary.length]
  const scale = heaviest / Math.max(each, its)
  const weight = (part: number): number => Math.max(1, Math.round(part * scale))
  return new Map([
    ...stable.map((address) => [address, weight(each)] as const),
    ...canary.map((address) => [address, weight(its)] as const),
  ])
}
