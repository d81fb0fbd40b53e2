/** The default export of each file in `test/fuzz/targets`. */
export interface Target {
  /** Initial inputs: valid ones, and former failures. */
  readonly seeds: readonly (string | Buffer)[]
  /** Words that mutations insert. */
  readonly dictionary?: readonly (string | Buffer)[]
  /** Generates an input from scratch, where mutation would rarely reach a valid one. */
  generate?(random: Generator): Buffer
  /** @default 4096 */
  readonly maxBytes?: number
  /** Runs once before the first input; the returned function runs after the last one. */
  prepare?(): Promise<() => unknown>
  /**
   * Handles one input. A throw is a crash, and the promise must settle.
   *
   * @returns a short description of the outcome: an input with a new one is kept and mutated further
   */
  run(input: Buffer): string | undefined | Promise<string | undefined>
}

/** The random source of {@link Target.generate}. */
export interface Generator {
  below(limit: number): number
  pick<T>(from: readonly T[]): T
}
