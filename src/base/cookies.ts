/** Most cookies of one name that are read. Each one costs its reader a signature to verify. */
const maxCookies = 32

/**
 * The pairs `name=value` of a `Cookie` header that have this name. A browser sends several if cookies of several paths or
 * domains match, in an order that the server cannot choose, and the first may be outdated or belong to another application
 * (RFC 6265, 5.4). Readers use the one that they can verify.
 */
export function cookiePairs(header: string | undefined, name: string): string[] {
  const found: string[] = []
  if (!header?.includes(name)) return found
  for (const pair of header.split(';')) {
    if (found.length === maxCookies) break
    const end = pair.indexOf('=')
    if (end > 0 && pair.slice(0, end).trim() === name) found.push(pair.trim())
  }
  return found
}

/** The values of the cookies with this name, as they were sent. */
export const cookieValues = (header: string | undefined, name: string): string[] =>
  cookiePairs(header, name).map((pair) => pair.slice(pair.indexOf('=') + 1).trim())
