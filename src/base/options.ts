import { maxHops, type TrustProxy } from './client-address.ts'
import { type FleetEnv, readEnv } from './env.ts'
import { FleetError } from './errors.ts'
import { isPoolName, poolNameText } from './pool-name.ts'

// Options are declared once, as a table of shapes. The type, the validation, the default and docs/options.md come from it:
//
//   export const lockOptions = {
//     /** How long the lock lasts after its holder died. */
//     ttlMs: int(100, 3_600_000, 'ms').default(10_000),
//   }
//   export type LockOptions = OptionsOf<typeof lockOptions>
//   const { ttlMs } = resolveOptions('locks', lockOptions, given)

/**
 * Accepted values of an option. `T` is the value's type, `R` what {@link resolveOptions} returns for it: without a default
 * it may be `undefined`.
 */
export class Shape<T = unknown, R = T | undefined> {
  /** Completes the sentence "… must be". */
  readonly expects: string
  /** Options of an object option. */
  readonly members: Shapes | undefined
  readonly fallback: T | undefined
  /** The environment variable that sets the option unless the code does. */
  readonly variable: EnvName | undefined
  readonly accepts: (value: unknown) => value is T
  /** Carries `R`; it is never set. */
  declare readonly resolved: R

  constructor(
    expects: string,
    accepts: (value: unknown) => boolean,
    { members, fallback, variable }: { members?: Shapes; fallback?: T; variable?: EnvName } = {},
  ) {
    this.expects = expects
    this.accepts = accepts as (value: unknown) => value is T
    this.members = members
    this.fallback = fallback
    this.variable = variable
  }

  /** The value if no layer sets the option. `{}` for an object stands for the defaults of its members. */
  default(fallback: T): Shape<T, Exclude<R, undefined>> {
    return new Shape(this.expects, this.accepts, { ...this, fallback })
  }

  /** The environment variable, with its value parsed and validated by `readEnv`. */
  env(variable: EnvName): Shape<T, R> {
    return new Shape(this.expects, this.accepts, { ...this, variable })
  }
}

type EnvName = keyof FleetEnv
// biome-ignore lint/suspicious/noExplicitAny: a table has shapes of any type.
export type Shapes = Readonly<Record<string, Shape<any, any>>>

/** What users may give: every option is optional. */
export type OptionsOf<S extends Shapes> = {
  -readonly [K in keyof S]?: S[K] extends Shape<infer T, infer _> ? T : never
}
/** What {@link resolveOptions} returns. */
export type Resolved<S extends Shapes> = { readonly [K in keyof S]: S[K]['resolved'] }

/** A shape of your own. `expects` completes the sentence "… must be". */
export const shape = <T>(expects: string, accepts: (value: unknown) => boolean): Shape<T> => new Shape(expects, accepts)

/** A whole number from `min` to `max`, both included; `unit` is part of messages and docs, e.g. `ms`. */
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
export const poolName: Shape<string> = shape(poolNameText, (v) => typeof v === 'string' && isPoolName(v))
export const headerName: Shape<string> = shape(
  'the name of a header',
  (v) => typeof v === 'string' && /^[\w!#$%&'*+.^`|~-]{1,256}$/.test(v),
)
export const path: Shape<string> = shape('a path that starts with /', (v) => typeof v === 'string' && v.startsWith('/'))
// biome-ignore lint/suspicious/noExplicitAny: the type of any function.
export const fn = <T extends (...args: any[]) => unknown>(): Shape<T> =>
  shape('a function', (v) => typeof v === 'function')
export const any = <T>(): Shape<T> => shape('anything', () => true)
export const oneOf = <const T extends string | number | boolean>(...values: readonly T[]): Shape<T> =>
  shape(`one of ${values.map((v) => JSON.stringify(v)).join(', ')}`, (v) => values.includes(v as T))
export const list = <T>(of: Shape<T>): Shape<T[]> =>
  shape(`a list in which each entry is ${of.expects}`, (v) => Array.isArray(v) && v.every((e) => of.accepts(e)))
export const record = <T>(of: Shape<T>): Shape<Record<string, T>> =>
  shape(
    `an object in which each value is ${of.expects}`,
    (v) => isObject(v) && Object.values(v).every((e) => of.accepts(e)),
  )
export const either = <A, RA, B, RB>(a: Shape<A, RA>, b: Shape<B, RB>): Shape<A | B, RA | RB> =>
  new Shape<A | B, RA | RB>(`${a.expects}, or ${b.expects}`, (v) => a.accepts(v) || b.accepts(v), {
    members: a.members ?? b.members,
  })
export const trustProxy: Shape<TrustProxy> = shape(
  `true, false, a number of proxies from 0 to ${maxHops}, or a list of addresses, CIDR blocks and names of networks`,
  (v) => bool.accepts(v) || int(0, maxHops).accepts(v) || list(text).accepts(v),
)
/** An object of options. Layers are merged member by member. */
export const object = <const S extends Shapes>(members: S): Shape<OptionsOf<S>, Resolved<S> | undefined> =>
  new Shape<OptionsOf<S>, Resolved<S> | undefined>('an object', isObject, { members })

/**
 * Merges and validates the options of a plugin. From weakest to strongest: the defaults of `shapes`, the environment
 * variables of `shapes`, and `layers` in their order. An `undefined` value does not override a weaker one. The result is
 * frozen, and the layers are not modified.
 *
 * @param plugin name used in messages, e.g. `lifecycle`
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID naming the option and the accepted values
 * @throws FLEET_ERR_ENV_INVALID naming the variable and the accepted values
 */
export function resolveOptions<S extends Shapes>(
  plugin: string,
  shapes: S,
  ...layers: (object | undefined)[]
): Resolved<S> {
  const variables = Object.entries(shapes).filter(([, { variable }]) => variable)
  const env = variables.length > 0 ? readEnv() : undefined
  const fromEnv = env && Object.fromEntries(variables.map(([key, { variable }]) => [key, env[variable as EnvName]]))
  return merge(plugin, shapes, defaultsOf(shapes), fromEnv, ...layers) as Resolved<S>
}

function defaultsOf(shapes: Shapes): object {
  return Object.fromEntries(Object.entries(shapes).map(([key, { fallback }]) => [key, fallback]))
}

function merge(plugin: string, shapes: Shapes, ...layers: (object | undefined)[]): object {
  const resolved: Record<string, unknown> = {}
  for (const layer of layers) {
    if (layer === undefined) continue
    if (!isObject(layer)) throw invalid(plugin, 'an object', layer)
    for (const [key, value] of Object.entries(layer)) {
      if (value === undefined) continue
      const known = Object.hasOwn(shapes, key) ? shapes[key] : undefined
      if (!known) throw new FleetError('FLEET_ERR_OPTION_UNKNOWN', unknownText(plugin, key, Object.keys(shapes)))
      if (!known.accepts(value)) throw invalid(`${plugin}.${key}`, known.expects, value)
      const { members } = known
      const weaker = resolved[key]
      resolved[key] =
        members && isObject(value)
          ? merge(`${plugin}.${key}`, members, defaultsOf(members), isObject(weaker) ? weaker : undefined, value)
          : value
    }
  }
  return Object.freeze(resolved)
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
