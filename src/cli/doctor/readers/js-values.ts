/** A value that is computed in a way that is not followed here. */
export const unknown: unique symbol = Symbol('unknown')
export type Value = string | number | boolean | null | undefined | typeof unknown | readonly Value[] | Members
/** Values and lines of an object's members, in their order. */
export type Members = ReadonlyMap<string, { readonly value: Value; readonly line: number }>

export const isMembers = (value: Value): value is Members => value instanceof Map

/** Longest text, list or object that is put together here: more is not read, so that no file can make it grow. */
export const longest = 65_536
/** How strongly an operator binds. */
export const binding: Readonly<Record<string, number>> = {
  ...{ '??': 1, '||': 2, '&&': 3, '|': 4, '^': 5, '&': 6, '==': 7, '!=': 7, '===': 7, '!==': 7 },
  ...{ '<': 8, '>': 8, '<=': 8, '>=': 8, in: 8, instanceof: 8, '<<': 9, '>>': 9, '>>>': 9, '+': 10, '-': 10 },
  ...{ '*': 11, '/': 11, '%': 11, '**': 12 },
}

/** `process.env`, of which nothing is set here. */
export const environment: Members = new Map()

export function member(value: Value, name: string | undefined): Value {
  if (value === environment) return undefined
  if (name === undefined) return unknown
  if (isMembers(value)) return value.has(name) ? value.get(name)?.value : unknown
  if (Array.isArray(value))
    return name === 'length' && !value.includes(unknown) ? value.length : (value[Number(name)] ?? unknown)
  return unknown
}

export function calculated(operator: string, a: Value, b: Value): Value {
  if (a === unknown) return unknown
  if (operator === '??') return a ?? b
  if (operator === '||') return a || b
  if (operator === '&&') return a && b
  if (b === unknown) return unknown
  if (operator === '===') return a === b
  if (operator === '!==') return a !== b
  if (operator === '+' && (typeof a === 'string' || typeof b === 'string')) {
    if ([a, b].some((one) => typeof one === 'object' && one !== null)) return unknown
    const text = String(a) + String(b)
    return text.length > longest ? unknown : text
  }
  if (typeof a !== 'number' || typeof b !== 'number') return unknown
  const results: Readonly<Record<string, () => Value>> = {
    '+': () => a + b,
    '-': () => a - b,
    '*': () => a * b,
    '/': () => a / b,
    '%': () => a % b,
    '**': () => a ** b,
    '<': () => a < b,
    '>': () => a > b,
    '<=': () => a <= b,
    '>=': () => a >= b,
  }
  return results[operator]?.() ?? unknown
}
