import type { FastifyInstance, FastifyPluginAsync, FastifyRequest, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { type Networks, networks } from '../../base/networks.ts'
import {
  bearerToken,
  cameThroughProxy,
  changesState,
  initiatorOf,
  isAddressHost,
  isLoopbackHost,
  isNavigation,
  isProvenChange,
  requestedHost,
  SecretToken,
} from '../../base/operator-access.ts'
import { bool, either, int, list, object, oneOf, resolveOptions, type Shapes, text } from '../../base/options.ts'
import { clientAddress } from '../client-key.ts'
import { type ListenOptions, ManagementListener } from './listener.ts'
import { SignIn } from './sign-in.ts'
import { Tickets } from './tickets.ts'

export type { ListenOptions } from './listener.ts'

export interface OperatorsOptions {
  /**
   * Secret of at least 32 bytes that operators show as a bearer token, or sign in with.
   *
   * @default FLEET_ADMIN_TOKEN, else none: only addresses decide, and in production nobody is an operator
   */
  token?: string
  /** Without a token and outside production: direct connections from loopback are operators. @default true */
  loopback?: boolean
  /**
   * Addresses or CIDR blocks. Without a token and outside production: their direct connections are operators. With a
   * token: only they, and loopback, are offered the dashboard's sign-in; they must show the token like everyone.
   *
   * @default []: nobody more; with a token, everyone is offered the sign-in
   */
  allow?: string[]
  /** Host names by which `allow` reaches this instance; addresses and `localhost` always count. @default [] */
  hosts?: string[]
  /** How long a sign-in to the dashboard lasts, 60,000 to 604,800,000 ms. @default 28800000 (8 hours) */
  sessionMs?: number
  /** A listener of their own for probes, metrics, operators' API and dashboard. @default FLEET_ADMIN_PORT, else false */
  listen?: ListenOptions | false
}

const shapes: Shapes = {
  token: text,
  loopback: bool,
  allow: list(text),
  hosts: list(text),
  sessionMs: int(60_000, 604_800_000, 'milliseconds'),
  listen: either(oneOf(false), object({ port: int(0, 65_535, 'a TCP port'), host: text, publicProbes: bool })),
}
const defaults = {
  loopback: true,
  allow: [] as string[],
  hosts: [] as string[],
  sessionMs: 28_800_000,
} satisfies OperatorsOptions
type Resolved = OperatorsOptions & typeof defaults

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Whether a request comes from an operator, and, where its method changes something, whether no page of another site
     * can have sent it.
     */
    isOperator(request: FastifyRequest): boolean
    operators: Operators
  }
}

/** What authenticated an operator: the bearer token, the cookie of a sign-in, or the address of a direct connection. */
type Credential = 'token' | 'session' | 'address'
type Verdict = 'operator' | 'unproven' | 'stranger'

/** Decides who is an operator. `app.operators` */
export class Operators {
  /** Undefined without a token. */
  readonly signIn: SignIn | undefined
  /** Undefined without the option `listen`. */
  readonly listener: ManagementListener | undefined
  readonly #token: SecretToken | undefined
  readonly #loopback: Networks
  readonly #allowed: Networks
  readonly #hosts: ReadonlySet<string>
  readonly #offersToAll: boolean
  /** Whether an address can be enough. */
  readonly #addressCounts: boolean

  constructor(options: Resolved, production: boolean, listener: ManagementListener | undefined) {
    const { token, loopback, allow, hosts, sessionMs } = options
    this.#token = token === undefined ? undefined : new SecretToken(token, 'FLEET_ADMIN_TOKEN (`operators.token`)')
    this.signIn = token && this.#token ? new SignIn(this.#token, new Tickets(token), sessionMs) : undefined
    this.#addressCounts = token === undefined && !production
    this.#loopback = networks(loopback ? ['loopback'] : [], 'operators.loopback')
    this.#allowed = networks(allow, 'operators.allow')
    this.#offersToAll = allow.length === 0
    this.#hosts = new Set(hosts.map((host) => host.toLowerCase()))
    this.listener = listener
  }

