/** What a worker is started with. */
export interface Job {
  readonly file: string
  readonly seed: number
  /** How long to try new inputs; 0: only `inputs`. */
  readonly ms: number
  /** Tried first; the target's seeds when left out. */
  readonly inputs?: readonly Uint8Array[]
  /** Whether to reduce an input that throws. */
  readonly minimise: boolean
  /** Number of inputs so far, length of the present one, and the present one, for the thread that watches. */
  readonly shared: SharedArrayBuffer
}

export interface Report {
  readonly inputs: number
  readonly outcomes: number
  readonly crash?: { readonly input: Uint8Array; readonly stack: string }
}

/** Two counters stand before the input. */
export const headerBytes = 8
