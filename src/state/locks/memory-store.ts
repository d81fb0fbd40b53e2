import type { LockAttempt, LockStore } from './store.ts'

/** Locks of one process. */
export class MemoryLockStore implements LockStore {
  readonly #locks = new Map<string, { owner: string; until: number }>()
  #token = 0

  async acquire(name: string, owner: string, ttlMs: number): Promise<LockAttempt> {
    const now = performance.now()
    const lock = this.#locks.get(name)
    if (lock && lock.until > now) return { heldForMs: lock.until - now }
    this.#locks.set(name, { owner, until: now + ttlMs })
    this.#token = Math.max(this.#token + 1, Date.now() * 1000)
    return { token: this.#token }
  }

  async renew(name: string, owner: string, ttlMs: number): Promise<boolean> {
    const lock = this.#locks.get(name)
    if (lock?.owner !== owner || lock.until <= performance.now()) return false
    lock.until = performance.now() + ttlMs
    return true
  }

  async release(name: string, owner: string): Promise<boolean> {
    const lock = this.#locks.get(name)
    if (lock?.owner !== owner) return false
    this.#locks.delete(name)
    return lock.until > performance.now()
  }
}
