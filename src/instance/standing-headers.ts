import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { http } from '../base/node-http.ts'
import { beginWith } from './fastify-internals.ts'
import { type HeaderText, headerText } from './header-text.ts'
import { onHijack } from './hijack.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Headers that every answer of this app begins with. */
    standingHeaders: StandingHeaders
  }
}

/** Headers with which every reply begins, computed when they change and not for every request. */
export class StandingHeaders {
  readonly #values = new Map<string, string>()
  readonly #reserved = new Map<string, ''>()
  #first = ''
  #block: Readonly<Record<string, string>> = {}
  #text: HeaderText = headerText({})

  /** @throws ERR_INVALID_HTTP_TOKEN, ERR_INVALID_CHAR */
  set(name: string, value: string): void {
    const key = name.toLowerCase()
    if (this.#values.get(key) === value) return
    http.validateHeaderName(key)
    http.validateHeaderValue(key, value)
    this.#values.set(key, value)
    this.#settle()
  }

  /** Keeps a place for a header that gets its value when the answer is sent. */
  reserve(name: string): void {
    this.#reserved.set(name.toLowerCase(), '')
    this.#settle()
  }

  begin(reply: FastifyReply): void {
    beginWith(reply, this.#block)
    this.#text(reply.raw)
  }

  /** Whether the reply has what it should begin with; one that was sent by a hook before this plugin's has not. */
  begun(reply: FastifyReply): boolean {
    return this.#first === '' || reply.hasHeader(this.#first)
  }

  /** Gives those that the reply still has to a response that goes on without it: a stream, a WebSocket. */
  handOver(reply: FastifyReply): void {
    const { raw } = reply
    if (raw.headersSent) return
    for (const name in this.#block) {
      const value = reply.getHeader(name)
      if (value !== undefined && !raw.hasHeader(name)) raw.setHeader(name, value)
    }
  }

  #settle(): void {
    const values = Object.fromEntries(this.#values)
    this.#text = headerText(values)
    // An object that grew name by name would be a hash table, which takes ten times as long to copy.
    this.#block = JSON.parse(JSON.stringify({ ...values, ...Object.fromEntries(this.#reserved) }))
    this.#first = Object.keys(this.#block)[0] ?? ''
  }
}

const plugin: FastifyPluginAsync = async (app) => {
  const standing = new StandingHeaders()
  app.decorate('standingHeaders', standing)
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
