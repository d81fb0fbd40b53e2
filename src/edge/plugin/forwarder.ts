import { stringify } from 'node:querystring'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Dispatcher } from 'undici'
import { FleetError } from '../../base/errors.ts'
import { StallGuard } from '../../base/socket-bounds.ts'
import { clientAddress } from '../../instance/client-key.ts'
import { Balancer } from '../balancer/balancer.ts'
import type { PickInput } from '../balancer/policies/index.ts'
import type { UpstreamRequest } from '../balancer/target.ts'
import { guard } from '../boundary.ts'
import { clientGone } from '../http/admission.ts'
import { asFleetError, wantsHtml } from '../http/error-page.ts'
import { isHttp2 } from '../http/node-server.ts'
import { beneath, canonicalPath } from '../http/paths.ts'
import { breakOff } from '../http/response.ts'
import { authorityOf, parseTarget } from '../target-url.ts'
import type { ForwardOptions, Headers, ReplyFromOptions, ResolvedUpstreamOptions } from './options.ts'
import { splitOptions } from './options.ts'
import { forwardedHeaders, headersOf, linesOf, type Target, upstreamBody } from './request.ts'
import { ResponseBody } from './response.ts'
import { fieldsOf, sendable } from './response-headers.ts'
import type { Mapping } from './rewrite.ts'

/** Most upstreams that `getUpstream` can name at a time; beyond, the one that was unused for longest is closed. */
const maxUpstreams = 100
/** Fastify's `bodyLimit` unless the app sets one. */
const fastifyBodyLimit = 1_048_576

/** Rewrites headers of a response as the route requires. */
export type ResponseRewriter = (headers: Headers, mapping: Pick<Mapping, 'isUpstream'> & { basePath: string }) => void

/** A request that is ready to be sent. */
export interface PreparedRequest {
  readonly balancer: Balancer
  readonly options: UpstreamRequest
  readonly input: PickInput
}

/** Forwards requests of an app to the targets of a balancer. */
export class Forwarder {
  readonly options: ResolvedUpstreamOptions
  readonly stalls: StallGuard
  readonly #balancer: Balancer | undefined
  readonly #ownsBalancer: boolean
  readonly #blocked: (path: string) => boolean
  readonly #bodyLimit: number
  /** Of `getUpstream`, in the order of their last use. */
  readonly #chosen = new Map<string, Balancer>()
  readonly #balancerOptions: ReturnType<typeof splitOptions>['balancer']

