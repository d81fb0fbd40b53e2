import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import { StaticHeaderText } from '../base/internals/header-text.ts'
import { onHijack, replyPrototype } from '../base/internals/hijack.ts'
import { http } from '../base/internals/node-http.ts'
import { fleetPlugin } from './compat/index.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Headers of every response of this app. */
    staticHeaders: StaticHeaders
  }
}

/**
 * Headers of every response, computed when they change and not per request. They are written beside the headers of the
 * reply. Where that is impossible, as on HTTP/2, they are added to each reply when it starts.
 */
export class StaticHeaders {
  readonly #values = new Map<string, string>()
  readonly #text = new StaticHeaderText()
  #visible = false

  /** @throws ERR_INVALID_HTTP_TOKEN, ERR_INVALID_CHAR */
  set(name: string, value: string): void {
    const key = name.toLowerCase()
    if (this.#values.get(key) === value) return
    http.validateHeaderName(key)
    http.validateHeaderValue(key, value)
    this.#values.set(key, value)
    this.#text.set(Object.fromEntries(this.#values))
  }

  delete(name: string): void {
    this.#values.delete(name.toLowerCase())
    this.#text.set(Object.fromEntries(this.#values))
  }

  /** Sets a header for all later responses and for a reply that has its static headers already. */
  update(reply: FastifyReply, name: string, value: string): void {
    this.set(name, value)
    if (!this.#text.isAttached(reply.raw)) reply.header(name, value)
  }

  /** Gives a new reply its static headers. */
  apply(reply: FastifyReply): void {
    if (!this.#visible || !this.#text.attach(reply.raw)) this.#addTo(reply)
  }

  /** Whether a reply has its static headers. A reply that was sent by an earlier hook does not. */
  isApplied(reply: FastifyReply): boolean {
    if (this.#text.isAttached(reply.raw)) return true
    const [first] = this.#values.keys()
    return first === undefined || reply.hasHeader(first)
  }

  /** Copies the headers of a reply to its response, which continues without it as a stream or WebSocket. */
  handOver(reply: FastifyReply): void {
    this.#copyTo(reply)
    const { raw } = reply
    if (raw.headersSent) return
    for (const name of this.#values.keys()) {
      const value = reply.getHeader(name)
      if (value !== undefined && !raw.hasHeader(name)) raw.setHeader(name, value)
    }
  }

  /** Makes header accessors of replies include headers that are written as text. */
  showIn(replies: NonNullable<ReturnType<typeof replyPrototype>>): void {
    const { getHeader, getHeaders, hasHeader, removeHeader } = replies
    this.#visible = true
    const headers = this
    const staticValue = (reply: FastifyReply, name: string): string | undefined =>
      headers.#text.isAttached(reply.raw) ? headers.#values.get(name.toLowerCase()) : undefined
    replies.getHeader = function (this: FastifyReply, name: string) {
      return getHeader.call(this, name) ?? staticValue(this, name)
    }
    replies.hasHeader = function (this: FastifyReply, name: string) {
      return hasHeader.call(this, name) || staticValue(this, name) !== undefined
    }
    replies.getHeaders = function (this: FastifyReply) {
      const own = getHeaders.call(this)
      return headers.#text.isAttached(this.raw) ? { ...Object.fromEntries(headers.#values), ...own } : own
    }
    replies.removeHeader = function (this: FastifyReply, name: string) {
      if (staticValue(this, name) !== undefined) headers.#copyTo(this)
      return removeHeader.call(this, name)
    }
  }

  /** Moves the headers from the text into the reply. */
  #copyTo(reply: FastifyReply): void {
    if (!this.#text.isAttached(reply.raw)) return
    this.#text.detach(reply.raw)
    this.#addTo(reply)
  }

  #addTo(reply: FastifyReply): void {
    for (const [name, value] of this.#values)
      if (!reply.hasHeader(name) && !reply.raw.hasHeader(name)) reply.header(name, value)
  }
}

const plugin: FastifyPluginAsync = async (app) => {
  const headers = new StaticHeaders()
  app.decorate('staticHeaders', headers)
  const replies = replyPrototype(app)
  if (replies) headers.showIn(replies)
  onHijack(app, (reply) => {
    if (headers.isApplied(reply)) headers.handOver(reply)
  })
  app.addHook('onRequest', (_request, reply, done) => {
    headers.apply(reply)
    done()
  })
}

/** Decorates `app.staticHeaders`. */
export const staticHeaders: FastifyPluginAsync = fleetPlugin('staticHeaders', plugin)
