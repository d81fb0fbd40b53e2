/** A file of `test/fuzz/targets` exports one of these as its default. */
export interface Target {
  /** Inputs to begin with: what the parser accepts, and what once broke it. */
  readonly seeds: readonly (string | Buffer)[]
  /** Words that mutations insert. */
  readonly dictionary?: readonly (string | Buffer)[]
  /** Makes an input from scratch, where mutation alone would rarely reach a valid one. */
  generate?(random: Generator): Buffer
  /** @default 4096 */
  readonly maxBytes?: number
  /** Runs once before the first input; the returned function runs after the last one. */
  prepare?(): Promise<() => unknown>
  /**
   * Handles one input. A throw is a crash, and the promise must settle.
   *
   * @returns a short description of the outcome: an input with a new one is kept, and mutated further
   */
  run(input: Buffer): string | undefined | Promise<string | undefined>
}

/** What {@link Target.generate} draws from. */
export interface Generator {
  below(limit: number): number
  pick<T>(from: readonly T[]): T
}
