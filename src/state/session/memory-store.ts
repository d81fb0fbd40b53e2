import { detached } from '../../base/detached.ts'
import { applyChanges, isAnonymous, type Members } from './record.ts'
import type { RecordStore } from './store.ts'

const defaultMaxSessions = 100_000
/** Characters of all sessions together. */
const defaultMaxLength = 128 * 1024 * 1024

interface Entry {
  readonly text: string
  readonly expires: number
}

/** Keeps sessions in the memory of one process. */
export class MemoryRecordStore implements RecordStore {
  readonly kind = 'memory'
  /** Both maps are in the order of the last write. Anonymous sessions are evicted first. */
  readonly #anonymous = new Map<string, Entry>()
  readonly #others = new Map<string, Entry>()
  readonly #users = new Map<string, string>()
  readonly #maxSessions: number
  readonly #maxLength: number
  #length = 0

  /** Limits: 100,000 sessions and 128 Mi characters by default. Beyond them the least recently written is evicted. */
  constructor(limits: { maxSessions?: number; maxLength?: number } = {}) {
    this.#maxSessions = limits.maxSessions ?? defaultMaxSessions
    this.#maxLength = limits.maxLength ?? defaultMaxLength
  }

  get size(): number {
    return this.#anonymous.size + this.#others.size
  }

  read(id: string): string | null {
    const session = this.#find(id)
    if (session && session.expires > Date.now()) return session.text
    this.#drop(id)
    return null
  }

  write(id: string, text: string, ttlMs: number): void {
    const now = Date.now()
    const user = this.#users.get(id)
    this.#drop(id)
    // A signer of the app may return a part of the cookie.
    const own = detached(id)
    if (user !== undefined) this.#users.set(own, user)
    const sessions = isAnonymous(text) ? this.#anonymous : this.#others
    sessions.set(own, { text, expires: now + ttlMs })
    this.#length += text.length
    for (const map of [this.#anonymous, this.#others])
      for (const [oldest, { expires }] of map) {
        if (expires > now && this.size <= this.#maxSessions && this.#length <= this.#maxLength) break
        this.#drop(oldest)
      }
  }

  replace(id: string, text: string, ttlMs: number): boolean {
    if (this.read(id) === null) return false
    this.write(id, text, ttlMs)
    return true
  }

  merge(id: string, changes: Members, ttlMs: number, maxBytes: number): boolean {
    const session = this.#find(id)
    const leftMs = session ? session.expires - Date.now() : 0
    if (!session || leftMs <= 0) return false
    this.write(id, applyChanges(session.text, changes, maxBytes), ttlMs || leftMs)
    return true
  }

  destroy(id: string): boolean {
    return this.#drop(id)
  }

  addToUser(user: string, id: string): void {
    this.#users.set(detached(id), user)
  }

  removeFromUser(user: string, id: string): void {
    if (this.#users.get(id) === user) this.#users.delete(id)
  }

  idsOfUser(user: string): string[] {
    return [...this.#users].filter(([, owner]) => owner === user).map(([id]) => id)
  }

  #find(id: string): Entry | undefined {
    return this.#others.get(id) ?? this.#anonymous.get(id)
  }

  #drop(id: string): boolean {
    this.#users.delete(id)
    const session = this.#find(id)
    if (!session) return false
    this.#length -= session.text.length
    return this.#others.delete(id) || this.#anonymous.delete(id)
  }
}
