import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import { FleetError } from './errors.ts'

// What decides whether a request may use an operators' endpoint: of an instance (src/instance/operators) and of the
// built-in proxy (src/edge/http/admin.ts) alike.

/** A secret that is compared in the same time for every guess, whatever its length. */
export class SecretToken {
  readonly #digest: Buffer

  /**
   * @param name what the error calls it
   * @throws FLEET_ERR_SECRET_WEAK below 32 bytes
   */
  constructor(token: string, name: string) {
    if (Buffer.byteLength(token) < 32) {
      throw new FleetError(
        'FLEET_ERR_SECRET_WEAK',
        `${name} must have at least 32 bytes; make one with: openssl rand -hex 32`,
      )
    }
    this.#digest = digest(token)
  }

  equals(guess: string): boolean {
    return timingSafeEqual(digest(guess), this.#digest)
  }
}

const digest = (value: string): Buffer => createHash('sha256').update(value).digest()

/** The token of an `Authorization: Bearer …` header; undefined for every other scheme. */
export function bearerToken({ authorization }: IncomingHttpHeaders): string | undefined {
  return authorization !== undefined && /^bearer /i.test(authorization) ? authorization.slice(7).trim() : undefined
}

/** Headers that only a proxy or CDN adds. */
const proxyHeaders: ReadonlySet<string> = new Set([
  'forwarded',
  'via',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'fastly-client-ip',
  'cdn-loop',
  'x-amzn-trace-id',
  'x-envoy-external-address',
])

/**
 * Whether a proxy says that it passed the request on. One that says nothing, at layer 4 or with a bare `proxy_pass`,
 * cannot be told from a direct client: this is one more hurdle, never the only one.
 */
export function cameThroughProxy(headers: IncomingHttpHeaders): boolean {
  for (const name in headers) if (proxyHeaders.has(name) || name.startsWith('x-forwarded-')) return true
  return false
}

/** What the client calls this server, without the port and in lower case; undefined unless it is a name or an address. */
export function requestedHost(headers: IncomingHttpHeaders): string | undefined {
  const [, name] = /^(\[[\da-f:.]+\]|[\w.-]+)(?::\d{1,5})?$/i.exec(authority(headers) ?? '') ?? []
  return name?.toLowerCase()
}

/** HTTP/2 has no `Host`. */
const authority = (headers: IncomingHttpHeaders): string | undefined =>
  (headers[':authority'] as string | undefined) ?? headers.host

/** A name that every resolver and browser keeps on this machine (RFC 6761, 6.3), or a loopback address. */
export const isLoopbackHost = (name: string): boolean =>
  /^(?:[\w-]+\.)*localhost$/.test(name) || name === '[::1]' || (isIP(name) === 4 && name.startsWith('127.'))

/** An address is what it says; any other name can be made to resolve to this machine (DNS rebinding). */
export const isAddressHost = (name: string): boolean => isIP(name.replace(/^\[|\]$/g, '')) !== 0

/** Which page sent a request, as far as its headers tell. Programs that are no browser send neither of them. */
export type Initiator = 'same-origin' | 'cross-origin' | 'unknown'

/** By `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin`, which a page cannot set; each one that is there must agree. */
export function initiatorOf(headers: IncomingHttpHeaders): Initiator {
  const site = headers['sec-fetch-site']
  const { origin } = headers
  if (site === undefined && origin === undefined) return 'unknown'
  if (site !== undefined && site !== 'same-origin') return 'cross-origin'
  return origin === undefined || isOwnOrigin(origin, authority(headers)) ? 'same-origin' : 'cross-origin'
}

function isOwnOrigin(origin: string, host: string | undefined): boolean {
  const url = URL.parse(origin)
  // Parsed alike, so that letter case and the scheme's default port make no difference.
  return url !== null && url.host !== '' && url.host === URL.parse(`${url.protocol}//${host ?? ''}`)?.host
}

export const changesState = (method: string | undefined): boolean =>
  method !== 'GET' && method !== 'HEAD' && method !== 'OPTIONS'

/** A link that was followed: the browser shows the response, and no script of another site can read it. */
export const isNavigation = (method: string | undefined, headers: IncomingHttpHeaders): boolean =>
  method === 'GET' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'

/**
 * Whether no page of another site can have sent a request that changes something: it comes from a page of this server,
 * or from no browser and with a content type for which a browser would have asked first (CORS preflight). A form can
 * send neither. This holds whatever authenticates the request: browsers send cookies and passwords by themselves.
 */
export function isProvenChange(headers: IncomingHttpHeaders): boolean {
  const initiator = initiatorOf(headers)
  if (initiator !== 'unknown') return initiator === 'same-origin'
  return /^application\/json\s*(?:;|$)/i.test(headers['content-type'] ?? '')
}
