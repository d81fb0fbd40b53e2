import { dictionary } from '../../../base/dictionary.ts'
import { type HeaderFields, hopByHop } from '../headers.ts'

/** The name of a field, with its properties. */
export interface FieldName {
  /** In lower case. */
  readonly text: string
  /** Start of the field line: the name, a colon and a space. */
  readonly prefix: string
  /** The field applies to one connection and is never forwarded. */
  readonly hop: boolean
}

export interface Field {
  readonly name: FieldName
  readonly value: string
}

/** Bytes that are invalid in a head, and line ends that only some parsers accept. */
export const forbidden: RegExp = /[^\t\r\n\x20-\x7e\x80-\xff]|\r(?!\n)|(?<!\r)\n/
const token = /^[\w!#$%&'*+.^`|~-]+$/
/** By name as servers spell it; there are few spellings. */
const names = new Map<string, FieldName>()
const maxNames = 2000
const maxNameLength = 64

/**
 * Parses the field lines of a head.
 *
 * @param text without {@link forbidden} characters
 * @returns undefined when a line is invalid
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

/** Shared by all responses without trailers, which are the majority. */
export const noTrailers: HeaderFields = Object.freeze(dictionary<string>())

/** Converts the headers of another parser: no prototype, no white space around values. */
export function headersFrom(parsed: Readonly<Record<string, string | string[] | undefined>>): HeaderFields {
  if (Object.getPrototypeOf(parsed) === null) return parsed as HeaderFields
  const headers = dictionary<string | string[]>()
  for (const name of Object.keys(parsed)) {
    for (const value of [parsed[name] ?? []].flat()) add(headers, name, trim(value, 0, value.length))
  }
  return headers
}

function add(headers: HeaderFields, name: string, value: string): void {
  const previous = headers[name]
  if (previous === undefined) headers[name] = value
  else if (typeof previous === 'string') headers[name] = [previous, value]
  else previous.push(value)
}

/** Parses trailers; undefined when a line is invalid. */
export function parseTrailers(text: string): HeaderFields | undefined {
  const fields = forbidden.test(text) ? undefined : parseFields(text, 0)
  return fields && headersOf(fields)
}

function nameOf(raw: string): FieldName | undefined {
  let name = names.get(raw)
  if (name !== undefined) return name
  if (!token.test(raw)) return undefined
  const own = copyOf(raw)
  const text = own.toLowerCase()
  name = { text, prefix: `${text}: `, hop: hopByHop.has(text) || text === 'x-fleet-draining' }
  if (names.size < maxNames && own.length <= maxNameLength) names.set(own, name)
  return name
}

/** Copies a substring that is cached, because a substring keeps the whole string in memory. */
export const copyOf = (part: string): string => Buffer.from(part, 'latin1').toString('latin1')

/** Removes spaces and tabs around a value: RFC 9110 section 5.5. */
function trim(text: string, start: number, end: number): string {
  let from = start
  let to = end
  while (from < to && isSpace(text.charCodeAt(from))) from++
  while (to > from && isSpace(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}

const isSpace = (code: number): boolean => code === 32 || code === 9
