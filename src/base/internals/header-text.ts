import type { ServerResponse } from 'node:http'
import { http } from './node-http.ts'

type StoreHeader = (this: ServerResponse, statusLine: string, headers: unknown) => void

/** What `writeHead` ends in. Node does not document it; where it is missing, headers are written as Node writes them. */
const store = (http.OutgoingMessage.prototype as { _storeHeader?: StoreHeader })._storeHeader

const textOf = (headers: readonly (readonly [string, string])[]): string =>
  headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')

/** Takes the place of Node's own for one response; see {@link headerText}. */
export type HeaderText = (response: ServerResponse) => void

/**
 * Lets a response write headers that are the same for every answer as one text, put together here, once.
 * Node checks the name and the value of each header and joins them anew for every response, which for the twenty that an
 * answer has takes longer than the answer. The text is used when `writeHead` gets an object that begins with all of
 * `headers`, unchanged; as soon as one was removed or has another value, all go the usual way.
 *
 * @param headers valid ones, their names in lower case; nobody checks them again
 */
export function headerText(headers: Readonly<Record<string, string>>): HeaderText {
  const known = Object.entries(headers)
  if (typeof store !== 'function') return () => undefined
  const names = known.map(([name]) => name)
  const values = known.map(([, value]) => value)
  const text = textOf(known)

  /** Names and values of what comes after the known headers; `undefined` when they are not all there. */
  const rest = (given: Readonly<Record<string, unknown>>): unknown[] | undefined => {
    const present = Object.keys(given)
    for (let i = 0; i < names.length; i++) {
      if (present[i] !== names[i] || given[names[i] as string] !== values[i]) return undefined
    }
    const others: unknown[] = []
    for (let i = names.length; i < present.length; i++) others.push(present[i], given[present[i] as string])
    return others
  }
  function storeHeader(this: ServerResponse, statusLine: string, given: unknown): void {
    const others = typeof given === 'object' && given !== null ? rest(given as Record<string, unknown>) : undefined
    if (others) store?.call(this, statusLine + text, others)
    else store?.call(this, statusLine, given)
  }
  return (response) => {
    // A response of HTTP/2 has no text.
    if ('_storeHeader' in response) response._storeHeader = storeHeader
  }
}

/** Only Node's own kind ends in {@link store} and nothing else; others are for HTTP/2, or keep what they are given. */
const isPlain = (response: object): response is ServerResponse & { _storeHeader: StoreHeader } =>
  store !== undefined && Object.getPrototypeOf(response) === http.ServerResponse.prototype

/**
 * Headers that responses have beside those they are given: the given ones are a few, which Node checks and joins, and of
 * these there is only one text. Where both have one of the same name, the given one counts.
 */
export class StandingText {
  #values: Readonly<Record<string, string>> = Object.create(null)
  #text = ''
  readonly #store: StoreHeader

  constructor() {
    const headers = this
    this.#store = function storeHeader(this: ServerResponse, statusLine: string, given: unknown): void {
      store?.call(this, Array.isArray(given) ? statusLine : statusLine + headers.#beside(given as object), given)
    }
  }

  /** @param values valid ones, their names in lower case; nobody checks them again */
  set(values: Readonly<Record<string, string>>): void {
    this.#values = Object.assign(Object.create(null), values)
    this.#text = textOf(Object.entries(values))
  }

  /** Whether they could be added; if not, the response has to be given them. */
  add(response: object): boolean {
    if (!isPlain(response)) return false
    response._storeHeader = this.#store
    return true
  }

  isOn(response: object): boolean {
    return (response as { _storeHeader?: StoreHeader })._storeHeader === this.#store
  }

  takeOff(response: object): void {
    // Not `delete`, which would make a hash table of the response.
    if (this.isOn(response)) (response as { _storeHeader?: StoreHeader | undefined })._storeHeader = store
  }

  #beside(given: object): string {
    for (const name in given) {
      if (this.#values[name.toLowerCase()] === undefined) continue
      const names = new Set(Object.keys(given).map((each) => each.toLowerCase()))
      return textOf(Object.entries(this.#values).filter(([each]) => !names.has(each)))
    }
    return this.#text
  }
}
