import { dictionary } from '../../../base/dictionary.ts'
import { type HeaderFields, hopByHop } from '../headers.ts'

export type { HeaderFields }

/** The name of a header, and what is known of it. */
export interface Name {
  /** In lower case. */
  readonly text: string
  /** As a line begins with it. */
  readonly prefix: string
  /** The header is meant for one connection and never forwarded. */
  readonly hop: boolean
}

export interface Field {
  readonly name: Name
  readonly value: string
}

/** Bytes that have no place in a head, and line ends that only some readers take for one. */
export const forbidden: RegExp = /[^\t\r\n\x20-\x7e\x80-\xff]|\r(?!\n)|(?<!\r)\n/
const token = /^[\w!#$%&'*+.^`|~-]+$/
/** Names as they were written: an application has few. */
const names = new Map<string, Name>()
const maxNames = 2000
const maxNameLength = 64

/**
 * Reads lines of a head.
 *
 * @param text free of what is {@link forbidden}
 * @returns undefined when one is none
 */
export function parseFields(text: string, start: number): Field[] | undefined {
  const fields: Field[] = []
  for (let at = start; at < text.length; ) {
    let end = text.indexOf('\r\n', at)
    if (end < 0) end = text.length
    const colon = text.indexOf(':', at)
    if (colon < 0 || colon > end) return undefined
    const name = nameOf(text.slice(at, colon))
    if (name === undefined) return undefined
    fields.push({ name, value: trim(text, colon + 1, end) })
    at = end + 2
  }
  return fields
}

export function headersOf(fields: readonly Field[]): HeaderFields {
  const headers = dictionary<string | string[]>()
  for (const { name, value } of fields) add(headers, name.text, value)
  return headers
}

/** One for all: most responses have no trailers. */
export const noTrailers: HeaderFields = Object.freeze(dictionary<string>())

/** Headers that another parser has read, as they are here: without a prototype, and without spaces around values. */
export function headersFrom(given: Readonly<Record<string, string | string[] | undefined>>): HeaderFields {
  if (Object.getPrototypeOf(given) === null) return given as HeaderFields
  const headers = dictionary<string | string[]>()
  for (const name of Object.keys(given)) {
    for (const value of [given[name] ?? []].flat()) add(headers, name, trim(value, 0, value.length))
  }
  return headers
}

function add(headers: HeaderFields, name: string, value: string): void {
  const before = headers[name]
  if (before === undefined) headers[name] = value
  else if (typeof before === 'string') headers[name] = [before, value]
  else before.push(value)
}

/** Lines as they stand in trailers; undefined when one is none. */
export function parseTrailers(text: string): HeaderFields | undefined {
  const fields = forbidden.test(text) ? undefined : parseFields(text, 0)
  return fields && headersOf(fields)
}

function nameOf(raw: string): Name | undefined {
  let name = names.get(raw)
  if (name !== undefined) return name
  if (!token.test(raw)) return undefined
  const own = copyOf(raw)
  const text = own.toLowerCase()
  name = { text, prefix: `${text}: `, hop: hopByHop.has(text) || text === 'x-fleet-draining' }
  if (names.size < maxNames && own.length <= maxNameLength) names.set(own, name)
  return name
}

/** A part of a string holds on to all of it: one that is kept must stand by itself. */
export const copyOf = (part: string): string => Buffer.from(part, 'latin1').toString('latin1')

/** RFC 9110 section 5.5: spaces and tabs around a value do not belong to it. */
function trim(text: string, start: number, end: number): string {
  let from = start
  let to = end
  while (from < to && isSpace(text.charCodeAt(from))) from++
  while (to > from && isSpace(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}

const isSpace = (code: number): boolean => code === 32 || code === 9
