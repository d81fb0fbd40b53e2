import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isIP } from 'node:net'
import { FleetError } from './errors.ts'

// Checks that protect the operators' endpoints of an instance (src/instance/operators) and of the built-in proxy
// (src/edge/http/admin.ts).

/** A secret that is compared in constant time, whatever the length of the guess. */
export class SecretToken {
  readonly #digest: Buffer

  /**
   * @param name name in the error message
   * @throws FLEET_ERR_SECRET_WEAK below 32 bytes
   */
  constructor(token: string, name: string) {
    if (Buffer.byteLength(token) < 32) {
      throw new FleetError(
        'FLEET_ERR_SECRET_WEAK',
        `${name} must have at least 32 bytes; create one with: openssl rand -hex 32`,
      )
    }
    this.#digest = digest(token)
  }

  equals(guess: string): boolean {
    return timingSafeEqual(digest(guess), this.#digest)
  }
}

const digest = (value: string): Buffer => createHash('sha256').update(value).digest()

/** The token of an `Authorization: Bearer …` header; undefined for other schemes. */
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
 * Whether a proxy added a header to the request. A proxy that adds none, at layer 4 or with a bare `proxy_pass`, looks
 * like a direct client, so this check must never be the only one.
 */
export function cameThroughProxy(headers: IncomingHttpHeaders): boolean {
  for (const name in headers) if (proxyHeaders.has(name) || name.startsWith('x-forwarded-')) return true
  return false
}

/** Requested host name or address, in lower case without port; undefined if it is neither. */
export function requestedHost(headers: IncomingHttpHeaders): string | undefined {
  const [, name] = /^(\[[\da-f:.]+\]|[\w.-]+)(?::\d{1,5})?$/i.exec(authority(headers) ?? '') ?? []
  return name?.toLowerCase()
}

/** HTTP/2 has no `Host`. */
const authority = (headers: IncomingHttpHeaders): string | undefined =>
  (headers[':authority'] as string | undefined) ?? headers.host

/** Whether a host is a loopback address, or a name that always resolves to one (RFC 6761, 6.3). */
export const isLoopbackHost = (name: string): boolean =>
  /^(?:[\w-]+\.)*localhost$/.test(name) || name === '[::1]' || (isIP(name) === 4 && name.startsWith('127.'))

/** Whether a host is an address. A name could be made to resolve to this machine (DNS rebinding). */
export const isAddressHost = (name: string): boolean => isIP(name.replace(/^\[|\]$/g, '')) !== 0

/** Origin of the page that sent a request. Programs other than browsers send no such headers: `unknown`. */
export type Initiator = 'same-origin' | 'cross-origin' | 'unknown'

/** Uses `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin`, which pages cannot set. Those that are present must agree. */
export function initiatorOf(headers: IncomingHttpHeaders): Initiator {
  const site = headers['sec-fetch-site']
  const { origin } = headers
  if (site === undefined && origin === undefined) return 'unknown'
  if (site !== undefined && site !== 'same-origin') return 'cross-origin'
  return origin === undefined || isOwnOrigin(origin, authority(headers)) ? 'same-origin' : 'cross-origin'
}

function isOwnOrigin(origin: string, host: string | undefined): boolean {
  const url = URL.parse(origin)
  // Parsing both removes differences in letter case and default ports.
  return url !== null && url.host !== '' && url.host === URL.parse(`${url.protocol}//${host ?? ''}`)?.host
}

export const changesState = (method: string | undefined): boolean =>
  method !== 'GET' && method !== 'HEAD' && method !== 'OPTIONS'

/** Whether a link was followed. The browser displays the response, and no script of another site can read it. */
export const isNavigation = (method: string | undefined, headers: IncomingHttpHeaders): boolean =>
  method === 'GET' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'

/**
 * Whether a state-changing request cannot come from a page of another site: it was sent by a page of this server, or by
 * no browser and with a content type that requires a CORS preflight. A form can send neither. The check is independent
 * of the credential, because browsers add cookies and passwords automatically.
 */
export function isProvenChange(headers: IncomingHttpHeaders): boolean {
  const initiator = initiatorOf(headers)
  if (initiator !== 'unknown') return initiator === 'same-origin'
  return /^application\/json\s*(?:;|$)/i.test(headers['content-type'] ?? '')
}
