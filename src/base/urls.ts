/**
 * `target`, a path with or without a query, at the origin of `base`. It is set part by part: resolved as
 * a relative reference, `//host` and `/\host` name another origin.
 */
export function urlAt(base: string | URL, target: string): URL {
  const url = new URL(base)
  const query = target.indexOf('?')
  url.pathname = query < 0 ? target : target.slice(0, query)
  url.search = query < 0 ? '' : target.slice(query)
  return url
}
