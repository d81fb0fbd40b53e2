import type { PromiseId } from './promises.ts'
import { type Proof, type ProveOptions, prove } from './prove.ts'

export interface Rounds {
  /** Rounds in the quick mode, in the first part only. */
  quick: number
  /** Rounds of each part in the full mode. */
  full: number
  /** Number of parts: each is a proof, so that an interrupted run repeats one part at most. */
  parts: number
}

/** Defines a proof in several parts. The body gets the number of rounds. */
export function proveInParts(
  name: string,
  promise: PromiseId,
  { quick, full, parts }: Rounds,
  body: (proof: Proof, rounds: number) => Promise<void>,
  options: ProveOptions = {},
): void {
  for (let part = 1; part <= parts; part++) {
    const only = { ...options, fullOnly: options.fullOnly || part > 1 }
    prove(parts === 1 ? name : `${name}, part ${part}`, promise, (proof) => body(proof, proof.pick(quick, full)), only)
  }
}
