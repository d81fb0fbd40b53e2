import { FleetError } from './errors.ts'

/** Accepted values of an option. `expects` completes the sentence "… must be". */
export interface Shape<T = unknown> {
  readonly expects: string
  accepts(value: unknown): value is T
  /** Options of an object option. */
  readonly members?: Shapes
}
export type Shapes = Readonly<Record<string, Shape>>

const shape = <T>(expects: string, accepts: (value: unknown) => boolean): Shape<T> => ({
  expects,
  accepts: accepts as (value: unknown) => value is T,
})

/** A whole number from `min` to `max`, both included; `unit` is part of the message, e.g. `milliseconds`. */
export const int = (min: number, max: number, unit?: string): Shape<number> =>
  shape(
    `a whole number from ${min} to ${max}${unit ? ` (${unit})` : ''}`,
    (v) => Number.isInteger(v) && (v as number) >= min && (v as number) <= max,
  )
/** A number from `min` to `max`, both included. */
export const number = (min: number, max: number): Shape<number> =>
  shape(`a number from ${min} to ${max}`, (v) => typeof v === 'number' && v >= min && v <= max)
export const bool: Shape<boolean> = shape('true or false', (v) => typeof v === 'boolean')
export const text: Shape<string> = shape('a non-empty string', (v) => typeof v === 'string' && v !== '')
/** A name that is safe in a header, a metric label and a Redis key. */
export const token: Shape<string> = shape(
  'up to 128 letters, digits or . _ : @ -',
  (v) => typeof v === 'string' && /^[\w.:@-]{1,128}$/.test(v),
)
export const headerName: Shape<string> = shape(
  'the name of a header',
  (v) => typeof v === 'string' && /^[\w!#$%&'*+.^`|~-]{1,256}$/.test(v),
)
export const path: Shape<string> = shape('a path that starts with /', (v) => typeof v === 'string' && v.startsWith('/'))
export const fn: Shape<(...args: never[]) => unknown> = shape('a function', (v) => typeof v === 'function')
export const any: Shape<unknown> = shape('anything', () => true)
export const oneOf = <T extends string | number | boolean>(...values: readonly T[]): Shape<T> =>
  shape(`one of ${values.map((v) => JSON.stringify(v)).join(', ')}`, (v) => values.includes(v as T))
export const list = <T>(of: Shape<T>): Shape<T[]> =>
  shape(`a list in which each entry is ${of.expects}`, (v) => Array.isArray(v) && v.every((e) => of.accepts(e)))
export const record = <T>(of: Shape<T>): Shape<Record<string, T>> =>
  shape(
    `an object in which each value is ${of.expects}`,
    (v) => isObject(v) && Object.values(v).every((e) => of.accepts(e)),
  )
export const either = <A, B>(a: Shape<A>, b: Shape<B>): Shape<A | B> => ({
  ...shape<A | B>(`${a.expects}, or ${b.expects}`, (v) => a.accepts(v) || b.accepts(v)),
  members: a.members ?? b.members,
})
/** An object of options; defaults are merged member by member. */
export const object = (members: Shapes): Shape<object> => ({ ...shape<object>('an object', isObject), members })

/**
 * Merges and validates the options of a plugin. Layers go from weakest to strongest: defaults, environment, code. An
 * `undefined` value does not override a weaker layer. The result is frozen, and the layers are not modified.
 *
 * @param plugin name used in messages, e.g. `lifecycle`
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID naming the option and the accepted values
 */
export function resolveOptions<T extends object>(plugin: string, shapes: Shapes, ...layers: (object | undefined)[]): T {
  const resolved: Record<string, unknown> = {}
  for (const layer of layers) {
    if (layer === undefined) continue
    if (!isObject(layer)) throw invalid(plugin, 'an object', layer)
    for (const [key, value] of Object.entries(layer)) {
      if (value === undefined) continue
      const known = Object.hasOwn(shapes, key) ? shapes[key] : undefined
      if (!known) throw new FleetError('FLEET_ERR_OPTION_UNKNOWN', unknownText(plugin, key, Object.keys(shapes)))
      if (!known.accepts(value)) throw invalid(`${plugin}.${key}`, known.expects, value)
      const weaker = resolved[key]
      resolved[key] =
        known.members && isObject(value)
          ? resolveOptions(`${plugin}.${key}`, known.members, isObject(weaker) ? weaker : undefined, value)
          : value
    }
  }
  return Object.freeze(resolved) as T
}

const isObject = (v: unknown): v is object => {
  if (typeof v !== 'object' || v === null) return false
  const prototype = Object.getPrototypeOf(v)
  return prototype === null || prototype === Object.prototype
}

function invalid(name: string, expects: string, value: unknown): FleetError {
  return new FleetError('FLEET_ERR_OPTION_INVALID', `\`${name}\` must be ${expects}, but it is ${show(value)}`)
}

/** Describes a value in a message. Long strings are not shown, because they may be misplaced secrets. */
export function show(value: unknown): string {
  if (typeof value === 'string')
    return value.length > 20 ? `a string of ${value.length} characters` : JSON.stringify(value)
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) return `an object (${classOf(value)})`
  return String(value)
}

function unknownText(plugin: string, key: string, known: readonly string[]): string {
  return `\`${plugin}\` has no option \`${key}\`; it has ${known.map((k) => `\`${k}\``).join(', ')}`
}

/** The class of an object by its prototype: it may have a member called `constructor`. */
export function classOf(value: object): string {
  const prototype = Object.getPrototypeOf(value)
  if (prototype === null) return 'no prototype'
  const name: unknown = prototype.constructor?.name
  return typeof name === 'string' ? name : 'unknown class'
}
