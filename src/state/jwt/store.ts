import type { Revocation } from './revocations.ts'

/** Lifetimes of tokens. */
export interface TokenLifetimes {
  readonly accessSeconds: number
  readonly refreshSeconds: number
}

/** Who presents a refresh token, and for how long a second use by the same client counts as a repetition. */
export interface Presenter {
  /** Identifies the client, at most 64 characters without spaces; `-`: unknown. */
  readonly client: string
  readonly leewayMs: number
}

/** The result of presenting a refresh token. A repetition has the result of the first use. */
export type RotationResult =
  | { readonly outcome: 'rotated'; readonly issuedAt: number; readonly generation: number }
  /** With `until`, the session ended because of a reuse, which may not have been recorded yet. */
  | { readonly outcome: 'ended'; readonly until?: number }
  /** The token had been used before. Its session has ended now. */
  | { readonly outcome: 'reused'; readonly until: number }

/**
 * The contract of `memory-store.ts` and `redis-store.ts`: the sessions of a fleet with the generation of each one's
 * current refresh token, and the cut-off of each subject. Times are Unix seconds by the clock of the store, so that
 * instances whose clocks differ agree on the order of events.
 */
export interface TokenStore {
  /** Starts a session at generation 0. @returns the `iat` of its first tokens, always later than the last cut-off */
  open(subject: string, session: string, lifetimes: TokenLifetimes): Promise<number>
  /**
   * Atomically: the current generation is replaced by the next one; any other generation ends the session, unless it is the
   * previous one and its client repeats the call within the leeway.
   */
  rotate(
    subject: string,
    session: string,
    generation: number,
    lifetimes: TokenLifetimes,
    presenter: Presenter,
  ): Promise<RotationResult>
  /** Ends a session. @returns when its last access token expires; `undefined`, with nothing written, if it is unknown */
  end(subject: string, session: string): Promise<number | undefined>
  /** Ends all sessions of a subject. @returns the cut-off: tokens issued in this second or earlier are revoked */
  endAll(subject: string): Promise<number>
  /** Announces a revocation to all instances, including those that start later. */
  record(revocation: Revocation): Promise<void>
}
