import type { MaybePromise } from '../../base/maybe-promise.ts'
import type { CachedRecord, Members } from './record.ts'

/** The contract of `memory-store.ts` and `redis-store.ts`: texts of sessions by id, and an index of ids by user. */
export interface RecordStore {
  readonly kind: 'redis' | 'memory'
  /** @returns the text; a store that caches records may return one of those instead */
  read(id: string): MaybePromise<string | CachedRecord | null>
  /** Writes the whole session, whether it exists or not. */
  write(id: string, text: string, ttlMs: number): MaybePromise<void>
  /** Writes the whole session if it exists. @returns false, with nothing written, if it does not */
  replace(id: string, text: string, ttlMs: number): MaybePromise<boolean>
  /**
   * Writes changed members of an existing session. `ttlMs` 0 keeps its time to live.
   *
   * @returns false, with nothing written, if the session does not exist
   * @throws FLEET_ERR_SESSION_TOO_LARGE, with nothing written, when it would exceed `maxBytes` together with the changes
   *   of other requests
   */
  merge(id: string, changes: Members, ttlMs: number, maxBytes: number): MaybePromise<boolean>
  /** @returns whether the session existed */
  destroy(id: string): MaybePromise<boolean>
  /** Adds a session to the index of its user for `ttlMs`. */
  addToUser(user: string, id: string, ttlMs: number): MaybePromise<void>
  removeFromUser(user: string, id: string): MaybePromise<void>
  /** Ids of a user's sessions. Some may have ended, or belong to another user now. */
  idsOfUser(user: string): MaybePromise<string[]>
}
