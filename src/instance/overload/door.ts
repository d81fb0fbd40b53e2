import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { FastifyContextConfig, FastifyInstance } from 'fastify'
import { keyOf } from '../../base/internals/fastify.ts'
import type { Gate } from './gate.ts'

/** What is known of a request that Fastify never saw. */
export interface Refused {
  readonly method: string
  readonly routeOptions: { readonly url: string; readonly config: FastifyContextConfig }
}

type Listener = (this: Server, request: IncomingMessage, response: ServerResponse) => void

const pathOf = (url: string): string => {
  const query = url.indexOf('?')
  return query === -1 ? url : url.slice(0, query)
}

/**
 * Refuses requests before Fastify has made anything of them: a refusal then costs little more than the smallest answer of
 * node:http, and a fifth to two fifths less than by a hook (`bench/profiles/overload.md`). It refuses those whose path is,
 * to the letter, that of a route of which a request was refused by Fastify's way already; all others, parameters in the
 * path among them, go that way.
 */
export class Door {
  readonly #gate: Gate
  readonly #refuse: (response: ServerResponse, refused: Refused, ms: number) => void
  readonly #known = new Map<string, Refused>()
  /** Whether a path leads to one route only. */
  #plain = false
  readonly #servers = new WeakSet<Server>()
  /** The request that Fastify is being given, and whether it has been let in. */
  #request: IncomingMessage | undefined
  #passed = false

  constructor(gate: Gate, refuse: (response: ServerResponse, refused: Refused, ms: number) => void) {
    this.#gate = gate
    this.#refuse = refuse
  }

  /**
   * Puts itself before the only listener for requests: with several, or none, somebody else decides who answers. A second
   * call for the same server is ignored.
   */
  stand(server: Server): void {
    const [listener, ...others] = server.listeners('request') as Listener[]
    if (!listener || others.length > 0 || this.#servers.has(server)) return
    this.#servers.add(server)
    server.off('request', listener)
    server.on('request', (request, response) => {
      if (this.#gate.enter()) {
        this.#give(request, true)
        listener.call(server, request, response)
        return
      }
      const route = this.#known.get(`${request.method} ${pathOf(request.url ?? '')}`)
      if (route === undefined) {
        this.#give(request, false)
        listener.call(server, request, response)
        return
      }
      const since = performance.now()
      const pass = (): void => {
        this.#give(request, true)
        listener.call(server, request, response)
      }
      this.#gate.decide(pass, () => this.#refuse(response, route, performance.now() - since))
    })
  }

  /** Whether a request that has got to its route may go on without further ado. To be asked once for each. */
  admits(request: IncomingMessage): boolean {
    if (request !== this.#request) return this.#gate.enter()
    this.#request = undefined
    return this.#passed
  }

  /** To be called when all routes are there. */
  look(app: FastifyInstance): void {
    // Behind a path that is chosen by host, version or anything else, too, there may be one that is critical. Fastify says
    // so in words only: `(GET) {"host":"…"}`.
    this.#plain = !/\) \{/.test(app.printRoutes())
  }

  #give(request: IncomingMessage, passed: boolean): void {
    this.#request = request
    this.#passed = passed
  }

  /** Requests of this one's route may be refused. */
  learn(request: IncomingMessage & { originalUrl?: string }, config: FastifyContextConfig & { url?: string }): void {
    const { method = '', url: path = '', originalUrl } = request
    const { url } = config
    // A path that was rewritten may stand for any route.
    if (url === undefined || url !== pathOf(path) || originalUrl !== undefined || !this.#plain) return
    this.#known.set(`${method} ${url}`, { method, routeOptions: { url, config } })
  }
}

/** The servers that Fastify has made itself, as far as they are there yet. */
export function ownServers(app: FastifyInstance): Server[] {
  const at = (name: string): unknown => {
    const key = keyOf(app, name)
    return key && (app as unknown as Record<symbol, unknown>)[key]
  }
  const options = at('fastify.options') as { serverFactory?: unknown } | undefined
  // One that was made elsewhere may have more to do than what this app answers.
  if (options === undefined || options.serverFactory) return []
  return [app.server as Server, ...((at('fastify.serverBindings') as Server[] | undefined) ?? [])]
}
