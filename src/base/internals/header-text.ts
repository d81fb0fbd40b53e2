// Touches: `ServerResponse._storeHeader(statusLine, headers)`, which `writeHead` ends in and which sets `_header`.
// Seen in: Node 22 to 24.
// Worth: 18 % of the CPU time of a hello route with the umbrella plugin. Node validates and joins each of its twenty headers
//   for each response.
// Fallback: headers are passed to `writeHead` one by one. A self-test at first use selects it.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { http } from './node-http.ts'
import { shortcuts } from './shortcuts.ts'

export type StoreHeader = (this: ServerResponse, statusLine: string, headers: unknown) => void
type Internal = ServerResponse & { _storeHeader?: StoreHeader; _header?: unknown }

/** Node's own. */
export const storeHeader = (http.OutgoingMessage.prototype as unknown as Internal)._storeHeader

let works: boolean | undefined

/** Whether `writeHead` calls an own `_storeHeader` and puts its status line first, as the rest of this file assumes. */
export function isTextUsable(): boolean {
  works ??= selfTest(storeHeader)
  return works
}

function selfTest(node: StoreHeader | undefined): boolean {
  if (typeof node !== 'function') return false
  try {
    const response: Internal = new http.ServerResponse({ method: 'GET' } as IncomingMessage)
    response._storeHeader = function storeHeader(statusLine, headers) {
      node.call(this, `${statusLine}x-text: 1\r\n`, headers)
    }
    response.writeHead(200, { 'x-given': '2' })
    return /^HTTP\/1\.1 200 OK\r\nx-text: 1\r\nx-given: 2\r\n/.test(String(response._header))
  } catch {
    return false
  }
}

export const textOf = (headers: readonly (readonly [string, string])[]): string =>
  headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')

/** Responses of other classes are for HTTP/2, or record what they are given (`app.inject()`). */
const isNodeResponse = (response: object): response is Internal =>
  Object.getPrototypeOf(response) === http.ServerResponse.prototype

/**
 * Headers that responses send in addition to their own, as one text. A response's own header of the same name wins.
 */
export class StaticHeaderText {
  readonly #usable = shortcuts.headerText && isTextUsable()
  #values: Readonly<Record<string, string>> = Object.create(null)
  #text = ''
  readonly #store: StoreHeader

  constructor() {
    const headers = this
    this.#store = function storeText(this: ServerResponse, statusLine: string, given: unknown): void {
      storeHeader?.call(
        this,
        Array.isArray(given) ? statusLine : statusLine + headers.#textBeside(given as object),
        given,
      )
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
    if (this.isAttached(response)) Object.assign(response, { _storeHeader: storeHeader })
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
