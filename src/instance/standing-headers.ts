import type { FastifyPluginAsync, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { beginWith } from './fastify-internals.ts'
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
  #first = ''
  #block: Readonly<Record<string, string>> = {}

  set(name: string, value: string): void {
    const key = name.toLowerCase()
    if (this.#values.get(key) === value) return
    this.#values.set(key, value)
    this.#first ||= key
    // An object that grew name by name would be a hash table, which takes ten times as long to copy.
    this.#block = JSON.parse(JSON.stringify(Object.fromEntries(this.#values)))
  }

  begin(reply: FastifyReply): void {
    beginWith(reply, this.#block)
  }

  /** Whether the reply has what it should begin with; one that was sent by a hook before this plugin's has not. */
  begun(reply: FastifyReply): boolean {
    return this.#first === '' || reply.hasHeader(this.#first)
  }

  /** Gives those that the reply still has to a response that goes on without it: a stream, a WebSocket. */
  handOver(reply: FastifyReply): void {
    const { raw } = reply
    if (raw.headersSent) return
    for (const name of this.#values.keys()) {
      const value = reply.getHeader(name)
      if (value !== undefined && !raw.hasHeader(name)) raw.setHeader(name, value)
    }
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
