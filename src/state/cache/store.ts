import { randomBytes } from 'node:crypto'

/** A value as Redis stores it. */
export interface SharedValue {
  /** Unique to this write, 16 characters. */
  readonly id: string
  readonly value: unknown
  /** Size as JSON. */
  readonly bytes: number
  /** Each tag with its stamp from before the value was loaded. The value is valid while every stamp is unchanged. */
  readonly stamps: Readonly<Record<string, string>>
  /** Remaining freshness, ms; negative: time since it became stale. */
  readonly freshMs: number
}

export interface SharedRead {
  /** Fresh, or stale but still stored. */
  readonly found?: SharedValue
  /** True: the caller loads the value, until it calls {@link SharedCacheStore.fill} or the lease expires. */
  readonly leased: boolean
}

export interface SharedReadOptions {
  /** Requests the lease under this token if there is no fresh value. @default no lease */
  token?: string
  leaseMs?: number
  /** Id of an invalid value, which is treated as absent. */
  reject?: string
}

export interface SharedWrite {
  json: string
  stamps: Readonly<Record<string, string>>
  /** How long the value is fresh, ms. */
  freshMs: number
  /** How long the value is stored after that, ms. */
  keepMs: number
}

/** The tier that instances share. Every method settles within the client's command timeout. */
export interface SharedCacheStore {
  read(key: string, options?: SharedReadOptions): Promise<SharedRead>
  /** Stores a value and ends any lease: the value that its holder loads is older. */
  put(key: string, value: SharedWrite): Promise<void>
  /**
   * Ends the lease of this token and stores the value, if there is one. Does nothing if the lease was lost.
   *
   * @returns whether other instances wait for the value
   */
  fill(key: string, token: string, value?: SharedWrite): Promise<boolean>
  renew(key: string, token: string, leaseMs: number): Promise<void>
  /** Deletes the value and ends any lease, so that the result of an earlier load is not stored. */
  delete(key: string): Promise<void>
  /** @returns the stamp of each tag, created if missing and stored for at least `lifeMs` */
  stamps(tags: readonly string[], lifeMs: number): Promise<Record<string, string>>
  /** Invalidates every value with this tag. */
  deleteStamp(tag: string): Promise<void>
}

export const newId = (): string => randomBytes(12).toString('base64url')
