import type { ServerResponse } from 'node:http'
import { http } from '../base/node-http.ts'

type StoreHeader = (this: ServerResponse, statusLine: string, headers: unknown) => void

/** What `writeHead` ends in. Node does not document it; where it is missing, headers are written as Node writes them. */
const store = (http.OutgoingMessage.prototype as { _storeHeader?: StoreHeader })._storeHeader

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
  const text = known.map(([name, value]) => `${name}: ${value}\r\n`).join('')

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
