// The built-in proxy as a Fastify plugin, over the same balancer and connections as `createProxy`. Read on in this order:
//   options.ts     options of `proxy` and of `replyFrom`
//   request.ts     what is sent upstream: path, headers, body
//   forwarder.ts   one request from the app to a balancer, and its response back
//   response.ts    the body of a response, with back-pressure and trailers
//   rewrite.ts     paths, `Location` and cookies
//   upgrade.ts     WebSockets
//   reply-from.ts  `reply.from()`
import type {
  FastifyPluginAsync,
  FastifyReply,
  FastifyRequest,
  HTTPMethods,
  preHandlerHookHandler,
  RouteOptions,
} from 'fastify'
import type { Headers } from './options.ts'
import { type ProxyPluginOptions, type ResolvedPluginOptions, splitOptions } from './options.ts'
import { createForwarder, decorateReply } from './reply-from.ts'
import { type Target, targetOf } from './request.ts'
import { type Mapping, rewriteCookie, rewriteLocation, splitPrefix, withParams } from './rewrite.ts'
import { isUpgrade, routeUpgrades, Upgrades } from './upgrade.ts'

export type { ForwardOptions, ProxyPluginOptions, ReplyFromOptions, UpstreamResponse } from './options.ts'
export { replyFrom } from './reply-from.ts'

/**
 * Forwards the requests below a prefix to the targets of a balancer.
 *
 * @example
 * app.register(proxy, { prefix: '/api', targets: ['http://10.0.0.1:3000', 'http://10.0.0.2:3000'] })
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID, and the errors of `Balancer`
 */
export const proxy: FastifyPluginAsync<ProxyPluginOptions> = async (app, given) => {
  const { own: options } = splitOptions(given)
  const forwarder = createForwarder(app, given)
  const upgrades = new Upgrades(forwarder, options.tunnelTimeoutMs)
  decorateReply(app, forwarder)
  if (options.proxyPayloads) {
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  }
  if (options.websocket) {
    routeUpgrades(app)
    // The lifecycle plugin ends the WebSockets of such servers over a period of time.
    if (!app.hasDecorator('websocketServer')) app.decorate('websocketServer' as never, upgrades as never)
    app.addHook('preClose', async () => {
      for (const client of upgrades.clients) client.close()
    })
  }
  const { prefix } = app
  /** Where a request goes at the upstream, and the path of the route on both sides. */
  const route = (request: FastifyRequest): { target: Target; outside: string; inside: string } => {
    const { preRewrite } = options
    const { path, search } = targetOf(preRewrite ? preRewrite(request.url, request.params, prefix) : request.url)
    const { outside, rest } = splitPrefix(path, prefix)
    const inside = withParams(options.rewritePrefix, request.params).replace(/\/+$/, '')
    return { target: { path: inside + rest, search }, outside, inside }
  }
  const handler = (request: FastifyRequest, reply: FastifyReply): void => {
    try {
      const { target, outside, inside } = route(request)
      void forwarder.forward(request, reply, target, {}, (headers, { basePath, isUpstream }) =>
        rewrite(headers, { outside, inside: basePath + inside, isUpstream }, options),
      )
    } catch (error) {
      forwarder.fail(request, reply, error)
    }
  }
  /** The last hook, not the handler: @fastify/websocket replaces all handlers. */
  const upgrade: preHandlerHookHandler = (request, reply, done) => {
    if (!isUpgrade(request)) {
      done()
      return
    }
    try {
      void upgrades.start(request, reply, route(request).target)
    } catch (error) {
      forwarder.fail(request, reply, error)
    }
  }
  const { httpMethods, constraints = {}, config = {}, onRequest, preValidation, preHandler } = options
  for (const url of options.routes) {
    app.route({
      url,
      method: [...httpMethods] as HTTPMethods[],
      constraints,
      config,
      ...(onRequest && { onRequest }),
      ...(preValidation && { preValidation }),
      preHandler: [preHandler ?? [], options.websocket ? upgrade : []].flat(),
      handler,
    } as RouteOptions)
  }
}
export default proxy

function rewrite(headers: Headers, mapping: Mapping, options: ResolvedPluginOptions): void {
  const { location } = headers
  if (options.rewriteLocation && typeof location === 'string') headers.location = rewriteLocation(location, mapping)
  const cookies = headers['set-cookie']
  if (options.rewriteCookies && cookies !== undefined) {
    headers['set-cookie'] = [cookies].flat().map((cookie) => rewriteCookie(cookie, mapping, options.cookieDomain))
  }
}
