/**
 * `target`, a path with or without a query, at the origin of `base`. A fragment is dropped: it is never sent. The parts are
 * set one by one: resolved as a relative reference, `//host` and `/\host` name another origin.
 */
export function urlAt(base: string | URL, target: string): URL {
  const url = new URL(base)
  const [, pathname = '', search = ''] = /^([^?#]*)(\?[^#]*)?/.exec(target) ?? []
  url.pathname = pathname
  url.search = search
  return url
}
