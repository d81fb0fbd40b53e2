import { type OptionsOf, path, record, text } from '../../base/options.ts'
import { isPoolName, poolNameText } from '../../base/pool-name.ts'
import type { Reject } from '../../base/redis-url.ts'
import { canonicalPath } from './paths.ts'

/** @internal */
export const routeOptions = {
  /** Prefix of the path, compared like `block`: whole segments, decoded, case-insensitive. */
  path,
  /** Name in the request's Host, with any port, case-insensitive. */
  host: text,
  /** Header fields by name, case-insensitive, each with exactly this value. */
  headers: record(text),
  /** Name of the pool. */
  pool: text,
}
/** Sends requests to a pool. All conditions that are set must hold; at least one is required, and `pool`. */
export type Route = OptionsOf<typeof routeOptions> & { pool: string }

/**
 * Routes as text: `MATCH=POOL`, separated by spaces, commas or newlines, where MATCH is `/path`, `//host`, `//host/path` or
 * `header:value`.
 */
export function parseRoutes(text: string, reject: Reject): Route[] {
  return text
    .split(/[\s,]+/)
    .filter((entry) => entry !== '')
    .map((entry) => {
      const end = entry.lastIndexOf('=')
      const route = end > 0 ? { ...matchOf(entry.slice(0, end)), pool: entry.slice(end + 1) } : undefined
      if (route && Object.keys(route).length > 1) return route
      return reject(
        `${JSON.stringify(entry)} is not MATCH=POOL, for example /api/v2=v2, //shop.example.com=shop or x-version:2=v2`,
      )
    })
}

function matchOf(match: string): Omit<Route, 'pool'> {
  const [, host, below] = /^\/\/([^/]*)(\/.*)?$/s.exec(match) ?? []
  if (host !== undefined) return { host, ...(below !== undefined && { path: below }) }
  if (match.startsWith('/')) return { path: match }
  const colon = match.indexOf(':')
  return colon < 0 ? {} : { headers: { [match.slice(0, colon)]: match.slice(colon + 1) } }
}

/** A route as text, for messages. */
const textOf = ({ host, path = '', headers, pool }: Route): string =>
  JSON.stringify(
    `${[...Object.entries(headers ?? {}).map((field) => field.join(':')), `${host === undefined ? '' : `//${host}`}${path}`].filter(Boolean).join(' ')}=${pool}`,
  )

/** Node's `headers`. */
type Headers = Readonly<Record<string, string | string[] | undefined>>

/** A prefix of paths, one node for each segment. */
interface Node<T> {
  value?: T
  readonly below: Map<string, Node<T>>
}

/** A route with header fields: they are compared in the listed order. */
interface HeaderRoute<T> {
  readonly fields: readonly (readonly [name: string, value: string])[]
  readonly host: string | undefined
  readonly paths: Node<T>
}

/**
 * Finds the pool of a request: by header routes in the listed order, then by routes of its host, then by paths; among these
 * the longest path wins. A lookup costs one step per segment of the longest route.
 */
export class Router<T> {
  readonly #headers: HeaderRoute<T>[] = []
  readonly #hosts = new Map<string, Node<T>>()
  readonly #paths: Node<T> = { below: new Map() }
  #host = ''
  #hostName = ''

  /**
   * @param poolOf the pool of a name; undefined when there is none
   * @param reject throws an error whose message starts with the name of the option
   */
  constructor(routes: readonly Route[], poolOf: (name: string) => T | undefined, reject: Reject) {
    for (const route of routes) {
      const wrong = (problem: string): never => reject(`${textOf(route)} ${problem}`)
      check(route, wrong)
      const pool = poolOf(route.pool) ?? wrong(`names a pool that does not exist; add the pool or remove the route`)
      this.#add(route, pool, wrong)
    }
  }

  #add({ path = '/', host, headers }: Route, pool: T, wrong: Reject): void {
    const name = host === undefined ? undefined : hostName(host)
    let root = this.#paths
    if (headers) {
      root = { below: new Map() }
      const fields = Object.entries(headers).map(([field, value]) => [field.toLowerCase(), value] as const)
      this.#headers.push({ fields, host: name, paths: root })
    } else if (name !== undefined) {
      root = this.#hosts.get(name) ?? { below: new Map() }
      this.#hosts.set(name, root)
    }
    let node = root
    for (const segment of segmentsOf(path)) {
      const next = node.below.get(segment) ?? { below: new Map() }
      node.below.set(segment, next)
      node = next
    }
    if (node.value !== undefined && node.value !== pool)
      wrong('contradicts another route for the same requests; remove one of them')
    node.value = pool
  }

  /**
   * @param path canonical, see {@link canonicalPath}
   * @param host the request's authority
   * @param headers Node's `headers`
   */
  find(path: string, host: string, headers: Headers): T | undefined {
    if (this.#headers.length === 0 && this.#hosts.size === 0) return longest(this.#paths, path)
    // Most requests have the same host as the one before.
    if (host !== this.#host) {
      this.#host = host
      this.#hostName = hostName(host)
    }
    const name = this.#hostName
    for (const route of this.#headers) {
      if (route.host !== undefined && route.host !== name) continue
      if (!hasFields(headers, route.fields)) continue
      const found = longest(route.paths, path)
      if (found !== undefined) return found
    }
    const ofHost = this.#hosts.get(name)
    return (ofHost && longest(ofHost, path)) ?? longest(this.#paths, path)
  }
}

function check({ path, host, headers, pool }: Route, wrong: Reject): void {
  if (path === undefined && host === undefined && Object.keys(headers ?? {}).length === 0)
    wrong('needs a `path`, a `host` or `headers`')
  if (path !== undefined && (!path.startsWith('/') || /[?#;\\]/.test(path) || canonicalPath(path) === undefined))
    wrong('has a path that is not an absolute path without query')
  if (host !== undefined && !/^(?:[\w-]+(?:\.[\w-]+)*\.?|\[[\da-f:.]+\])$/i.test(host))
    wrong('has a host that is not a name or an address without port; write international names as xn--…')
  for (const [field, value] of Object.entries(headers ?? {}))
    if (
      !/^[\w!#$%&'*+.^`|~-]+$/.test(field) ||
      !/^[\x21-\x7e\x80-\xff](?:[\t -~\x80-\xff]*[\x21-\x7e\x80-\xff])?$/.test(value)
    )
      wrong('has a header that is not a name with a value')
  if (!isPoolName(pool)) wrong(`has a name of a pool that is not ${poolNameText}`)
}

function hasFields(headers: Headers, fields: HeaderRoute<unknown>['fields']): boolean {
  for (const [name, value] of fields) if (headers[name] !== value) return false
  return true
}

const segmentsOf = (path: string): string[] =>
  (canonicalPath(path) ?? path)
    .toLowerCase()
    .split('/')
    .filter((segment) => segment !== '')

/** A name without port and final dot, in lower case. */
function hostName(host: string): string {
  const port = /\.?(?::\d*)?$/.exec(host)
  return host.slice(0, port?.index).toLowerCase()
}

function longest<T>(root: Node<T>, path: string): T | undefined {
  let node: Node<T> | undefined = root
  let found = root.value
  for (let from = 1; node.below.size > 0 && from <= path.length; ) {
    const slash = path.indexOf('/', from)
    const end = slash < 0 ? path.length : slash
    node = node.below.get(path.slice(from, end))
    if (!node) break
    found = node.value ?? found
    from = end + 1
  }
  return found
}
