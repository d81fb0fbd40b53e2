import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { dictionary } from '../base/dictionary.ts'
import { beginWith, setOwn } from '../base/internals/fastify.ts'
import { StandingText } from '../base/internals/header-text.ts'
import { onHijack, replyPrototype } from '../base/internals/hijack.ts'
import { http } from '../base/internals/node-http.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Headers that every answer of this app begins with. */
    standingHeaders: StandingHeaders
  }
}

/**
 * Headers that every reply has, computed when they change and not for every request. They are written beside those of the
 * reply, which need not hold them; where that is not possible, as on HTTP/2, the reply begins with them.
 */
export class StandingHeaders {
  readonly #values = new Map<string, string>()
  readonly #reserved = new Map<string, ''>()
  readonly #text = new StandingText()
  #shown = false
  #first = ''
  #block: Readonly<Record<string, string>> = dictionary()

  /** @throws ERR_INVALID_HTTP_TOKEN, ERR_INVALID_CHAR */
  set(name: string, value: string): void {
    const key = name.toLowerCase()
    if (this.#values.get(key) === value) return
    http.validateHeaderName(key)
    http.validateHeaderValue(key, value)
    this.#values.set(key, value)
    this.#settle()
  }

  /** The same for a reply that has begun, and all others. */
  update(reply: FastifyReply, name: string, value: string): void {
    this.set(name, value)
    if (!this.#text.isOn(reply.raw)) setOwn(reply, name, value)
  }

  /** Keeps a place for a header that gets its value when the answer is sent. */
  reserve(name: string): void {
    this.#reserved.set(name.toLowerCase(), '')
    this.#settle()
  }

  begin(reply: FastifyReply): void {
    if (!this.#shown || !this.#text.add(reply.raw)) beginWith(reply, this.#block)
  }

  /** Whether the reply has what it should begin with; one that was sent by a hook before this plugin's has not. */
  begun(reply: FastifyReply): boolean {
    return this.#text.isOn(reply.raw) || this.#first === '' || reply.hasHeader(this.#first)
  }

  /** Gives those that the reply still has to a response that goes on without it: a stream, a WebSocket. */
  handOver(reply: FastifyReply): void {
    this.#spell(reply)
    const { raw } = reply
    if (raw.headersSent) return
    for (const name in this.#block) {
      const value = reply.getHeader(name)
      if (value !== undefined && !raw.hasHeader(name)) raw.setHeader(name, value)
    }
  }

  /** Lets replies tell of headers that they do not hold. */
  show(replies: NonNullable<ReturnType<typeof replyPrototype>>): void {
    const { getHeader, getHeaders, hasHeader, removeHeader } = replies
    this.#shown = true
    const standing = this
    const of = (reply: FastifyReply, name: string): string | undefined =>
      standing.#text.isOn(reply.raw) ? standing.#values.get(name.toLowerCase()) : undefined
    replies.getHeader = function (this: FastifyReply, name: string) {
      return getHeader.call(this, name) ?? of(this, name)
    }
    replies.hasHeader = function (this: FastifyReply, name: string) {
      return hasHeader.call(this, name) || of(this, name) !== undefined
    }
    replies.getHeaders = function (this: FastifyReply) {
      const own = getHeaders.call(this)
      return standing.#text.isOn(this.raw) ? { ...Object.fromEntries(standing.#values), ...own } : own
    }
    replies.removeHeader = function (this: FastifyReply, name: string) {
      if (of(this, name) !== undefined) standing.#spell(this)
      return removeHeader.call(this, name)
    }
  }

  /** From here on the reply holds them itself. */
  #spell(reply: FastifyReply): void {
    if (!this.#text.isOn(reply.raw)) return
    this.#text.takeOff(reply.raw)
    beginWith(reply, this.#block)
  }

  #settle(): void {
    const values = Object.fromEntries(this.#values)
    this.#text.set(values)
    // An object that grew name by name would be a hash table, which takes ten times as long to copy.
    this.#block = JSON.parse(JSON.stringify({ ...values, ...Object.fromEntries(this.#reserved) }))
    this.#first = Object.keys(this.#block)[0] ?? ''
  }
}

const plugin: FastifyPluginAsync = async (app) => {
  const standing = new StandingHeaders()
  app.decorate('standingHeaders', standing)
  const replies = replyPrototype(app)
  if (replies) standing.show(replies)
  onHijack(app, (reply) => {
    if (standing.begun(reply)) standing.handOver(reply)
  })
  app.addHook('onRequest', (_request, reply, done) => {
    standing.begin(reply)
    done()
  })
}

/** Decorates `app.standingHeaders`. */
export const standingHeaders: FastifyPluginAsync = fp(plugin, { name: 'fleet-standing-headers', fastify: '5.x' })
