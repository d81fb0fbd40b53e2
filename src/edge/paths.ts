/**
 * A path the way a router behind this proxy may read it, for comparison only: decoded, in lower case, without double
 * slashes, dot segments, matrix parameters, query and fragment. Undefined when it cannot be decoded, holds a NUL, or
 * leads above the root.
 */
export function canonicalPath(target: string): string | undefined {
  const end = target.search(/[?#]/)
  const path = end < 0 ? target : target.slice(0, end)
  if (!/[%;\\A-Z]|\/[/.]/.test(path)) return path
  let decoded: string
  try {
    decoded = decodeURIComponent(path)
  } catch {
    return undefined
  }
  if (decoded.includes('\0')) return undefined
  const segments: string[] = []
  for (const segment of decoded.toLowerCase().split(/[/\\]+/)) {
    const name = segment.replace(/;.*$/s, '')
    if (name === '..') {
      if (segments.pop() === undefined) return undefined
    } else if (name !== '' && name !== '.') segments.push(name)
  }
  return `/${segments.join('/')}`
}

/** Tells whether a canonical path is one of `prefixes` or lies beneath it; a whole segment at a time. */
export function beneath(prefixes: readonly string[]): (path: string) => boolean {
  const wanted = prefixes.map((prefix) => prefix.toLowerCase().replace(/\/+$/, ''))
  return (path) =>
    wanted.some((prefix) => path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === '/'))
}
