import type { Dispatcher } from 'undici'
import { copyOf, type Field, forbidden, type HeaderFields, headersOf, parseFields } from './fields.ts'

/** How a body ends: after so many bytes, with its last chunk, with the connection; RFC 9112 section 6.3. */
export type Framing = number | 'chunked' | 'close'

/** The head of an answer, whoever has read it. */
export interface UpstreamHead {
  readonly status: number
  readonly message: string | undefined
  readonly headers: HeaderFields
  /** The server says that it leaves. */
  readonly draining: boolean
}

/** What pauses, resumes and aborts the response of an upstream. */
export type UpstreamController = Dispatcher.DispatchController

/** An undici handler that may take a head as it was read, in place of `onResponseStart`: that costs less to pass on. */
export interface HeadHandler extends Dispatcher.DispatchHandler {
  onResponseHead?(controller: UpstreamController, head: UpstreamHead): void
}

export function passHead(handler: HeadHandler, controller: UpstreamController, head: UpstreamHead): void {
  if (handler.onResponseHead) handler.onResponseHead(controller, head)
  else handler.onResponseStart?.(controller, head.status, head.headers, head.message)
}

/** A head that was read here. Its headers become an object when somebody asks for it. */
export class ResponseHead implements UpstreamHead {
  readonly status: number
  readonly message: string
  readonly framing: Framing
  /** The connection may be used again, for this many milliseconds if the server says so. */
  readonly keepAlive: boolean
  readonly keepAliveMs: number | undefined
  readonly draining: boolean
  /** `Connection`, in lower case; empty when there is none. */
  readonly connection: string
  readonly #fields: readonly Field[]
  #headers: HeaderFields | undefined

  constructor(status: number, message: string, framing: Framing, minor: string, said: Said) {
    const { connection, hint } = said
    this.status = status
    this.message = message
    this.framing = framing
    this.keepAlive =
      framing !== 'close' && (minor === '1' ? !hasWord(connection, 'close') : hasWord(connection, 'keep-alive'))
    const seconds = hint === '' ? undefined : /\btimeout=(\d+)/i.exec(hint)?.[1]
    this.keepAliveMs = seconds === undefined ? undefined : Number(seconds) * 1000
    this.draining = said.draining
    this.connection = connection
    this.#fields = said.fields
  }

  get headers(): HeaderFields {
    this.#headers ??= headersOf(this.#fields)
    return this.#headers
  }

  /** The lines that are not for one connection only, each with its end. */
  lines(): string {
    let text = ''
    for (const { name, value } of this.#fields) if (!name.hop) text += `${name.prefix}${value}\r\n`
    return text
  }

  has(name: string): boolean {
    return this.#fields.some((field) => field.name.text === name)
  }
}

/** What the lines of a head say about the connection and the body. */
interface Said {
  readonly fields: readonly Field[]
  length: string | undefined
  coding: string | undefined
  connection: string
  hint: string
  draining: boolean
}

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
  if (forbidden.test(text)) return undefined
  const begun = statusLines.get(line) ?? parseStatusLine(line)
  if (!begun) return undefined
  const { minor, status, message } = begun
  const said = whatIsSaid(first < 0 ? [] : parseFields(text, first + 2))
  const framing = said && framingOf(said, status, minor, bodiless)
  return framing === undefined ? undefined : new ResponseHead(status, message, framing, minor, said as Said)
}

interface StatusLine {
  /** Of the version, HTTP/1. */
  readonly minor: string
  readonly status: number
  readonly message: string
}

/** As they were written: an application has few. */
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

/** Undefined when the body's length is said twice. */
function whatIsSaid(fields: Field[] | undefined): Said | undefined {
  if (!fields) return undefined
  const said: Said = { fields, length: undefined, coding: undefined, connection: '', hint: '', draining: false }
  for (const { name, value } of fields) {
    if (!name.hop && name.text !== 'content-length') continue
    switch (name.text) {
      case 'content-length':
        if (said.length !== undefined) return undefined
        said.length = value
        break
      case 'transfer-encoding':
        if (said.coding !== undefined) return undefined
        said.coding = value
        break
      case 'connection':
        said.connection = said.connection === '' ? value.toLowerCase() : `${said.connection},${value.toLowerCase()}`
        break
      case 'keep-alive':
        said.hint = value
        break
      case 'x-fleet-draining':
        said.draining = true
        break
    }
  }
  return said
}

function framingOf({ length, coding }: Said, status: number, minor: string, bodiless: boolean): Framing | undefined {
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return undefined
  // HTTP/1.0 has no interim responses (RFC 9110 section 15.2); Node takes one for the final response.
  if (status < 200 && minor === '0') return undefined
  if (coding !== undefined) {
    // Only the last coding may be chunked, so one that is not alone would have to be undone first.
    if (length !== undefined || minor === '0' || coding.toLowerCase() !== 'chunked') return undefined
  }
  if (bodiless || status < 200 || status === 204 || status === 304) return 0
  if (coding !== undefined) return 'chunked'
  return length === undefined ? 'close' : Number(length)
}
