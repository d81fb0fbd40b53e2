/** Where a request came in and where it goes, for the headers of its response. */
export interface Mapping {
  /** Path of the route as the client sees it; empty at the root. */
  readonly outside: string
  /** The same path at the upstream, with the path of the target; empty at its root. */
  readonly inside: string
  /** Whether a name with optional port is the upstream's. */
  isUpstream(host: string): boolean
}

/** Splits a path into the prefix of a route and the part below it, both as the client spelled them. */
export function splitPrefix(path: string, prefix: string): { outside: string; rest: string } {
  const wanted = prefix.split('/').filter((segment) => segment !== '').length
  let at = 0
  let outside = ''
  for (let found = 0; found < wanted; found++) {
    // A router may ignore repeated slashes.
    while (path[at] === '/') at++
    const slash = path.indexOf('/', at)
    const end = slash < 0 ? path.length : slash
    outside += `/${path.slice(at, end)}`
    at = end
  }
  return { outside, rest: path.slice(at) }
}

/** Puts the parameters of a request into a path: `/users/:id`. */
export function withParams(path: string, params: unknown): string {
  const values = (params ?? {}) as Readonly<Record<string, unknown>>
  return path.replace(/:(\w+)/g, (name, key: string) =>
    Object.hasOwn(values, key) ? encodeURIComponent(String(values[key])) : name,
  )
}

/** A path at the upstream as the client sees it; undefined for a path that is not below the route. */
function outsidePath(path: string, { inside, outside }: Mapping): string | undefined {
  if (!path.startsWith(inside)) return undefined
  const rest = path.slice(inside.length)
  return rest === '' || /^[/?#]/.test(rest) ? outside + rest : undefined
}

/** A `Location` as the client sees it. Other hosts and relative references stay as they are. */
export function rewriteLocation(location: string, mapping: Mapping): string {
  const absolute = /^(?:https?:)?\/\/([^/?#]*)(.*)$/is.exec(location)
  if (absolute && !mapping.isUpstream((absolute[1] as string).toLowerCase())) return location
  const path = absolute ? absolute[2] || '/' : location
  if (path[0] !== '/') return location
  const found = outsidePath(path, mapping)
  if (found === undefined) return location
  // Two slashes would name a host.
  return found === '' ? '/' : found.replace(/^\/\/+/, '/')
}

/**
 * A `Set-Cookie` value as the client needs it: its path as the client sees it, its domain replaced, or removed if it is the
 * upstream's. A cookie whose name begins with `__Host-` requires the path `/` and no domain.
 */
export function rewriteCookie(cookie: string, mapping: Mapping, domain: string | undefined): string {
  if (/^\s*__Host-/i.test(cookie)) return cookie
  const [pair, ...attributes] = cookie.split(';')
  const kept = attributes.flatMap((attribute) => {
    const [, name = '', value = ''] = /^\s*([^=\s]*)\s*=?\s*(.*?)\s*$/s.exec(attribute) ?? []
    if (/^path$/i.test(name) && value[0] === '/') {
      // `/` and `/shop/` stand for all paths below them, like `/shop`.
      const found = outsidePath(value.replace(/\/+$/, ''), mapping)
      return found === undefined ? [attribute] : [` Path=${found || '/'}`]
    }
    if (!/^domain$/i.test(name)) return [attribute]
    if (domain !== undefined) return [` Domain=${domain}`]
    return mapping.isUpstream(value.replace(/^\./, '').toLowerCase()) ? [] : [attribute]
  })
  return [pair, ...kept].join(';')
}
