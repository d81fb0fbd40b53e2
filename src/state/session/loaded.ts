import type { StoredCookie } from './cookie.ts'
import { restOf } from './text.ts'

export type Data = Readonly<Record<string, unknown>>

/** A session as it was read. `baseline` is what its data is compared with when it is saved. */
export interface Loaded {
  readonly id: string
  readonly data: Data
  readonly cookie?: StoredCookie
  readonly baseline: string
  /** `data` stays in memory for the next one who reads it: of its objects everybody gets a {@link copy}. */
  readonly shared?: boolean
}

/** @returns `undefined` for what is no session of ours */
export function parse(id: string, text: string | null): Loaded | undefined {
  const baseline = text === null ? undefined : restOf(text)
  if (baseline === undefined) return undefined
  try {
    const data = JSON.parse(text as string) as Data
    const cookie = data.cookie as StoredCookie
    return isCookie(cookie) ? { id, data, cookie, baseline } : undefined
  } catch {
    return undefined
  }
}

/** Whether a cookie can be made of it: what others may have written must not make every request with it fail. */
function isCookie(cookie: StoredCookie): boolean {
  const { path, domain, expires, originalMaxAge, maxAge, at, sameSite } = cookie
  return (
    !Object.values(cookie).some(isObject) &&
    isText(path, /^[\x20-\x3a\x3d-\x7e]*$/) &&
    isText(domain, /^\.?[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?(?:\.[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?)*$/i) &&
    (typeof sameSite === 'boolean' || isText(sameSite, /^(?:lax|strict|none)$/i)) &&
    [originalMaxAge, maxAge, at].every((ms) => ms === undefined || ms === null || Number.isFinite(ms)) &&
    (expires === undefined || expires === null || !Number.isNaN(new Date(expires).getTime()))
  )
}

const isText = (value: unknown, pattern: RegExp): boolean =>
  value === undefined || value === null || (typeof value === 'string' && (value === '' || pattern.test(value)))

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

/** A session that stays in memory: it is parsed once, when it is read again. */
export class Kept {
  readonly #id: string
  readonly #text: string
  #loaded: Loaded | null | undefined

  constructor(id: string, text: string) {
    this.#id = id
    this.#text = text
  }

  load(): Loaded | undefined {
    if (this.#loaded === undefined) {
      const loaded = parse(this.#id, this.#text)
      this.#loaded = loaded ? { ...loaded, shared: true } : null
    }
    return this.#loaded ?? undefined
  }
}

/** Of something that came from JSON. */
export function copy<T>(value: T): T
export function copy(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(copy)
  const copied: Record<string, unknown> = { ...value }
  for (const name in copied) copied[name] = copy(copied[name])
  return copied
}

/**
 * Whether the data of a session is what it was, as far as that can be told without writing it.
 *
 * @param isOriginal `was` cannot have been changed by who changes the session: objects in it can be compared, too
 */
export function isSame(session: Data, names: readonly string[], was: Data, isOriginal: boolean): boolean {
  for (const name of names) {
    const value = session[name]
    if (isObject(value) ? !isOriginal || !isEqual(value, was[name]) : value !== was[name]) return false
  }
  return names.length === Object.keys(was).length - ('cookie' in was ? 1 : 0)
}

/** Whether something would be written to JSON as what came from there; when in doubt, no. */
export function isEqual(value: unknown, original: unknown): boolean {
  if (value === original) return true
  if (typeof value !== 'object' || typeof original !== 'object' || value === null || original === null) return false
  if (Array.isArray(original)) return Array.isArray(value) && areEqual(value, original)
  if (Object.getPrototypeOf(value) !== Object.prototype) return false
  return areEqual(Object.keys(value), Object.keys(original)) && areEqual(Object.values(value), Object.values(original))
}

function areEqual(values: readonly unknown[], originals: readonly unknown[]): boolean {
  if (values.length !== originals.length) return false
  for (let i = 0; i < originals.length; i++) if (!isEqual(values[i], originals[i])) return false
  return true
}
