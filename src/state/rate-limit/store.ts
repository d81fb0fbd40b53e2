import { hash } from 'node:crypto'

/** The state of one client in one limit. */
export interface LimitState {
  /** Requests in the window, including this one; `max + 1` if it was rejected. */
  readonly count: number
  /** Time until the oldest requests leave the window, ms; a rejected client may retry then. */
  readonly resetMs: number
}

/**
 * Counts requests in a sliding window of ten slices (Figma, "An alternative approach to rate limiting", 2017). The slice that
 * the window's start cuts through counts in full, so no window of this length contains more than `max` requests, wherever it
 * begins. In return, capacity is freed up to a tenth of the window late. Rejected requests are not counted, so a client that
 * keeps sending still gets its share.
 */
export interface LimitStore {
  /** @param counts `false`: only reads the state */
  take(key: string, windowMs: number, max: number, counts: boolean): LimitState | Promise<LimitState>
}

export const slices = 10

/** The key, hashed if long, because clients can influence keys. */
export const boundedKey = (key: string): string => (key.length <= 200 ? key : hash('sha256', key, 'base64url'))
