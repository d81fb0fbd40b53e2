/**
 * The request target that is sent upstream: without dot segments (RFC 3986 section 5.2.4, with `%2e` as a dot) and
 * without a fragment. So the upstream reads the same path that the rules of this proxy were applied to, however it treats
 * these parts.
 *
 * @param target in origin form, which starts with `/`
 * @returns undefined when the path leads above the root
 */
export function resolveTarget(target: string): string | undefined {
  const end = target.search(/[?#]/)
  const path = end < 0 ? target : target.slice(0, end)
  const fragment = target[end] === '#'
  if (!fragment && !/\/(?:\.|%2e)/i.test(path)) return target
  const segments: string[] = []
  const all = path.split('/').slice(1)
  for (const [i, segment] of all.entries()) {
    const name = segment.replace(/%2e/gi, '.')
    if (name !== '.' && name !== '..') {
      segments.push(segment)
      continue
    }
    if (name === '..' && segments.pop() === undefined) return undefined
    // A trailing dot segment names a folder: `/a/.` is `/a/`.
    if (i === all.length - 1) segments.push('')
  }
  return `/${segments.join('/')}${end < 0 || fragment ? '' : target.slice(end)}`
}

/**
 * A path as a router behind this proxy may read it, for comparison only: decoded, in lower case, without double slashes,
 * dot segments, matrix parameters, query and fragment.
 *
 * @returns undefined when the path cannot be decoded, contains a NUL, or leads above the root
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
 * Whether a resolved target contains a dot segment for some routers only: after an encoded slash, after a backslash, or
 * before a matrix parameter (`/a%2f..`, `/a\..`, `/..;x/a`). Routers disagree about the path that it names.
 */
export function isAmbiguous(target: string): boolean {
  const path = pathOf(target)
  return /[%;\\]/.test(path) && /[/\\]\.\.?(?:[/\\;]|$)/.test(decode(path) ?? '')
}

/** A test for canonical paths: true for one of `prefixes` and for paths below it. Compares whole segments. */
export function beneath(prefixes: readonly string[]): (path: string) => boolean {
  const canonical = prefixes.map((prefix) => (canonicalPath(prefix) ?? prefix).replace(/\/+$/, ''))
  return (path) =>
    canonical.some(
      (prefix) => path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === '/'),
    )
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
