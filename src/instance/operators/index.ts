// Decides which requests come from operators.
//
// - `Operators` below classifies a request by its credential: bearer token, sign-in cookie or, in development, address.
// - sign-in.ts exchanges the token or a one-time link for a cookie; tickets.ts signs both.
// - listener.ts serves operators and probes on a port of their own.
//
// base/operator-access.ts has the checks that the built-in proxy shares.

import type { FastifyInstance, FastifyPluginAsync, FastifyRequest, onRequestHookHandler } from 'fastify'
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
import {
  bool,
  either,
  int,
  list,
  type OptionsOf,
  object,
  oneOf,
  type Resolved,
  resolveOptions,
  text,
} from '../../base/options.ts'
import { readRouteConfig } from '../../base/route-config.ts'
import { clientAddress } from '../client-key.ts'
import { fleetPlugin } from '../compat/index.ts'
import { listenOptions, ManagementListener } from './listener.ts'
import { SignIn } from './sign-in.ts'
import { Tickets } from './tickets.ts'

export type { ListenOptions } from './listener.ts'

/** @internal */
export const operatorsOptions = {
  /**
   * Secret of at least 32 bytes that operators send as a bearer token or sign in with. Without it, addresses decide in
   * development, and production has no operators.
   */
  token: text.env('FLEET_ADMIN_TOKEN'),
  /** Without a token and outside production, accept direct connections from loopback. */
  loopback: bool.default(true),
  /**
   * Addresses or CIDR blocks. Without a token and outside production, their direct connections are accepted. With a token,
   * the dashboard's sign-in is offered only to them and to loopback; the token is still required. An empty list with a token
   * offers the sign-in to every client.
   */
  allow: list(text).default([]),
  /** Host names that clients in `allow` may use, besides addresses and `localhost`. */
  hosts: list(text).default([]),
  /** Lifetime of a sign-in to the dashboard. */
  sessionMs: int(60_000, 604_800_000, 'milliseconds').default(28_800_000),
  /**
   * Separate listener for probes, metrics, operators' API and dashboard.
   *
   * @default a listener if `FLEET_ADMIN_PORT` is set, else `false`
   */
  listen: either(oneOf(false), object(listenOptions)),
}
export type OperatorsOptions = OptionsOf<typeof operatorsOptions>

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Whether a request comes from an operator. A state-changing request must also prove that no page of another site
     * sent it.
     */
    isOperator(request: FastifyRequest): boolean
    operators: Operators
  }
}

/** How an operator is authenticated: bearer token, sign-in cookie, or address of a direct connection. */
type Credential = 'token' | 'session' | 'address'
/** `unproven`: an operator's request that a page of another site could have sent. */
type Access = 'operator' | 'unproven' | 'denied'

/** `app.operators` */
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
  /** Whether an address is a credential. */
  readonly #acceptsAddresses: boolean

  constructor(
    options: Resolved<typeof operatorsOptions>,
    production: boolean,
    listener: ManagementListener | undefined,
  ) {
    const { token, loopback, allow, hosts, sessionMs } = options
    this.#token = token === undefined ? undefined : new SecretToken(token, 'FLEET_ADMIN_TOKEN (`operators.token`)')
    this.signIn = token && this.#token ? new SignIn(this.#token, new Tickets(token), sessionMs) : undefined
    this.#acceptsAddresses = token === undefined && !production
    this.#loopback = networks(loopback ? ['loopback'] : [], 'operators.loopback')
    this.#allowed = networks(allow, 'operators.allow')
    this.#offersToAll = allow.length === 0
    this.#hosts = new Set(hosts.map((host) => host.toLowerCase()))
    this.listener = listener
  }

  /** The credential of a request, regardless of the page that sent it. */
  credentialOf(request: FastifyRequest): Credential | undefined {
    if (this.#token) {
      const bearer = bearerToken(request.headers)
      if (bearer !== undefined) return this.#token.equals(bearer) ? 'token' : undefined
      return this.signIn?.verify(request) ? 'session' : undefined
    }
    return this.#acceptsAddresses && this.#hasAcceptedAddress(request) ? 'address' : undefined
  }

  accessOf(request: FastifyRequest): Access {
    const credential = this.credentialOf(request)
    if (credential === undefined) return 'denied'
    const { method, headers } = request
    // A browser adds cookies and addresses automatically, so a request of another site's page is not the operator's. A
    // followed link is harmless, because only the operator sees the response.
    const isForeign = credential !== 'token' && initiatorOf(headers) === 'cross-origin'
    if (isForeign && !isNavigation(method, headers) && (credential === 'address' || !changesState(method))) {
      return 'denied'
    }
    return !changesState(method) || isProvenChange(headers) ? 'operator' : 'unproven'
  }

  /** Whether the client of a request may use the sign-in page. */
  offersSignIn(request: FastifyRequest): boolean {
    if (this.signIn === undefined) return false
    const address = clientAddress(request)
    if (this.#offersToAll || this.#allowed.includes(address)) return true
    return this.#loopback.includes(address) && !cameThroughProxy(request.headers)
  }

  /** Whether a direct client has an accepted address and used a `Host` that DNS rebinding cannot produce. */
  #hasAcceptedAddress({ headers, socket: { remoteAddress } }: FastifyRequest): boolean {
    const host = requestedHost(headers)
    if (host === undefined || cameThroughProxy(headers)) return false
    if (isLoopbackHost(host) && this.#loopback.includes(remoteAddress)) return true
    const isSafe = isLoopbackHost(host) || isAddressHost(host) || this.#hosts.has(host)
    return isSafe && this.#allowed.includes(remoteAddress)
  }
}

const audience = oneOf('probes', 'operators')

const plugin: FastifyPluginAsync<OperatorsOptions> = async (app, given) => {
  const env = readEnv()
  const { production } = env
  const fromEnv = {
    listen:
      env.FLEET_ADMIN_PORT === undefined
        ? undefined
        : { port: env.FLEET_ADMIN_PORT, host: env.FLEET_ADMIN_HOST, publicProbes: env.FLEET_PUBLIC_PROBES },
  }
  const options = resolveOptions('operators', operatorsOptions, fromEnv, given)
  const listener = options.listen ? new ManagementListener(app, options.listen) : undefined
  const operators = new Operators(options, production, listener)
  app.decorate('operators', operators)
  app.addHook('onRoute', (route) => void readRouteConfig(route, 'audience', audience))
  app.decorate('isOperator', (request: FastifyRequest): boolean => operators.accessOf(request) === 'operator')
  if (production && options.token === undefined) {
    // Not before the app is ready: a boot that fails reports its error alone.
    app.addHook('onReady', async () =>
      app.log.warn('FLEET_ADMIN_TOKEN is not set; the operators’ endpoints are disabled in production'),
    )
  }
}

/** Authenticates operators, and optionally opens a separate listener for them. */
export const operators: FastifyPluginAsync<OperatorsOptions> = fleetPlugin('operators', plugin)
export default operators

/**
 * Returns an `onRequest` hook for routes of operators. Other clients get the 404 of an unknown path. An operator's request
 * that a page of another site could have sent gets 403.
 */
export function operatorsOnly(app: FastifyInstance): onRequestHookHandler {
  return (request, reply, done) => {
    const access = app.operators.accessOf(request)
    if (access === 'operator') done()
    else if (access === 'denied') reply.callNotFound()
    else done(unproven())
  }
}

/** The error for a state-changing request that a page of another site could have sent. */
export const unproven = (): FleetError =>
  new FleetError(
    'FLEET_ERR_ORIGIN_UNPROVEN',
    'add `content-type: application/json`; a browser must send it from a page of this server',
  )
