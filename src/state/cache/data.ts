import { types } from 'node:util'
import { deepFreeze } from '../../base/deep-freeze.ts'

// Data as text and back. What JSON would change without an error is written as `{"$fleet":[type, content]}`: dates, maps,
// sets, BigInts, `undefined`, -0, NaN and infinite numbers. What cannot be restored is rejected.

/** The key of an object in the text that stands for another value. */
const mark = '$fleet'
/** Starts a text with marks. JSON never starts with it, so a version that does not know marks rejects the text. */
const marked = '~'

type Content = readonly unknown[] | Readonly<Record<string, unknown>> | string | number | null

/** The values that marks stand for, frozen. */
const restore = {
  undefined: () => undefined,
  number: Number,
  bigint: (content: Content) => BigInt(content as string),
  Date: (content: Content) => readOnly(new Date((content as number | null) ?? Number.NaN), dateSetters),
  Map: (content: Content) => readOnly(new Map(members(content) as [unknown, unknown][]), ['set', 'delete', 'clear']),
  Set: (content: Content) => readOnly(new Set(members(content)), ['add', 'delete', 'clear']),
  /** A plain object that has the key of marks. */
  object: (content: Content) => fields(content as object),
} as const

class DataWriter {
  hasMarks = false
  readonly #sortsKeys: boolean
  readonly #ancestors = new Set<object>()

  constructor(sortsKeys: boolean) {
    this.#sortsKeys = sortsKeys
  }

  /** @returns what JSON writes without changes */
  pack(value: unknown, path: string): unknown {
    switch (typeof value) {
      case 'string':
      case 'boolean':
        return value
      case 'number':
        if (Number.isFinite(value) && !Object.is(value, -0)) return value
        return this.#mark('number', value === 0 ? '-0' : String(value))
      case 'bigint':
        return this.#mark('bigint', String(value))
      case 'undefined':
        return this.#mark('undefined', null)
      case 'object': {
        if (value === null) return null
        if (this.#ancestors.has(value)) throw new TypeError(`${path} contains itself`)
        this.#ancestors.add(value)
        const packed = this.#packObject(value, path)
        this.#ancestors.delete(value)
        return packed
      }
      default:
        throw new TypeError(`${path} is a ${typeof value}`)
    }
  }

  #packObject(value: object, path: string): unknown {
    const prototypes = countPrototypes(value)
    if (prototypes === 2) {
      if (Array.isArray(value)) return this.#packAll(value, path)
      if (types.isDate(value)) return this.#mark('Date', value.getTime())
      if (types.isMap(value)) return this.#mark('Map', this.#packAll(value, path))
      if (types.isSet(value)) return this.#mark('Set', this.#packAll(value, path))
    }
    // Objects of another realm, such as a test runner's, have another Object.prototype.
    if (prototypes > 1) throw new TypeError(`${path} is an instance of ${value.constructor?.name || 'a class'}`)
    const isEnumerable = (key: PropertyKey): boolean => Object.prototype.propertyIsEnumerable.call(value, key)
    const symbol = Reflect.ownKeys(value).find((key) => typeof key === 'symbol' && isEnumerable(key))
    if (symbol) throw new TypeError(`${path} has the key ${String(symbol)}`)
    const names = Object.keys(value)
    if (this.#sortsKeys) names.sort()
    const pack = (name: string) => [name, this.pack(value[name as keyof typeof value], `${path}.${name}`)]
    const packed = Object.fromEntries(names.map(pack))
    return Object.hasOwn(packed, mark) ? this.#mark('object', packed) : packed
  }

  #packAll(values: Iterable<unknown>, path: string): unknown[] {
    return Array.from(values, (value, i) => this.pack(value, `${path}[${i}]`))
  }

  #mark(type: keyof typeof restore, content: Content): object {
    this.hasMarks = true
    return { [mark]: [type, content] }
  }
}

/** Length of the prototype chain: 0 or 1 for a plain object, 2 for an instance of a built-in class. */
function countPrototypes(value: object): number {
  let count = 0
  for (let next = Object.getPrototypeOf(value); next !== null; next = Object.getPrototypeOf(next)) count++
  return count
}

/**
 * @param name the name of the value in errors
 * @param sortsKeys whether objects that differ in the order of their keys have the same text
 * @throws TypeError for class instances, functions, symbols and values that contain themselves
 */
export function writeData(value: unknown, name: string, sortsKeys = false): string {
  const writer = new DataWriter(sortsKeys)
  const json = JSON.stringify(writer.pack(value, name))
  return writer.hasMarks ? marked + json : json
}

/** The value of a text, deeply frozen, because its readers share it. @throws for a text that {@link writeData} cannot write */
export function readData(text: string): unknown {
  return text.startsWith(marked) ? unpack(JSON.parse(text.slice(1))) : deepFreeze(JSON.parse(text))
}

function unpack(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return Object.freeze(members(value))
  if (!Object.hasOwn(value, mark)) return fields(value)
  const [type, content] = (value as { [mark]: [keyof typeof restore, Content] })[mark]
  if (!Object.hasOwn(restore, type)) throw new TypeError(`unknown mark ${type}`)
  return restore[type](content)
}

const members = (content: Content): unknown[] => (content as readonly unknown[]).map(unpack)
const fields = (content: object): object =>
  Object.freeze(Object.fromEntries(Object.entries(content).map(([name, value]) => [name, unpack(value)])))

const dateSetters = Object.getOwnPropertyNames(Date.prototype).filter((name) => name.startsWith('set'))
const rejectChange = {
  value(): never {
    throw new TypeError('a cached value is read-only; copy it to change it')
  },
}

/** `Object.freeze()` does not protect the content of these. */
function readOnly<T extends object>(value: T, methods: readonly string[]): T {
  for (const method of methods) Object.defineProperty(value, method, rejectChange)
  return Object.freeze(value)
}
