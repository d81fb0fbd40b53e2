/**
 * The URL of `target`, a path with an optional query, at the origin of `base`. Fragments are dropped. The parts are set one
 * by one, because `//host` and `/\host`, resolved as relative references, name another origin.
 */
export function urlAt(base: string | URL, target: string): URL {
  const url = new URL(base)
  const [, pathname = '', search = ''] = /^([^?#]*)(\?[^#]*)?/.exec(target) ?? []
  url.pathname = pathname
  url.search = search
  return url
}
