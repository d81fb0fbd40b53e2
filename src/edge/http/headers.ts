import type { IncomingHttpHeaders } from 'node:http'
import { requestId } from '../../base/request-id.ts'
import type { Origin } from './origins.ts'

/** By name in lower case; what came several times is a list. */
export type HeaderFields = Record<string, string | string[]>

/** RFC 9110 section 7.6.1, and what implementations of old sent: meant for one connection, never forwarded. */
export const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'http2-settings',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'transfer-encoding',
  'upgrade',
])
/** Of a request: said by this proxy, whatever the client says. */
const ours: ReadonlySet<string> = new Set([
  ...hopByHop,
  'expect',
  'forwarded',
  'host',
  'trailer',
  'x-fleet-draining',
  'x-fleet-load',
  'x-fleet-retry',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-proto',
  'x-real-ip',
  'x-request-id',
])
/**
 * Other names by which proxies tell an application which URL was asked for. Some frameworks route by them, so they count from
 * a proxy of ours only.
 */
const describesUrl = /^x-(?:forwarded-|original-|rewrite-|host$|http-host-override$)/
/** A `Connection` header must not be able to take these away. */
const kept: ReadonlySet<string> = new Set(['content-length', 'cookie', 'authorization'])

/** Takes headers, a name in lower case and a value at a time: a flat list, or {@link HeaderLines}. */
interface Sink {
  push(name: string, value: string): unknown
}

/** Headers as they are written, which is all that is mostly needed of them; undici takes them as pairs. */
export class HeaderLines implements Iterable<[string, string]> {
  /** Lines with their ends. A value must not hold one: nobody looks at it again. */
  text = ''

  /** @param list names and values in turn */
  constructor(list: readonly string[] = []) {
    for (let i = 0; i < list.length; i += 2) this.push(list[i] as string, list[i + 1] as string)
  }

  push(name: string, value: string): void {
    this.text += `${name}: ${value}\r\n`
  }

  *[Symbol.iterator](): Generator<[string, string], void, undefined> {
    for (const line of this.text.split('\r\n')) {
      const colon = line.indexOf(':')
      if (colon > 0) yield [line.slice(0, colon), line.slice(colon + 2)]
    }
  }
}

/** What becomes of a request's header. */
interface Known {
  /** In lower case. */
  readonly name: string
  readonly role: 'passed' | 'dropped' | 'host' | 'cookie' | 'trusted'
}

/** Names as clients write them, of which there are few. */
const known = new Map<string, Known>()
const maxKnown = 1000

function knownOf(raw: string): Known {
  let is = known.get(raw)
  if (is) return is
  const name = raw.toLowerCase()
  is = { name, role: roleOf(name) }
  if (known.size < maxKnown && raw.length < 64) known.set(raw, is)
  return is
}

function roleOf(name: string): Known['role'] {
  if (name === 'host' || name === 'cookie') return name
  if (ours.has(name) || name[0] === ':') return 'dropped'
  return describesUrl.test(name) ? 'trusted' : 'passed'
}

/**
 * The request's headers as the upstream gets them. Undefined when it is not clear which host they are for.
 *
 * @param out takes them
 * @param raw as Node gives it, `rawHeaders`
 * @param headers the same, as an object
 * @param host the authority the request is for (RFC 9112 section 3.2.2)
 */
export function requestHeaders<T extends Sink>(
  out: T,
  raw: readonly string[],
  headers: IncomingHttpHeaders,
  origin: Origin,
  host: string,
): T | undefined {
  const element = origin.element(host)
  if (element === undefined) return undefined
  const nominated = nominatedBy(headers.connection)
  out.push('host', host)
  let cookie = ''
  let hosts = 0
  for (let i = 0; i < raw.length; i += 2) {
    const { name, role } = knownOf(raw[i] as string)
    if (role === 'host') hosts++
    else if (role === 'cookie') {
      // HTTP/2 may send a cookie in pieces, which HTTP/1.1 does not know (RFC 9113 section 8.2.3).
      cookie = cookie === '' ? (raw[i + 1] as string) : `${cookie}; ${raw[i + 1]}`
    } else if ((role === 'passed' || (role === 'trusted' && origin.trusted)) && !nominated?.has(name)) {
      out.push(name, raw[i + 1] as string)
    }
  }
  if (hosts > 1) return undefined
  if (cookie !== '') out.push('cookie', cookie)
  describeOrigin(out, origin.trusted ? headers : nothing, origin, host, element)
  return out
}

const nothing: IncomingHttpHeaders = Object.freeze({})

/** @param before what a proxy of ours has said already */
function describeOrigin(out: Sink, before: IncomingHttpHeaders, origin: Origin, host: string, element: string): void {
  const forwardedFor = before['x-forwarded-for']
  out.push('forwarded', before.forwarded ? `${before.forwarded}, ${element}` : element)
  out.push('x-forwarded-for', forwardedFor ? `${forwardedFor}, ${origin.address}` : origin.address)
  out.push('x-forwarded-host', String(before['x-forwarded-host'] ?? host))
  out.push('x-forwarded-port', String(before['x-forwarded-port'] ?? origin.port))
  out.push('x-forwarded-proto', String(before['x-forwarded-proto'] ?? origin.protocol))
  out.push('x-request-id', String(before['x-request-id'] ?? requestId()))
}

/** The names that a `Connection` header declares to be for this connection only; undefined when there are none. */
export function nominatedBy(header: string | string[] | undefined): ReadonlySet<string> | undefined {
  const connection = typeof header === 'object' ? header.join() : header
  if (!connection || connection === 'keep-alive' || /^(?:keep-alive|close|upgrade)$/i.test(connection)) return undefined
  const names = connection.split(',').map((name) => name.trim().toLowerCase())
  return new Set(names.filter((name) => !kept.has(name)))
}

/**
 * The answer's headers as the client gets them, as a flat list.
 *
 * @param without a name that is left out: `trailer` where none can follow, `content-length` where there is no content
 */
export function responseHeaders(headers: HeaderFields, ...without: string[]): string[] {
  const nominated = nominatedBy(headers.connection)
  const out: string[] = []
  for (const name in headers) {
    if (hopByHop.has(name) || name === 'x-fleet-draining' || nominated?.has(name) || without.includes(name)) continue
    const value = headers[name]
    if (typeof value === 'string') out.push(name, value)
    else if (value) for (const each of value) out.push(name, each)
  }
  return out
}
