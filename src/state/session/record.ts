import { FleetError } from '../../base/errors.ts'
import type { StoredCookie } from './cookie.ts'

/**
 * The text of a session, as stores hold it: JSON with one member per line, the cookie first. One `GET` and one
 * `JSON.parse` read it. A JSON value never contains a raw line feed, so a Redis script can replace members without
 * parsing their values.
 *
 *     {"cookie":{"expires":1763712000000,"originalMaxAge":86400000}
 *     ,"visits":3
 *     }
 *
 * Members are kept as JSON by quoted name.
 */
export type Members = Map<string, string>

export type SessionData = Readonly<Record<string, unknown>>

/** A session that was read from a store. */
export interface SessionRecord {
  readonly id: string
  readonly data: SessionData
  readonly cookie?: StoredCookie
  /** The data as text. A save compares the session with it to find what has changed. */
  readonly baseline: string
  /** Whether `data` stays in memory for later requests. Its objects must then be {@link copy copied}. */
  readonly shared?: boolean
}

/** Default of the option `maxBytes`. */
export const defaultMaxBytes = 65_536

export const tooLarge = (maxBytes: number): FleetError =>
  new FleetError('FLEET_ERR_SESSION_TOO_LARGE', `its data has more than ${maxBytes} bytes as JSON`)

/**
 * @param before the data before the change: data that exceeds a limit which was higher earlier may still shrink
 * @throws FLEET_ERR_SESSION_TOO_LARGE
 */
export function checkSize(data: string, maxBytes: number, before = ''): void {
  // UTF-8 needs at most three bytes per UTF-16 code unit.
  if (data.length * 3 <= maxBytes) return
  const bytes = Buffer.byteLength(data)
  if (bytes > maxBytes && bytes > Buffer.byteLength(before)) throw tooLarge(maxBytes)
}

/** Whether the session has no login. Its cookie, on the first line, says so. */
export const isAnonymous = (text: string): boolean => /^[^\n]*"anonymous":\d/.test(text)

const plainName = /^[\w-]*$/

/** A name as it stands in the text. It contains no `"`, so that a pattern finds its end. */
export function quote(name: string): string {
  if (plainName.test(name)) return `"${name}"`
  const escaped = JSON.stringify(name).slice(1, -1)
  return `"${escaped.replace(/\\./g, (pair) => (pair === '\\"' ? '\\u0022' : pair))}"`
}

/** The text of a session, from the JSON of its cookie and the text of its data. */
export const joinText = (cookie: string, data: string): string => `{"cookie":${cookie}${data}`

/** The text of the data: the part after the cookie. Equal data in the same order has the same text. */
export function serialize(data: SessionData): string {
  let text = ''
  for (const name of Object.keys(data)) {
    const json = stringify(name, data[name])
    if (json !== undefined) text += `\n,${quote(name)}:${json}`
  }
  return `${text}\n}`
}

function stringify(name: string, value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch (cause) {
    throw new FleetError('FLEET_ERR_SESSION_VALUE_INVALID', `\`session.${name}\` is not serializable as JSON`, {
      cause,
    })
  }
}

/** @returns the text of the data, or `undefined` when the text is not a session of this plugin */
export function dataText(text: string): string | undefined {
  if (!text.startsWith('{"cookie":{') || !text.endsWith('\n}')) return undefined
  return text.slice(text.indexOf('\n'))
}

