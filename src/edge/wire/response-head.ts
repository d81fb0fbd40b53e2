/** How a body ends: after so many bytes, with its last chunk, with the connection; RFC 9112 section 6.3. */
export type Framing = number | 'chunked' | 'close'

export interface ResponseHead {
  readonly status: number
  readonly message: string
  /** By name in lower case; what came several times is a list. */
  readonly headers: Record<string, string | string[]>
  readonly framing: Framing
  /** The connection may be used again, for this many milliseconds if the server says so. */
  readonly keepAlive: boolean
  readonly keepAliveMs: number | undefined
}

/** Bytes that have no place in a head, and line ends that only some readers take for one. */
const forbidden = /[^\t\r\n\x20-\x7e\x80-\xff]|\r(?!\n)|(?<!\r)\n/
const token = /^[\w!#$%&'*+.^`|~-]+$/
/** Raw names that were seen before, and their form in lower case: an application has few. */
const names = new Map<string, string>()
const maxNames = 2000

/**
 * Reads the head of an answer, without its empty line; undefined when it is not exactly what RFC 9112 has: what two
 * readers could take for two different things must not be passed on.
 *
 * @param text one character per byte (Latin-1)
 * @param bodiless the request was a HEAD
 */
export function parseHead(text: string, bodiless: boolean): ResponseHead | undefined {
  const first = text.indexOf('\r\n')
  const line = first < 0 ? text : text.slice(0, first)
  const [, minor, digits, message = ''] = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: (.*))?$/.exec(line) ?? []
  if (minor === undefined || forbidden.test(text)) return undefined
  const status = Number(digits)
  const headers = first < 0 ? {} : parseFields(text, first + 2)
  const framing = headers && framingOf(headers, status, minor, bodiless)
  if (headers === undefined || framing === undefined) return undefined
  const { connection } = headers
  const said = connection === undefined ? '' : String(connection).toLowerCase()
  const keepAlive = framing !== 'close' && (minor === '1' ? !hasWord(said, 'close') : hasWord(said, 'keep-alive'))
  const hint = headers['keep-alive'] === undefined ? null : /\btimeout=(\d+)/i.exec(String(headers['keep-alive']))
  return { status, message, headers, framing, keepAlive, keepAliveMs: hint ? Number(hint[1]) * 1000 : undefined }
}

const hasWord = (list: string, word: string): boolean =>
  list === word || (list.includes(word) && list.split(',').some((each) => each.trim() === word))

/** Lines as they stand in trailers; undefined when one is none. */
export const parseTrailers = (text: string): Record<string, string | string[]> | undefined =>
  forbidden.test(text) ? undefined : parseFields(text, 0)

function parseFields(text: string, start: number): Record<string, string | string[]> | undefined {
  const headers: Record<string, string | string[]> = {}
  for (let at = start; at < text.length; ) {
    let end = text.indexOf('\r\n', at)
    if (end < 0) end = text.length
    const colon = text.indexOf(':', at)
    if (colon < 0 || colon > end) return undefined
    const name = nameOf(text.slice(at, colon))
    if (name === undefined) return undefined
    const value = trim(text, colon + 1, end)
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (typeof before === 'string') headers[name] = [before, value]
    else before.push(value)
    at = end + 2
  }
  return headers
}

function nameOf(raw: string): string | undefined {
  let name = names.get(raw)
  if (name !== undefined) return name
  if (!token.test(raw)) return undefined
  name = raw.toLowerCase()
  if (names.size < maxNames) names.set(raw, name)
  return name
}

/** RFC 9110 section 5.5: spaces and tabs around a value do not belong to it. */
function trim(text: string, start: number, end: number): string {
  let from = start
  let to = end
  while (from < to && isSpace(text.charCodeAt(from))) from++
  while (to > from && isSpace(text.charCodeAt(to - 1))) to--
  return text.slice(from, to)
}

const isSpace = (code: number): boolean => code === 32 || code === 9

function framingOf(
  headers: Record<string, string | string[]>,
  status: number,
  minor: string,
  bodiless: boolean,
): Framing | undefined {
  const length = headers['content-length']
  const coding = headers['transfer-encoding']
  if (length !== undefined && (typeof length !== 'string' || !/^\d{1,15}$/.test(length))) return undefined
  if (coding !== undefined) {
    // Only the last coding may be chunked, so one that is not alone would have to be undone first.
    if (length !== undefined || minor === '0' || String(coding).toLowerCase() !== 'chunked') return undefined
  }
  if (bodiless || status < 200 || status === 204 || status === 304) return 0
  if (coding !== undefined) return 'chunked'
  return length === undefined ? 'close' : Number(length)
}
