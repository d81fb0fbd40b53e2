// Touches: `ServerResponse._storeHeader(statusLine, headers)`, which `writeHead` ends in and which sets `_header`.
// Seen in: Node 22 to 24.
// Worth: Node validates and joins each header of each response, which for twenty headers takes longer than the response.
// Fallback: headers are passed to `writeHead` one by one. A self-test at first use selects it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { http } from './node-http.ts'
import { shortcuts } from './shortcuts.ts'

type StoreHeader = (this: ServerResponse, statusLine: string, headers: unknown) => void
type Internal = ServerResponse & { _storeHeader?: StoreHeader; _header?: unknown }

const store = (http.OutgoingMessage.prototype as unknown as Internal)._storeHeader

let works: boolean | undefined

/** Whether `writeHead` calls an own `_storeHeader` and puts its status line first, as the rest of this file assumes. */
function isUsable(): boolean {
  works ??= selfTest()
  return works && shortcuts.headerText
}

function selfTest(): boolean {
  if (typeof store !== 'function') return false
  try {
    const response: Internal = new http.ServerResponse({ method: 'GET' } as IncomingMessage)
    response._storeHeader = function storeHeader(statusLine, headers) {
      store.call(this, `${statusLine}x-text: 1\r\n`, headers)
    }
    response.writeHead(200, { 'x-given': '2' })
    return /^HTTP\/1\.1 200 OK\r\nx-text: 1\r\nx-given: 2\r\n/.test(String(response._header))
  } catch {
    return false
  }
}

const textOf = (headers: readonly (readonly [string, string])[]): string =>
  headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')

/**
 * Returns a function that makes a response write `headers` as one text, built once. The text is used when `writeHead`
 * gets an object that begins with all of `headers`, unchanged; otherwise Node writes all headers.
 *
 * @param headers valid headers, which are not checked again; names in lower case
 */
export function headerText(headers: Readonly<Record<string, string>>): (response: ServerResponse) => void {
  if (!isUsable()) return () => undefined
  const names = Object.keys(headers)
  const values = Object.values(headers)
  const text = textOf(Object.entries(headers))

  /** Names and values that follow the known headers; `undefined` if one of these is missing or changed. */
  const others = (given: Readonly<Record<string, unknown>>): unknown[] | undefined => {
    const present = Object.keys(given)
    for (let i = 0; i < names.length; i++) {
      if (present[i] !== names[i] || given[names[i] as string] !== values[i]) return undefined
    }
    const rest: unknown[] = []
    for (let i = names.length; i < present.length; i++) rest.push(present[i], given[present[i] as string])
    return rest
  }
  function storeHeader(this: ServerResponse, statusLine: string, given: unknown): void {
    const rest = typeof given === 'object' && given !== null ? others(given as Record<string, unknown>) : undefined
    if (rest) store?.call(this, statusLine + text, rest)
    else store?.call(this, statusLine, given)
  }
  return (response: Internal) => {
    // HTTP/2 responses have no text.
    if ('_storeHeader' in response) response._storeHeader = storeHeader
  }
}

/** Responses of other classes are for HTTP/2, or record what they are given (`app.inject()`). */
const isNodeResponse = (response: object): response is Internal =>
  Object.getPrototypeOf(response) === http.ServerResponse.prototype

/**
 * Headers that responses send in addition to their own, as one text. A response's own header of the same name wins.
 */
export class StaticHeaderText {
  readonly #usable = isUsable()
  #values: Readonly<Record<string, string>> = Object.create(null)
  #text = ''
  readonly #store: StoreHeader

  constructor() {
    const headers = this
    this.#store = function storeHeader(this: ServerResponse, statusLine: string, given: unknown): void {
      store?.call(this, Array.isArray(given) ? statusLine : statusLine + headers.#textBeside(given as object), given)
    }
  }

  /** @param values valid headers, which are not checked again; names in lower case */
  set(values: Readonly<Record<string, string>>): void {
    this.#values = Object.assign(Object.create(null), values)
    this.#text = textOf(Object.entries(values))
  }

  /** Returns false if the response has to be given the headers in the public way. */
  attach(response: object): boolean {
    if (!this.#usable || !isNodeResponse(response)) return false
    response._storeHeader = this.#store
    return true
  }

  isAttached(response: object): boolean {
    return (response as Internal)._storeHeader === this.#store
  }

  detach(response: object): void {
    // `delete` would turn the response into a dictionary-mode object.
    if (this.isAttached(response)) Object.assign(response, { _storeHeader: store })
  }

  #textBeside(given: object): string {
    for (const name in given) {
      if (this.#values[name.toLowerCase()] === undefined) continue
      const names = new Set(Object.keys(given).map((each) => each.toLowerCase()))
      return textOf(Object.entries(this.#values).filter(([each]) => !names.has(each)))
    }
    return this.#text
  }
}
