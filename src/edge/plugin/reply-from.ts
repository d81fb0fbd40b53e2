import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { FleetError } from '../../base/errors.ts'
import { Forwarder } from './forwarder.ts'
import type { ForwardOptions, ReplyFromOptions } from './options.ts'
import { targetOf } from './request.ts'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Responds with the response of an upstream.
     *
     * @param path path and query below the path of the target; by default the request's own
     */
    from(path?: string, options?: ForwardOptions): this
  }
}

/** Creates a forwarder that starts and ends with the app. */
export function createForwarder(app: Parameters<FastifyPluginAsync>[0], options: ReplyFromOptions): Forwarder {
  const forwarder = new Forwarder(options, app.initialConfig.bodyLimit ?? 0)
  app.addHook('onReady', () => forwarder.ready())
  app.addHook('onClose', () => forwarder.close())
  return forwarder
}

export function decorateReply(app: Parameters<FastifyPluginAsync>[0], forwarder: Forwarder): void {
  app.decorateReply('from', function from(this: FastifyReply, path?: string, options: ForwardOptions = {}) {
    const { request } = this
    try {
      const own = targetOf(request.url)
      const { path: to, search } = path === undefined ? own : targetOf(path)
      if (to !== '' && to[0] !== '/')
        throw new FleetError('FLEET_ERR_OPTION_INVALID', '`reply.from` needs a path that starts with /')
      void forwarder.forward(request, this, { path: to, search: search || own.search }, options)
    } catch (error) {
      forwarder.fail(request, this, error, { ...forwarder.options, ...options })
    }
    return this
  })
}

const plugin: FastifyPluginAsync<ReplyFromOptions> = async (app, options) => {
  decorateReply(app, createForwarder(app, options))
}

/** Adds `reply.from()`, with which a handler responds with the response of an upstream. */
export const replyFrom: FastifyPluginAsync<ReplyFromOptions> = fp(plugin, { name: 'fleet-reply-from', fastify: '5.x' })
