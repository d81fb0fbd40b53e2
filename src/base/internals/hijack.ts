import type { FastifyInstance, FastifyReply } from 'fastify'
import { keyOf } from './fastify.ts'

const own = Symbol('fleet.reply')

type Prototype = Pick<FastifyReply, 'hijack' | 'getHeader' | 'getHeaders' | 'hasHeader' | 'removeHeader'>

/**
 * What all replies of this scope, and of those below it, descend from, and those of other apps do not; `undefined` where
 * Fastify does not keep it any more.
 */
export function replyPrototype(app: FastifyInstance): Prototype | undefined {
  // Without a decorator Fastify takes the prototype of all apps instead.
  if (!app.hasReplyDecorator(own)) app.decorateReply(own, () => true)
  const key = keyOf(app, 'fastify.Reply')
  return key && (app as unknown as Record<symbol, { readonly prototype: Prototype } | undefined>)[key]?.prototype
}

/**
 * Calls back when a handler takes a reply out of Fastify's hands (`reply.hijack()`): no hook of Fastify tells of it, and
 * what hooks would have done to the answer has to be done then.
 */
export function onHijack(app: FastifyInstance, listener: (reply: FastifyReply) => void): void {
  const kind = replyPrototype(app)
  if (!kind) return
  const { hijack } = kind
  kind.hijack = function (this: FastifyReply) {
    listener(this)
    return hijack.call(this)
  }
}
