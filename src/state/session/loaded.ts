import type { StoredCookie } from './cookie.ts'
import { restOf } from './text.ts'

export type Data = Readonly<Record<string, unknown>>

/** A session as it was read. `baseline` is what its data is compared with when it is saved. */
export interface Loaded {
  readonly data: Data
  readonly cookie?: StoredCookie
  readonly baseline: string
  /** Equal to `data` and never to be changed, where the store has kept that. */
  readonly original?: Data
}

/** @returns `undefined` for what is no session of ours */
export function parse(text: string | null): Loaded | undefined {
  const baseline = text === null ? undefined : restOf(text)
  if (baseline === undefined) return undefined
  try {
    const data = JSON.parse(text as string) as Data
    const cookie = data.cookie as StoredCookie
    return Object.values(cookie).some(isObject) ? undefined : { data, cookie, baseline }
  } catch {
    return undefined
  }
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

/** A session that stays in memory: it is parsed once, and every request gets its own copy of what it could change in it. */
export class Kept {
  readonly #text: string
  #loaded: Loaded | null | undefined
  /** Fields that are objects. */
  #objects: string[] = []

  constructor(text: string) {
    this.#text = text
  }

  load(): Loaded | undefined {
    if (this.#loaded === undefined) this.#parse()
    const loaded = this.#loaded
    if (!loaded) return undefined
    const { data: original, cookie, baseline } = loaded
    const data: Record<string, unknown> = { ...original }
    for (const name of this.#objects) data[name] = copy(original[name])
    return { data, cookie, baseline, original }
  }

  #parse(): void {
    const loaded = parse(this.#text)
    this.#loaded = loaded ?? null
    if (loaded) this.#objects = Object.keys(loaded.data).filter((name) => isObject(loaded.data[name]))
  }
}

/** Of something that came from JSON. */
function copy(value: unknown): unknown {
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
