import { FleetError } from '../base/errors.ts'

/** Where to connect: for `net.connect`. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string }

const schemes: ReadonlySet<string> = new Set(['http:', 'https:', 'tcp:'])
const socketSchemes: ReadonlySet<string> = new Set(['unix+http:', 'unix+https:', 'http+unix:', 'https+unix:'])

/** Whether requests to this URL go over TLS. */
export const isTls = ({ protocol }: URL): boolean => /^(?:unix\+)?https(?:\+unix)?:$/.test(protocol)

/** The value of `Host` in requests to this URL. A Unix domain socket has no name of its own. */
export const authorityOf = (url: URL): string => (socketSchemes.has(url.protocol) ? 'localhost' : url.host)

/** The path of a URL without its last slash, which is in front of the path of every request: empty for `/`. */
export const basePathOf = ({ pathname }: URL): string => pathname.replace(/\/+$/, '')

export function addressOf(url: URL): SocketAddress {
  const { protocol, hostname, port } = url
  if (socketSchemes.has(protocol)) return { path: decodeURIComponent(hostname) }
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (protocol === 'https:' ? 443 : 80) }
}

/**
 * A server: scheme, host and port.
 *
 * @throws FLEET_ERR_TARGET_INVALID
 */
export function parseServer(text: string | undefined): URL {
  const url = parse(text)
  if (url && schemes.has(url.protocol) && /^\/?$/.test(url.pathname)) return url
  throw invalid(text, 'http://host:port, https://host:port or tcp://host:port, without a path')
}

/**
 * A server with the path below which its requests go, or a Unix domain socket.
 *
 * @throws FLEET_ERR_TARGET_INVALID
 */
export function parseTarget(text: string | undefined): URL {
  const url = parse(text)
  if (url && socketSchemes.has(url.protocol) && isSocketPath(url.hostname)) return url
  if (url && schemes.has(url.protocol) && (url.protocol !== 'tcp:' || /^\/?$/.test(url.pathname))) return url
  throw invalid(
    text,
    'http://host:port, https://host:port, tcp://host:port or unix+http://%2Fpath%2Fof%2Fthe.sock, the HTTP ones with an optional path',
  )
}

/** A URL with a host and without user information, query and fragment; for TCP with a port. */
function parse(text: string | undefined): URL | undefined {
  const url = URL.parse(text ?? '')
  if (!url?.hostname || url.username || url.search !== '' || url.hash !== '') return undefined
  return url.protocol !== 'tcp:' || url.port !== '' ? url : undefined
}

function isSocketPath(encoded: string): boolean {
  try {
    const path = decodeURIComponent(encoded)
    // Longer paths do not fit into the address of a socket.
    return /^\/[^\0]+$/.test(path) && Buffer.byteLength(path) < 108
  } catch {
    return false
  }
}

const invalid = (text: string | undefined, expected: string): FleetError =>
  new FleetError('FLEET_ERR_TARGET_INVALID', `${JSON.stringify(text?.slice(0, 100))} must be ${expected}`)
