/** The arguments of a worker. */
export interface Job {
  readonly file: string
  readonly seed: number
  /** Time for new inputs, ms; 0: only `inputs`. */
  readonly ms: number
  /** Run first; by default the target's seeds. */
  readonly inputs?: readonly Uint8Array[]
  /** Whether to minimise an input that throws. */
  readonly minimise: boolean
  /** Count of inputs, length of the current one, and its bytes, for the watching thread. */
  readonly shared: SharedArrayBuffer
}

export interface Report {
  readonly inputs: number
  readonly outcomes: number
  readonly crash?: { readonly input: Uint8Array; readonly stack: string }
}

/** Two counters precede the input. */
export const headerBytes = 8
