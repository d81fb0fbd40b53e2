import type { IncomingHttpHeaders } from 'node:http'
import type { Readable } from 'node:stream'
import type {
  FastifyReply,
  FastifyRequest,
  onRequestHookHandler,
  preHandlerHookHandler,
  preValidationHookHandler,
} from 'fastify'
import {
  bool,
  either,
  fn,
  int,
  list,
  type OptionsOf,
  path,
  type Resolved,
  resolveOptions,
  type Shape,
  shape,
  text,
} from '../../base/options.ts'
import type { Balancer } from '../balancer/balancer.ts'
import type { BalancerOptions } from '../balancer/options.ts'
import type { TargetOptions } from '../balancer/target.ts'
import { proxyOptions } from '../http/options.ts'

/** Headers by lower-case name. */
export type Headers = Record<string, string | string[] | undefined>

/** The response of an upstream. */
export interface UpstreamResponse {
  readonly statusCode: number
  /** Without hop-by-hop headers, before `rewriteHeaders`. */
  readonly headers: IncomingHttpHeaders
  /** The body. It ends with an error if the response is incomplete. */
  readonly stream: Readable
}

const isObject = (v: unknown): boolean => typeof v === 'object' && v !== null && !Array.isArray(v)
const hooks = <T>(): Shape<T | T[]> =>
  shape('a function or a list of functions', (v) => [v].flat().every((each) => typeof each === 'function'))

/** Options of one forwarded request. */
const forwardOptions = {
  /** Returns the request headers for the upstream. It gets them with `X-Forwarded-*`, by lower-case name. */
  rewriteRequestHeaders: fn<(request: FastifyRequest, headers: Headers) => Headers>(),
  /** Returns the response headers for the client. It gets them after `Location` and cookies were rewritten. */
  rewriteHeaders: fn<(headers: Headers, request: FastifyRequest) => Headers>(),
  /** The query of the upstream request: an object, or a function that returns the text after `?`. @default the client's */
  queryString: either(
    fn<(search: string, url: string, request: FastifyRequest) => string>(),
    shape<Record<string, string | number | boolean | readonly string[]>>('an object', isObject),
  ),
  /** Sends the response to the client instead of the plugin, which has set its status and headers. */
  onResponse: fn<(request: FastifyRequest, reply: FastifyReply, response: UpstreamResponse) => unknown>(),
  /** Responds to a request that has no response of an upstream. @default `reply.send(error)` */
  onError: fn<(reply: FastifyReply, context: { error: Error & { statusCode: number; code: string } }) => unknown>(),
  /** From the request until the response headers, for each attempt. @default `connections.responseTimeoutMs` */
  timeoutMs: int(1, 3_600_000, 'milliseconds'),
}
export type ForwardOptions = OptionsOf<typeof forwardOptions> & {
  /** Replaces the method. */
  method?: string
  /** Replaces the body. A text or buffer is sent as it is, `null` is no body, anything else is sent as JSON. */
  body?: unknown
  /** `Content-Type` of a replaced body. */
  contentType?: string
}

/** @internal */
export const upstreamOptions = {
  ...forwardOptions,
  /** Chooses an upstream by the request: a URL like that of a target. Used instead of `targets`. */
  getUpstream: fn<(request: FastifyRequest) => string>(),
  /** Send the client's `Host`. By default the target's name is sent, and `X-Forwarded-Host` has the client's. */
  preserveHost: bool.default(false),
  /** HTML page for an error of the proxy, for clients that prefer HTML to JSON. Without a page, the error is sent. */
  errorPage: fn<(status: number, request: FastifyRequest) => string | undefined>(),
  /**
   * Largest request body that is forwarded; 413 above it. @default the app's `bodyLimit` if it is not Fastify's default of
   * 1 MiB, which is for bodies in memory; otherwise none
   */
  bodyLimit: int(1, Number.MAX_SAFE_INTEGER, 'bytes'),
  /** A body up to this length is read whole before a target is chosen, so that the request can go to another target. */
  bufferBytes: proxyOptions.bufferBytes,
  /** Paths at the upstream that get 404, with everything below them. By default the operators' paths of an instance. */
  block: proxyOptions.block,
  /** A client that reads nothing of its response for this long is disconnected. */
  sendTimeoutMs: proxyOptions.sendTimeoutMs,
  /** A balancer of the app, which several routes share. Used instead of `targets`; the app closes it. */
  balancer: shape<Balancer>('a Balancer', (v) => typeof (v as Balancer | null)?.dispatch === 'function'),
}

