/** The result of a claim: the request is the first with its key, or the state of the first one. */
export type Claim =
  | { readonly status: 'first' }
  /** @property token of the first request */
  | { readonly status: 'in_flight'; readonly token: string }
  | { readonly status: 'other_request' }
  | { readonly status: 'completed'; readonly response: string }

/** One record per idempotency key. Methods settle within the client's command timeout, or reject with FLEET_ERR_STATE_UNAVAILABLE. */
export interface IdempotencyStore {
  /**
   * Creates the record of a key unless there is one.
   *
   * @param print fingerprint of the request; the same key with another fingerprint is another request
   * @param token of this request; only its owner can renew, complete or release the record
   * @param lockMs life of the record if its owner dies
   */
  claim(key: string, print: string, token: string, lockMs: number): Promise<Claim>
  renew(key: string, print: string, token: string, lockMs: number): Promise<void>
  /** Stores the response for repetitions. @returns `false` if the record was lost meanwhile */
  complete(key: string, print: string, token: string, response: string, ttlMs: number): Promise<boolean>
  /** Deletes the record, so that the request can be repeated. */
  release(key: string, print: string, token: string): Promise<void>
}

export interface StoreBounds {
  readonly maxRecords: number
  readonly maxBytes: number
}
