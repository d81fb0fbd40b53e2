import { type HeaderFields, hopByHop, nominatedBy } from './headers.ts'

/**
 * Fields that are not allowed after the content (RFC 9110 section 6.5.1), because recipients act on them when they read
 * the head. Names that begin with `content-` are dropped as well, except `content-digest` (RFC 9530 section 2).
 */
const forbidden: ReadonlySet<string> = new Set([
  ...hopByHop,
  // Framing and routing.
  'host',
  'trailer',
  'via',
  'forwarded',
  'max-forwards',
  // Modifiers of a request.
  'cache-control',
  'expect',
  'pragma',
  'range',
  // Authentication and state; `authentication-info` may come late (RFC 9110 section 11.6.3).
  'authorization',
  'cookie',
  'cookie2',
  'set-cookie',
  'set-cookie2',
  'www-authenticate',
  // Control of the response.
  'age',
  'alt-svc',
  'clear-site-data',
  'date',
  'expires',
  'location',
  'refresh',
  'retry-after',
  'strict-transport-security',
  'vary',
  'warning',
  'x-fleet-draining',
])
const forbiddenPrefixes: readonly string[] = ['content-', 'if-', 'access-control-', 'x-forwarded-']

const isForbidden = (name: string): boolean =>
  forbidden.has(name) || (name !== 'content-digest' && forbiddenPrefixes.some((prefix) => name.startsWith(prefix)))

/** The trailers that may be forwarded, as a flat list. @param connection the `Connection` header of the response */
export function responseTrailers(trailers: HeaderFields, connection: string | string[] | undefined): string[] {
  const nominated = nominatedBy(connection)
  const out: string[] = []
  for (const name in trailers) {
    if (isForbidden(name) || nominated?.has(name)) continue
    for (const value of [trailers[name] as string | string[]].flat()) out.push(name, value)
  }
  return out
}
