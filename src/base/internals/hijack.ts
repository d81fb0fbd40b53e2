// Touches: the prototype of an app's replies, kept under the symbol `fastify.Reply` of the app.
// Seen in: Fastify 5.0 to 5.12.
// Worth: needed for correctness. Headers that are written as text (header-text.ts) must be visible in every reply, and no hook
//   runs when a handler calls `reply.hijack()`.
// Fallback: `hijack` is replaced on each reply in an `onRequest` hook.

import type { FastifyInstance, FastifyReply } from 'fastify'
import { symbolOf } from './fastify.ts'

const marker = Symbol('fleet.reply')

type ReplyPrototype = Pick<FastifyReply, 'hijack' | 'getHeader' | 'getHeaders' | 'hasHeader' | 'removeHeader'>

/** The prototype of all replies of this scope and its children, and of no other app; `undefined` if it is not found. */
export function replyPrototype(app: FastifyInstance): ReplyPrototype | undefined {
  // Without a decorator, Fastify uses the prototype that all apps share.
  if (!app.hasReplyDecorator(marker)) app.decorateReply(marker, () => true)
  const key = symbolOf(app, 'fastify.Reply')
  return key && (app as unknown as Record<symbol, { readonly prototype: ReplyPrototype } | undefined>)[key]?.prototype
}

/** Calls back when a handler takes a reply out of Fastify's hands with `reply.hijack()`. */
export function onHijack(app: FastifyInstance, listener: (reply: FastifyReply) => void): void {
  const prototype = replyPrototype(app)
  if (prototype) {
    intercept(prototype, listener)
    return
  }
  app.addHook('onRequest', (_request, reply, done) => {
    intercept(reply, listener)
    done()
  })
}

function intercept(target: Pick<FastifyReply, 'hijack'>, listener: (reply: FastifyReply) => void): void {
  const { hijack } = target
  target.hijack = function (this: FastifyReply) {
    listener(this)
    return hijack.call(this)
  }
}
