/** The fencing token, or the remaining lease of the present holder, ms. */
export type LockAttempt = { readonly token: number } | { readonly heldForMs: number }

/** The holder of each lock and the end of its lease. */
export interface LockStore {
  /**
   * Takes a lock without a holder. Its fencing token is greater than any before it: the protected resource can reject a
   * writer whose token is smaller than one it has seen (Kleppmann, "How to do distributed locking", 2016).
   */
  acquire(name: string, owner: string, ttlMs: number): Promise<LockAttempt>
  /** @returns whether the owner still has the lock */
  renew(name: string, owner: string, ttlMs: number): Promise<boolean>
  /** @returns whether the owner still had the lock */
  release(name: string, owner: string): Promise<boolean>
}
