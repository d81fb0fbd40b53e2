import type { Dispatcher } from 'undici'
import type { HeaderFields } from '../headers.ts'
import { copyOf, type Field, forbidden, headersOf, parseFields } from './fields.ts'

/** How a body ends: after this many bytes, with its last chunk, or with the connection (RFC 9112 section 6.3). */
export type Framing = number | 'chunked' | 'close'

/** The head of a response, from the parser here or from undici. */
export interface UpstreamHead {
  readonly status: number
  readonly message: string | undefined
  readonly headers: HeaderFields
  /** The server announces that it drains. */
  readonly draining: boolean
}

/** Pauses, resumes and aborts an upstream's response. */
export type UpstreamController = Dispatcher.DispatchController

/** An undici handler that can take a parsed head instead of `onResponseStart`, which is cheaper to forward. */
export interface HeadHandler extends Dispatcher.DispatchHandler {
  onResponseHead?(controller: UpstreamController, head: UpstreamHead): void
}

export function passHead(handler: HeadHandler, controller: UpstreamController, head: UpstreamHead): void {
  if (handler.onResponseHead) handler.onResponseHead(controller, head)
  else handler.onResponseStart?.(controller, head.status, head.headers, head.message)
}

/** A head from the parser here. Its headers become an object on first access. */
export class ResponseHead implements UpstreamHead {
  readonly status: number
  readonly message: string
  readonly framing: Framing
  /** Whether the connection can be reused, and for how many milliseconds if the server announces it. */
  readonly keepAlive: boolean
  readonly keepAliveMs: number | undefined
  readonly draining: boolean
  /** `Connection` in lower case; empty without one. */
  readonly connection: string
  readonly #fields: readonly Field[]
  #headers: HeaderFields | undefined

  constructor(status: number, message: string, framing: Framing, minor: string, facts: HeadFacts) {
    const { connection, hint } = facts
    this.status = status
    this.message = message
    this.framing = framing
    this.keepAlive =
      framing !== 'close' && (minor === '1' ? !hasWord(connection, 'close') : hasWord(connection, 'keep-alive'))
    const seconds = hint === '' ? undefined : /\btimeout=(\d+)/i.exec(hint)?.[1]
    this.keepAliveMs = seconds === undefined ? undefined : Number(seconds) * 1000
    this.draining = facts.draining
    this.connection = connection
    this.#fields = facts.fields
  }

  get headers(): HeaderFields {
    this.#headers ??= headersOf(this.#fields)
    return this.#headers
  }

  /** The lines without hop-by-hop fields, each with its line end. */
  lines(): string {
    let text = ''
    for (const { name, value } of this.#fields) if (!name.hop) text += `${name.prefix}${value}\r\n`
    return text
  }

  has(name: string): boolean {
    return this.#fields.some((field) => field.name.text === name)
  }
}

/** The fields of a head that describe the connection and the body. */
interface HeadFacts {
  readonly fields: readonly Field[]
  length: string | undefined
  coding: string | undefined
  connection: string
  hint: string
  draining: boolean
}

/**
 * Parses the head of a response, without the empty line. It accepts exactly what RFC 9112 defines: a head that two parsers
 * could read differently must not be forwarded.
 *
 * @param text one character per byte (Latin-1)
 * @param bodiless the request was a HEAD
 * @returns undefined when the head is invalid
 */
export function parseHead(text: string, bodiless: boolean): ResponseHead | undefined {
  const first = text.indexOf('\r\n')
  const line = first < 0 ? text : text.slice(0, first)
  if (forbidden.test(text)) return undefined
  const statusLine = statusLines.get(line) ?? parseStatusLine(line)
  if (!statusLine) return undefined
  const { minor, status, message } = statusLine
  const facts = factsOf(first < 0 ? [] : parseFields(text, first + 2))
  const framing = facts && framingOf(facts, status, minor, bodiless)
  return framing === undefined ? undefined : new ResponseHead(status, message, framing, minor, facts as HeadFacts)
}

interface StatusLine {
  /** Minor version of HTTP/1. */
  readonly minor: string
  readonly status: number
  readonly message: string
}

/** By status line as servers spell it; there are few spellings. */
const statusLines = new Map<string, StatusLine>()
const maxStatusLines = 100
const maxStatusLineLength = 64

function parseStatusLine(line: string): StatusLine | undefined {
  const [own, minor, digits, message = ''] = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: (.*))?$/.exec(copyOf(line)) ?? []
  if (own === undefined || minor === undefined) return undefined
  const parsed = { minor, status: Number(digits), message }
  if (statusLines.size < maxStatusLines && own.length <= maxStatusLineLength) statusLines.set(own, parsed)
  return parsed
}

const hasWord = (list: string, word: string): boolean =>
  list === word || (list.includes(word) && list.split(',').some((each) => each.trim() === word))

/** Undefined when Content-Length or Transfer-Encoding is repeated. */
function factsOf(fields: Field[] | undefined): HeadFacts | undefined {
  if (!fields) return undefined
  const facts: HeadFacts = { fields, length: undefined, coding: undefined, connection: '', hint: '', draining: false }
  for (const { name, value } of fields) {
    if (!name.hop && name.text !== 'content-length') continue
    switch (name.text) {
      case 'content-length':
        if (facts.length !== undefined) return undefined
        facts.length = value
        break
      case 'transfer-encoding':
        if (facts.coding !== undefined) return undefined
        facts.coding = value
        break
      case 'connection':
        facts.connection = facts.connection === '' ? value.toLowerCase() : `${facts.connection},${value.toLowerCase()}`
        break
      case 'keep-alive':
        facts.hint = value
        break
      case 'x-fleet-draining':
        facts.draining = true
        break
    }
  }
  return facts
}

function framingOf(
  { length, coding }: HeadFacts,
  status: number,
  minor: string,
  bodiless: boolean,
): Framing | undefined {
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return undefined
  // HTTP/1.0 has no interim responses (RFC 9110 section 15.2); Node reads one as the final response.
  if (status < 200 && minor === '0') return undefined
  if (coding !== undefined) {
    // Other codings would have to be decoded first.
    if (length !== undefined || minor === '0' || coding.toLowerCase() !== 'chunked') return undefined
  }
  if (bodiless || status < 200 || status === 204 || status === 304) return 0
  if (coding !== undefined) return 'chunked'
  return length === undefined ? 'close' : Number(length)
}