/** @internal */
export const proxyPluginOptions = {
  ...upstreamOptions,
  /** Replaces the prefix of the route in the path for the upstream; may contain the parameters of the prefix (`/:id`). */
  rewritePrefix: shape<string>(
    'a path that starts with /, or an empty string',
    (v) => typeof v === 'string' && /^(?:\/|$)/.test(v),
  ).default(''),
  /** Changes the client's URL before its prefix is replaced. */
  preRewrite: fn<(url: string, params: unknown, prefix: string) => string>(),
  /** Replace the upstream's own address and path in `Location` by those of the route. */
  rewriteLocation: bool.default(true),
  /** Replace the upstream's path in cookies by that of the route, and remove the upstream's domain. */
  rewriteCookies: bool.default(true),
  /** Domain that replaces the domains of the upstream's cookies. */
  cookieDomain: text,
  /** Paths below the prefix. */
  routes: (list(path) as Shape<readonly string[]>).default(['/', '/*']),
  /** Methods that are forwarded. */
  httpMethods: (list(text) as Shape<readonly string[]>).default([
    'DELETE',
    'GET',
    'HEAD',
    'PATCH',
    'POST',
    'PUT',
    'OPTIONS',
  ]),
  /** Constraints of the routes, as in Fastify: `host`, `version` or your own. */
  constraints: shape<Record<string, unknown>>('an object', isObject),
  /** `config` of the routes. */
  config: shape<object>('an object', isObject),
  /** Forward bodies unread. With false, Fastify parses them, hooks see `request.body`, and JSON and forms are sent again. */
  proxyPayloads: bool.default(true),
  /** Hooks of the routes. */
  onRequest: hooks<onRequestHookHandler>(),
  /** Hooks of the routes; with `proxyPayloads: false` they see the parsed body. */
  preValidation: hooks<preValidationHookHandler>(),
  /** Hooks of the routes. */
  preHandler: hooks<preHandlerHookHandler>(),
  /** Forward WebSockets. Their requests pass the hooks of the routes first. */
  websocket: bool.default(false),
  /** A WebSocket without traffic for this long is closed; 0: never. */
  tunnelTimeoutMs: proxyOptions.tunnelTimeoutMs,
}

interface Upstreams {
  targets?: readonly (string | TargetOptions)[]
}
export type ReplyFromOptions = BalancerOptions & OptionsOf<typeof upstreamOptions> & Upstreams
/** Either `targets`, `discover`, `balancer` or `getUpstream` is required. */
export type ProxyPluginOptions = ReplyFromOptions & OptionsOf<typeof proxyPluginOptions>
export type ResolvedUpstreamOptions = Resolved<typeof upstreamOptions>
export type ResolvedPluginOptions = Resolved<typeof proxyPluginOptions>

/** Options that Fastify handles when a plugin is registered. */
const ofFastify: ReadonlySet<string> = new Set(['prefix', 'logLevel', 'logSerializers'])

/**
 * Splits the options into those of the plugin, which it validates, and those of its balancer.
 *
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID
 */
export function splitOptions({ targets = [], ...given }: ReplyFromOptions): {
  own: ResolvedPluginOptions
  targets: readonly (string | TargetOptions)[]
  balancer: BalancerOptions
} {
  const entries = Object.entries(given).filter(([key]) => !ofFastify.has(key))
  const part = (isOwn: boolean): object =>
    Object.fromEntries(entries.filter(([key]) => Object.hasOwn(proxyPluginOptions, key) === isOwn))
  const own = resolveOptions('proxyPlugin', proxyPluginOptions, part(true))
  return { own, targets, balancer: part(false) }
}
