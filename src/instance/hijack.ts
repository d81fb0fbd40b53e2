import type { FastifyInstance, FastifyReply } from 'fastify'
import { keyOf } from './fastify-internals.ts'

const own = Symbol('fleet.reply')

type Kind = { readonly prototype: { hijack: FastifyReply['hijack'] } }

/**
 * Calls back when a handler takes a reply out of Fastify's hands (`reply.hijack()`): no hook of Fastify tells of it, and
 * what hooks would have done to the answer has to be done then. The replies of this scope and of all below it descend
 * from one prototype, which is this app's own.
 */
export function onHijack(app: FastifyInstance, listener: (reply: FastifyReply) => void): void {
  // Without a decorator Fastify takes the prototype of all apps instead.
  if (!app.hasReplyDecorator(own)) app.decorateReply(own, () => true)
  const key = keyOf(app, 'fastify.Reply')
  const kind = key && (app as unknown as Record<symbol, Kind | undefined>)[key]?.prototype
  if (!kind) return
  const { hijack } = kind
  kind.hijack = function (this: FastifyReply) {
    listener(this)
    return hijack.call(this)
  }
}
