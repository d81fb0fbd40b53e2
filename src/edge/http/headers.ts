import type { IncomingHttpHeaders } from 'node:http'
import { requestId } from '../../base/request-id.ts'
import type { Origin } from './origins.ts'

/** By lower-case name; a repeated field has a list. */
export type HeaderFields = Record<string, string | string[]>

/** Fields for one connection, which are never forwarded: RFC 9110 section 7.6.1, and those of older implementations. */
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
/** Request fields that this proxy sets; the client's are dropped. */
const setHere: ReadonlySet<string> = new Set([
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
 * Other fields in which proxies send the original URL to an application. Some frameworks route by them, so they are
 * forwarded from trusted proxies only.
 */
const describesUrl = /^x-(?:forwarded-|original-|rewrite-|host$|http-host-override$)/
/** Fields that a `Connection` header cannot remove. */
const notNominable: ReadonlySet<string> = new Set(['content-length', 'cookie', 'authorization'])

/** Headers as text, which is the form in which the proxy sends them; undici reads them as pairs. */
export class HeaderLines implements Iterable<[string, string]> {
  /** Lines with their line ends. Values must not contain one, because they are not checked again. */
  text = ''
  /** Without one, the target's own name is sent. */
  readonly hasHost: boolean

  constructor(hasHost: boolean = true) {
    this.hasHost = hasHost
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

/** How a request's header field is treated. */
interface FieldRule {
  /** In lower case. */
  readonly name: string
  readonly role: 'forwarded' | 'dropped' | 'host' | 'cookie' | 'trusted'
}

/** By name as clients spell it; there are few spellings. */
const rules = new Map<string, FieldRule>()
const maxRules = 1000

function ruleOf(raw: string): FieldRule {
  let rule = rules.get(raw)
  if (rule) return rule
  const name = raw.toLowerCase()
  rule = { name, role: roleOf(name) }
  if (rules.size < maxRules && raw.length < 64) rules.set(raw, rule)
  return rule
}

function roleOf(name: string): FieldRule['role'] {
  if (name === 'host' || name === 'cookie') return name
  if (setHere.has(name) || name[0] === ':') return 'dropped'
  return describesUrl.test(name) ? 'trusted' : 'forwarded'
}

/**
 * Writes the request headers for the upstream.
 *
 * @param out receives the headers
 * @param raw Node's `rawHeaders`
 * @param headers Node's `headers`
 * @param host the authority of the request (RFC 9112 section 3.2.2)
 * @param id the request's id, unless a trusted proxy sent one
 * @returns `out`; undefined when the host is invalid or repeated
 */
export function requestHeaders(
  out: HeaderLines,
  raw: readonly string[],
  headers: IncomingHttpHeaders,
  origin: Origin,
  host: string,
  id?: string,
): HeaderLines | undefined {
  const element = origin.element(host)
  if (element === undefined) return undefined
  const nominated = nominatedBy(headers.connection)
  if (out.hasHost) out.push('host', host)
  let cookie = ''
  let hosts = 0
  for (let i = 0; i < raw.length; i += 2) {
    const { name, role } = ruleOf(raw[i] as string)
    if (role === 'host') hosts++
    else if (role === 'cookie') {
      // HTTP/2 may split a cookie into several fields; HTTP/1.1 has one (RFC 9113 section 8.2.3).
      cookie = cookie === '' ? (raw[i + 1] as string) : `${cookie}; ${raw[i + 1]}`
    } else if ((role === 'forwarded' || (role === 'trusted' && origin.trusted)) && !nominated?.has(name)) {
      out.push(name, raw[i + 1] as string)
    }
  }
  if (hosts > 1) return undefined
  if (cookie !== '') out.push('cookie', cookie)
  describeOrigin(out, origin.trusted ? headers : nothing, origin, host, element, id)
  return out
}

const nothing: IncomingHttpHeaders = Object.freeze({})

/** @param previous the headers of a trusted proxy; empty for other clients */
function describeOrigin(
  out: HeaderLines,
  previous: IncomingHttpHeaders,
  origin: Origin,
  host: string,
  element: string,
  id: string | undefined,
): void {
  const forwardedFor = previous['x-forwarded-for']
  out.push('forwarded', previous.forwarded ? `${previous.forwarded}, ${element}` : element)
  out.push('x-forwarded-for', forwardedFor ? `${forwardedFor}, ${origin.address}` : origin.address)
  out.push('x-forwarded-host', String(previous['x-forwarded-host'] ?? host))
  out.push('x-forwarded-port', String(previous['x-forwarded-port'] ?? origin.port))
  out.push('x-forwarded-proto', String(previous['x-forwarded-proto'] ?? origin.protocol))
  out.push('x-request-id', String(previous['x-request-id'] ?? id ?? requestId()))
}

/** The names that a `Connection` header limits to this connection; undefined when there are none. */
export function nominatedBy(header: string | string[] | undefined): ReadonlySet<string> | undefined {
  const connection = typeof header === 'object' ? header.join() : header
  if (!connection || connection === 'keep-alive' || /^(?:keep-alive|close|upgrade)$/i.test(connection)) return undefined
  const names = connection.split(',').map((name) => name.trim().toLowerCase())
  return new Set(names.filter((name) => !notNominable.has(name)))
}

/**
 * The response headers for the client, as a flat list.
 *
 * @param without names to omit: `trailer` if no trailers can follow, `content-length` if there is no content
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
