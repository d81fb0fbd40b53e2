import type { IncomingMessage } from 'node:http'
import type { Dispatcher } from 'undici'
import { FleetError } from '../../base/errors.ts'
import type { PickInput } from '../balancer/policies/index.ts'
import type { UpstreamRequest } from '../balancer/target.ts'
import { HeaderLines, requestHeaders } from './headers.ts'
import { isHttp2 } from './node-server.ts'
import type { ResolvedProxyOptions } from './options.ts'
import type { Origin, Origins } from './origins.ts'
import { beneath, canonicalPath, isAmbiguous, resolveTarget } from './paths.ts'
import type { Pools, ProxyPool } from './pools.ts'

/** A request that may be sent upstream. */
export interface AdmittedRequest {
  readonly pool: ProxyPool
  readonly options: UpstreamRequest
  readonly input: PickInput
  /** Bytes of its body: 0 without a body, infinite when the length is unknown. */
  readonly length: number
}

/**
 * Decides which requests are sent upstream, to which pool and in which form. Node's parser has already rejected invalid HTTP, a
 * Content-Length together with a Transfer-Encoding, contradicting lengths and bad chunks. This class rejects the
 * remaining requests that two parsers could read differently.
 */
export class Admission {
  readonly #blocked: (path: string) => boolean
  readonly #origins: Origins
  readonly #limits: ResolvedProxyOptions
  readonly #pools: Pools

  constructor(origins: Origins, limits: ResolvedProxyOptions, pools: Pools) {
    this.#blocked = beneath(limits.block)
    this.#origins = origins
    this.#limits = limits
    this.#pools = pools
  }

  admit(request: IncomingMessage, origin: Origin): AdmittedRequest | FleetError {
    const { url = '', method = 'GET', headers, rawHeaders, httpVersionMajor } = request
    if (httpVersionMajor === 0) return invalid('HTTP/0.9')
    if (httpVersionMajor === 2 && !isHttp2(request)) return new FleetError('FLEET_ERR_VERSION_UNSUPPORTED')
    const { maxHeaders, maxConcurrentStreams } = this.#limits
    if (rawHeaders.length > 2 * maxHeaders) {
      return new FleetError('FLEET_ERR_HEADERS_TOO_LARGE', `at most ${maxHeaders} header fields`)
    }
    if (origin.inflight > maxConcurrentStreams) return new FleetError('FLEET_ERR_PIPELINE_LIMIT')
    if (method === 'TRACE') return methodNotAllowed()
    const length = bodyLength(request)
    if (Number.isNaN(length)) return invalid('Transfer-Encoding')
    const absolute = url.startsWith('/') ? undefined : URL.parse(url)
    if (absolute === null || (absolute && !isHttp(absolute))) return invalid('request target')
    const target = resolveTarget(absolute ? absolute.pathname + absolute.search : url)
    const path = target === undefined ? undefined : canonicalPath(target)
    if (target === undefined || path === undefined) return invalid('path')
    if (this.#blocked(path)) return new FleetError('FLEET_ERR_PATH_BLOCKED')
    if (path !== target && isAmbiguous(target)) return invalid('path')
    const authority = absolute?.host ?? (httpVersionMajor === 2 ? String(headers[':authority'] ?? '') : '')
    const host = authority || headers.host || ''
    if (/[^\x21-\x7e\x80-\xff]/.test(target)) return invalid('path')
    // Node's parser of HTTP/1.1 has checked its fields.
    if (httpVersionMajor === 2 && rawHeaders.some((text) => /[^\t\x20-\x7e\x80-\xff]/.test(text))) {
      return invalid('header')
    }
    const lines = requestHeaders(new HeaderLines(), rawHeaders, headers, origin, host)
    if (!lines) return invalid('Host')
    const client = this.#origins.client(origin, headers['x-forwarded-for'] as string | undefined)
    const options = { path: target, method: method as Dispatcher.HttpMethod, headers: lines }
    const pool = this.#pools.find(path, host, headers)
    return { pool, length, input: { client, headers, setCookie: undefined }, options }
  }
}

/** NaN for a framing that parsers interpret differently: RFC 9112 sections 6.1 and 6.3. */
function bodyLength({ headers, httpVersion, httpVersionMajor, method }: IncomingMessage): number {
  const coding = headers['transfer-encoding']
  if (coding !== undefined) {
    return coding.toLowerCase() === 'chunked' && httpVersion === '1.1' ? Number.POSITIVE_INFINITY : Number.NaN
  }
  if (headers['content-length'] !== undefined) return Number(headers['content-length'])
  // In HTTP/2 a body needs no Content-Length.
  return httpVersionMajor === 2 && method !== 'GET' && method !== 'HEAD' ? Number.POSITIVE_INFINITY : 0
}

/** User information in a URL is a phishing technique: RFC 9110 section 4.2.4. */
const isHttp = ({ protocol, username }: URL): boolean => /^https?:$/.test(protocol) && username === ''

/** TRACE would expose the headers that this proxy adds; CONNECT is for forward proxies. */
export const methodNotAllowed = (): FleetError => new FleetError('FLEET_ERR_METHOD_REFUSED')

/** The error with which an exchange is aborted when its client disconnects. */
export const clientGone = (): FleetError => invalid('the client disconnected')

export const invalid = (what: string): FleetError => new FleetError('FLEET_ERR_REQUEST_INVALID', what)