  /** @param appBodyLimit Fastify's `bodyLimit` @throws the errors of {@link Balancer} */
  constructor(given: ReplyFromOptions, appBodyLimit: number) {
    const { own, targets, balancer } = splitOptions(given)
    this.options = own
    this.stalls = new StallGuard(own.sendTimeoutMs)
    this.#blocked = beneath(own.block)
    this.#bodyLimit = own.bodyLimit ?? (appBodyLimit === fastifyBodyLimit ? 0 : appBodyLimit)
    // A single upstream leaves no choice to a probe, and only instances of a fleet have its path.
    const isSingle = targets.length <= 1 && !balancer.discover
    this.#balancerOptions = isSingle ? { ...balancer, probe: { type: 'off', ...balancer.probe } } : balancer
    this.#ownsBalancer = !own.balancer
    if (own.balancer) this.#balancer = own.balancer
    else if (targets.length > 0 || balancer.discover) this.#balancer = new Balancer(targets, this.#balancerOptions)
    else if (!own.getUpstream) {
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        '`proxyPlugin` needs `targets`, `discover`, `balancer` or `getUpstream`',
      )
    }
  }

  async ready(): Promise<void> {
    if (this.#ownsBalancer) await this.#balancer?.ready()
  }

  async close(): Promise<void> {
    if (this.#ownsBalancer) await this.#balancer?.close()
    await Promise.all([...this.#chosen.values()].map((balancer) => balancer.close()))
  }

  /**
   * Responds with the response of an upstream, or with an error.
   *
   * @param target path and query, below the path of the upstream
   */
  async forward(
    request: FastifyRequest,
    reply: FastifyReply,
    target: Target,
    given: ForwardOptions = {},
    rewrite?: ResponseRewriter,
  ): Promise<void> {
    const options = { ...this.options, ...given }
    try {
      const prepared = await this.prepare(request, target, given)
      await this.#respond(request, reply, prepared, options, rewrite)
    } catch (error) {
      this.fail(request, reply, error, options)
    }
  }

  /** @throws FLEET_ERR_REQUEST_INVALID, FLEET_ERR_PATH_BLOCKED, FLEET_ERR_BODY_TOO_LARGE, and errors of the app's functions */
  async prepare(
    request: FastifyRequest,
    { path, search }: Target,
    given: ForwardOptions,
    isUpgrade = false,
  ): Promise<PreparedRequest> {
    const { preserveHost, bufferBytes, rewriteRequestHeaders, queryString, timeoutMs } = { ...this.options, ...given }
    if (this.#blocked(canonicalPath(path) ?? path)) throw new FleetError('FLEET_ERR_PATH_BLOCKED')
    const balancer = this.#balancerFor(request)
    const { body, replaced } = isUpgrade
      ? { body: null, replaced: undefined }
      : await upstreamBody(request, { limit: this.#bodyLimit, bufferBytes }, given)
    let headers = forwardedHeaders(request, preserveHost)
    if (replaced || rewriteRequestHeaders) {
      let fields = headersOf(headers)
      const length = fields['content-length']
      if (replaced) fields['content-type'] = replaced.type
      if (rewriteRequestHeaders) fields = { ...rewriteRequestHeaders(request, fields) }
      // The length of a body is never the app's to state.
      fields['content-length'] = replaced ? undefined : length
      headers = linesOf(fields)
    }
    const query = queryString === undefined ? search : searchOf(queryString, search, request)
    const method = (given.method ?? request.method) as Dispatcher.HttpMethod
    const input: PickInput = { client: clientAddress(request), headers: request.headers, setCookie: undefined }
    return {
      balancer,
      input,
      options: { path: path + query, method, headers, body: body as Buffer | null, headersTimeout: timeoutMs },
    }
  }

  /** Responds to a request without a response of an upstream, or ends an incomplete response. */
  fail(
    request: FastifyRequest,
    reply: FastifyReply,
    thrown: unknown,
    { onError }: ForwardOptions = this.options,
  ): void {
    const error = withStatus(thrown)
    if (reply.sent || reply.raw.headersSent) {
      reply.raw.destroy()
      return
    }
    for (const [name, value] of Object.entries(error.headers ?? {})) reply.header(name, value)
    // The rest of the body is not read.
    if (!request.raw.complete && !isHttp2(request.raw)) reply.header('connection', 'close')
    const respond = (): unknown => {
      if (onError) return onError(reply, { error })
      const status = error.statusCode
      const page = wantsHtml(request.headers.accept) ? this.options.errorPage?.(status, request) : undefined
      return page === undefined ? reply.send(error) : reply.code(status).type('text/html; charset=utf-8').send(page)
    }
    const failed = (failure: unknown): void => {
      request.log.error({ err: failure }, 'the error of a proxied request could not be sent')
      reply.raw.destroy()
    }
    try {
      const result = respond()
      if (result instanceof Promise) result.catch(failed)
    } catch (failure) {
      failed(failure)
    }
  }

  async #respond(
    request: FastifyRequest,
    reply: FastifyReply,
    { balancer, options, input }: PreparedRequest,
    { rewriteHeaders, onResponse }: ForwardOptions,
    rewrite: ResponseRewriter | undefined,
  ): Promise<void> {
    const { raw } = request
    const body = new ResponseBody(raw, reply.raw)
    if (reply.raw.destroyed) throw clientGone()
    const gone = guard('the end of a proxied request', () => {
      body.destroy()
      if (body.exchange?.done === false) body.exchange.abort(clientGone())
    })
    reply.raw.once('close', gone)
    this.stalls.add(isHttp2(raw) ? (reply.raw as never as { stream: never }).stream : raw.socket)
    const exchange = balancer.dispatch(options, body, input)
    const head = await body.head.catch(asFleetError)
    // The app has responded itself meanwhile, for example after a time limit of its own.
    if (reply.sent || reply.raw.headersSent) {
      body.destroy()
      return
    }
    if (head instanceof FleetError) throw head
    const { status, headers } = head
    try {
      const fields = fieldsOf(headers, input.setCookie)
      const target = exchange.target
      rewrite?.(fields, {
        basePath: target?.basePath ?? '',
        isUpstream: (host) => balancer.targets.some(({ url }) => authorityOf(url).toLowerCase() === host),
      })
      const own = sendable(rewriteHeaders ? rewriteHeaders(fields, request) : fields, isHttp2(raw))
      if (status > 599) throw new FleetError('FLEET_ERR_UPSTREAM_FAILED', `status ${status} cannot be sent`)
      // Node ends a 205 over HTTP/2 with its headers.
      const hasBody = raw.method !== 'HEAD' && status !== 204 && status !== 304 && !(status === 205 && isHttp2(raw))
      this.#copyHead(reply, body, status, own, hasBody)
      if (onResponse) await onResponse(request, reply, { statusCode: status, headers, stream: body })
      else if (hasBody) reply.send(body)
      else {
        body.resume()
        reply.send()
      }
    } catch (error) {
      body.destroy()
      throw error
    }
  }

  #copyHead(reply: FastifyReply, body: ResponseBody, status: number, headers: Headers, hasBody: boolean): void {
    const { raw } = reply
    const names = Object.keys(headers)
    reply.code(status)
    for (const name of names) reply.header(name, headers[name])
    if (status === 204 || status === 205) reply.removeHeader('content-length')
    // An HTTP/1.1 connection cannot be used again before the request was read.
    if (!reply.request.raw.complete && !isHttp2(reply.request.raw)) reply.header('connection', 'close')
    // Headers of a response that breaks before its first byte are not those of the error that follows.
    const broken = guard('the break of a response', () => {
      if (raw.headersSent) {
        breakOff(reply.request.raw, raw)
        return
      }
      for (const name of names) {
        reply.removeHeader(name)
        raw.removeHeader(name)
      }
    })
    body.once('error', broken)
    if (!hasBody) return
    // Fastify sends the headers with the first byte, but a stream may be silent for long.
    const flush = guard('the headers of a response', () => {
      if (!raw.headersSent && !raw.destroyed) raw.flushHeaders()
    })
    const soon = guard('a response', () => void setImmediate(flush))
    raw.once('pipe', soon)
  }

  #balancerFor(request: FastifyRequest): Balancer {
    const url = this.options.getUpstream?.(request)
    if (url === undefined && this.#balancer) return this.#balancer
    const { href } = parseTarget(url)
    let balancer = this.#chosen.get(href)
    this.#chosen.delete(href)
    balancer ??= new Balancer([href], this.#balancerOptions)
    this.#chosen.set(href, balancer)
    const [oldest] = this.#chosen
    if (oldest && this.#chosen.size > maxUpstreams) {
      this.#chosen.delete(oldest[0])
      void oldest[1].close()
    }
    return balancer
  }
}

function searchOf(
  queryString: NonNullable<ForwardOptions['queryString']>,
  search: string,
  request: FastifyRequest,
): string {
  const text = typeof queryString === 'function' ? queryString(search, request.url, request) : stringify(queryString)
  if (!text) return ''
  // What cannot be part of a request is encoded; what is encoded stays as it is.
  return `?${text.replace(/^\?/, '').replace(/[^\x21-\x7e]+|#/g, encodeURIComponent)}`
}

/** An error with a status: of the proxy, or of a function of the app. */
function withStatus(thrown: unknown): FleetError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  return ('statusCode' in error ? error : Object.assign(error, { statusCode: 500 })) as FleetError
}