  /** What makes a request an operator's; it says nothing about where the request was made. */
  credentialOf(request: FastifyRequest): Credential | undefined {
    if (this.#token) {
      const bearer = bearerToken(request.headers)
      if (bearer !== undefined) return this.#token.equals(bearer) ? 'token' : undefined
      return this.signIn?.verify(request) ? 'session' : undefined
    }
    return this.#addressCounts && this.#isNear(request) ? 'address' : undefined
  }

  judge(request: FastifyRequest): Verdict {
    const credential = this.credentialOf(request)
    if (credential === undefined) return 'stranger'
    const { method, headers } = request
    // A browser adds a cookie or an address without being asked: what a page of another site requests with them is not
    // the operator's. A link that was followed only shows the response to the operator.
    const isForeign = credential !== 'token' && initiatorOf(headers) === 'cross-origin'
    if (isForeign && !isNavigation(method, headers) && (credential === 'address' || !changesState(method))) {
      return 'stranger'
    }
    return !changesState(method) || isProvenChange(headers) ? 'operator' : 'unproven'
  }

  /** Whether the sign-in page may be shown to, and used by, the client of a request. */
  offersSignIn(request: FastifyRequest): boolean {
    if (this.signIn === undefined) return false
    const address = clientAddress(request)
    if (this.#offersToAll || this.#allowed.includes(address)) return true
    return this.#loopback.includes(address) && !cameThroughProxy(request.headers)
  }

  /** Whether the address is enough: it belongs to a direct client, and no page can have made up the name in `Host`. */
  #isNear({ headers, socket: { remoteAddress } }: FastifyRequest): boolean {
    const host = requestedHost(headers)
    if (host === undefined || cameThroughProxy(headers)) return false
    if (isLoopbackHost(host) && this.#loopback.includes(remoteAddress)) return true
    const isSafe = isLoopbackHost(host) || isAddressHost(host) || this.#hosts.has(host)
    return isSafe && this.#allowed.includes(remoteAddress)
  }
}

const plugin: FastifyPluginAsync<OperatorsOptions> = async (app, given) => {
  const { production, ...env } = readEnv()
  const fromEnv = {
    token: env.FLEET_ADMIN_TOKEN,
    listen:
      env.FLEET_ADMIN_PORT === undefined
        ? undefined
        : { port: env.FLEET_ADMIN_PORT, host: env.FLEET_ADMIN_HOST, publicProbes: env.FLEET_PUBLIC_PROBES },
  }
  const options = resolveOptions<Resolved>('operators', shapes, defaults, fromEnv, given)
  const listener = options.listen ? new ManagementListener(app, options.listen) : undefined
  const operators = new Operators(options, production, listener)
  app.decorate('operators', operators)
  app.decorate('isOperator', (request: FastifyRequest): boolean => operators.judge(request) === 'operator')
  if (production && options.token === undefined) {
    // Not before the app is ready: a boot that fails reports its error alone.
    app.addHook('onReady', async () =>
      app.log.warn('FLEET_ADMIN_TOKEN is not set: operators’ endpoints respond 404 to every request in production'),
    )
  }
}

/** Decides who is an operator, and opens a listener for operators alone where that is wanted. */
export const operators: FastifyPluginAsync<OperatorsOptions> = fp(plugin, { name: 'fleet-operators', fastify: '5.x' })
export default operators

/**
 * A hook for a route that only operators may know of: everyone else gets the 404 of a path that does not exist. An
 * operator whose request could have been sent by a page of another site is told so.
 */
export function operatorsOnly(app: FastifyInstance): onRequestHookHandler {
  return (request, reply, done) => {
    const verdict = app.operators.judge(request)
    if (verdict === 'operator') done()
    else if (verdict === 'stranger') reply.callNotFound()
    else done(unproven())
  }
}

/** What a caller gets who changes something without showing that no page of another site sent the request. */
export const unproven = (): FleetError =>
  new FleetError(
    'FLEET_ERR_ORIGIN_UNPROVEN',
    'add `content-type: application/json`; a browser must send it from a page of this server',
  )