/** The members of what {@link serialize} returned. */
export function parseMembers(data: string): Members {
  const found: Members = new Map()
  for (const [, name, json] of data.matchAll(/,("[^"\n]*"):([^\n]*)(?=\n)/g)) found.set(name as string, json as string)
  return found
}

/** The changes from one data text to another. An empty string removes a member. */
export function difference(before: string, after: string): Members {
  const [old, current] = [parseMembers(before), parseMembers(after)]
  const changes: Members = new Map()
  for (const [name, json] of current) if (old.get(name) !== json) changes.set(name, json)
  for (const name of old.keys()) if (!current.has(name)) changes.set(name, '')
  return changes
}

/** Applies changes to the text of a session, like the script of the Redis store. @throws FLEET_ERR_SESSION_TOO_LARGE */
export function applyChanges(text: string, changes: Members, maxBytes: number): string {
  const all = parseMembers(`\n,${text.slice(1)}`)
  for (const [name, json] of changes) {
    if (json === '') all.delete(name)
    else all.set(name, json)
  }
  const merged = `{${[...all].map(([name, json]) => `${name}:${json}`).join('\n,')}\n}`
  checkSize(dataText(merged) ?? '', maxBytes, dataText(text))
  return merged
}

/** @returns `undefined` when the text is not a session of this plugin */
export function parseRecord(id: string, text: string | null): SessionRecord | undefined {
  const baseline = text === null ? undefined : dataText(text)
  if (baseline === undefined) return undefined
  try {
    const data = JSON.parse(text as string) as SessionData
    const cookie = data.cookie as StoredCookie
    return isCookie(cookie) ? { id, data, cookie, baseline } : undefined
  } catch {
    return undefined
  }
}

const isText =
  (pattern: RegExp) =>
  (value: unknown): boolean =>
    typeof value === 'string' && (value === '' || pattern.test(value))
const isSameSite = isText(/^(?:lax|strict|none)$/i)

/** Valid values of the attributes of a cookie, besides `null`. */
const validators: ReadonlyMap<string, (value: unknown) => boolean> = new Map([
  ['path', isText(/^[\x20-\x3a\x3d-\x7e]*$/)],
  ['domain', isText(/^\.?[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?(?:\.[a-z\d](?:[a-z\d-]{0,61}[a-z\d])?)*$/i)],
  ['sameSite', (value) => typeof value === 'boolean' || isSameSite(value)],
  ['originalMaxAge', Number.isFinite],
  ['maxAge', Number.isFinite],
  ['at', Number.isFinite],
  ['expires', (value) => !Number.isNaN(new Date(value as string | number).getTime())],
])

/**
 * Whether the object is a valid cookie. Another program may have written it, and an invalid one would fail every request.
 * Most cookies have only two attributes, so an absent one costs nothing.
 */
function isCookie(cookie: StoredCookie): boolean {
  if (!isObject(cookie)) return false
  for (const name in cookie) {
    const value = cookie[name as keyof StoredCookie]
    if (isObject(value) || (value !== null && validators.get(name)?.(value) === false)) return false
  }
  return true
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

/** A session in the memory of this process. Its text is parsed once, at the first read. */
export class CachedRecord {
  readonly #id: string
  readonly #text: string
  #record: SessionRecord | null | undefined

  constructor(id: string, text: string) {
    this.#id = id
    this.#text = text
  }

  load(): SessionRecord | undefined {
    if (this.#record === undefined) {
      const record = parseRecord(this.#id, this.#text)
      this.#record = record ? { ...record, shared: true } : null
    }
    return this.#record ?? undefined
  }
}

/** A deep copy of a value that came from JSON. */
export function copy<T>(value: T): T
export function copy(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(copy)
  const copied: Record<string, unknown> = { ...value }
  for (const name in copied) copied[name] = copy(copied[name])
  return copied
}

/**
 * Whether the data of a session is unchanged, without serialising it. `false` may also mean "unknown".
 *
 * @param isOriginal whether handlers cannot have changed the objects in `before`, so that objects can be compared
 */
export function isSame(
  session: SessionData,
  names: readonly string[],
  before: SessionData,
  isOriginal: boolean,
): boolean {
  for (const name of names) {
    const value = session[name]
    if (isObject(value) ? !isOriginal || !isEqual(value, before[name]) : value !== before[name]) return false
  }
  return names.length === Object.keys(before).length - ('cookie' in before ? 1 : 0)
}

/** Whether a value has the same JSON as `original`, which came from JSON. `false` when in doubt. */
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
