/**
 * The request target as it goes upstream: without dot segments (RFC 3986 section 5.2.4, `%2e` being a dot) and without a
 * fragment, so that whatever the upstream makes of these, it reads the path that the rules of this proxy were applied to.
 * Undefined when the path leads above the root.
 *
 * @param target in origin form: it starts with `/`
 */
export function resolveTarget(target: string): string | undefined {
  const end = target.search(/[?#]/)
  const path = end < 0 ? target : target.slice(0, end)
  const fragment = target[end] === '#'
  if (!fragment && !/\/(?:\.|%2e)/i.test(path)) return target
  const segments: string[] = []
  const given = path.split('/').slice(1)
  for (const [i, segment] of given.entries()) {
    const name = segment.replace(/%2e/gi, '.')
    if (name !== '.' && name !== '..') {
      segments.push(segment)
      continue
    }
    if (name === '..' && segments.pop() === undefined) return undefined
    // `/a/..` is the folder `/`, as `/a/.` is `/a/`.
    if (i === given.length - 1) segments.push('')
  }
  return `/${segments.join('/')}${end < 0 || fragment ? '' : target.slice(end)}`
}

/**
 * A path the way a router behind this proxy may read it, for comparison only: decoded, in lower case, without double
 * slashes, dot segments, matrix parameters, query and fragment. Undefined when it cannot be decoded, holds a NUL, or
 * leads above the root.
 */
export function canonicalPath(target: string): string | undefined {
  const path = pathOf(target)
  if (!/[%;\\A-Z]|\/[/.]/.test(path)) return path
  const decoded = decode(path)
  if (decoded === undefined || decoded.includes('\0')) return undefined
  const segments: string[] = []
  for (const segment of decoded.toLowerCase().split(/[/\\]+/)) {
    const name = segment.replace(/;.*$/s, '')
    if (name === '..') {
      if (segments.pop() === undefined) return undefined
    } else if (name !== '' && name !== '.') segments.push(name)
  }
  return `/${segments.join('/')}`
}

/**
 * Whether a resolved target has a dot segment for some routers only: behind an encoded slash, behind a backslash, or before
 * a matrix parameter (`/a%2f..`, `/a\..`, `/..;x/a`). Which path it names depends on who reads it.
 */
export function isAmbiguous(target: string): boolean {
  const path = pathOf(target)
  return /[%;\\]/.test(path) && /[/\\]\.\.?(?:[/\\;]|$)/.test(decode(path) ?? '')
}

/** Tells whether a canonical path is one of `prefixes` or lies beneath it; a whole segment at a time. */
export function beneath(prefixes: readonly string[]): (path: string) => boolean {
  const wanted = prefixes.map((prefix) => (canonicalPath(prefix) ?? prefix).replace(/\/+$/, ''))
  return (path) =>
    wanted.some((prefix) => path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === '/'))
}

function pathOf(target: string): string {
  const end = target.search(/[?#]/)
  return end < 0 ? target : target.slice(0, end)
}

function decode(path: string): string | undefined {
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}
