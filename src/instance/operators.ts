import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest, onRequestHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { readEnv } from '../base/env.ts'
import { FleetError } from '../base/errors.ts'
import { networks } from '../base/networks.ts'
import { bool, list, resolveOptions, type Shapes, text } from '../base/options.ts'

export interface OperatorsOptions {
  /** Bearer token of at least 32 bytes. @default FLEET_ADMIN_TOKEN, else none: only direct connections are let in */
  token?: string
  /** Let in direct connections from loopback, that is, without any sign of a proxy. @default true */
  loopback?: boolean
  /** Further networks whose direct connections are let in: addresses or CIDR blocks. @default [] */
  allow?: string[]
}

const shapes: Shapes = { token: text, loopback: bool, allow: list(text) }
const defaults = { loopback: true, allow: [] as string[] } satisfies OperatorsOptions

declare module 'fastify' {
  interface FastifyInstance {
    /** Whether a request comes from an operator: the bearer token, or a direct connection from an allowed network. */
    isOperator(request: FastifyRequest): boolean
  }
}

/** Headers that only a proxy adds. A front on the same machine comes from loopback too, so the address alone says nothing. */
const proxyHeaders = [
  'forwarded',
  'via',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-real-ip',
] as const

/**
 * Whether a request that changes something comes from a page of this server, or from no browser at all. A browser is
 * let in by its address, so any page its user visits could send a form here: browsers tell by `Sec-Fetch-Site` (W3C
 * Fetch Metadata), and where they do not, by `Origin`.
 */
export function sameOrigin({ method, headers }: Pick<FastifyRequest, 'method' | 'headers'>): boolean {
  if (method === 'GET' || method === 'HEAD') return true
  const site = headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin'
  return headers.origin === undefined || URL.parse(headers.origin)?.host === headers.host
}

/**
 * Whether `Host` can mean this machine alone. A stranger's domain can be made to resolve to 127.0.0.1, and a page of it
 * would then count as same-origin (DNS rebinding); an address or `localhost` cannot be claimed that way.
 */
function namesThisMachine(host: string | undefined): boolean {
  const name = URL.parse(`http://${host ?? ''}`)?.hostname.toLowerCase() ?? ''
  return (
    isIP(name.replace(/^\[|\]$/g, '')) !== 0 || /^(?:.+\.)?localhost$/.test(name) || name === hostname().toLowerCase()
  )
}

const digest = (value: string): Buffer => createHash('sha256').update(value).digest()

const plugin: FastifyPluginAsync<OperatorsOptions> = async (app, given) => {
  const options = resolveOptions<OperatorsOptions & typeof defaults>(
    'operators',
    shapes,
    defaults,
    { token: readEnv().FLEET_ADMIN_TOKEN },
    given,
  )
  if (options.token !== undefined && Buffer.byteLength(options.token) < 32) {
    throw new FleetError(
      'FLEET_ERR_SECRET_WEAK',
      'FLEET_ADMIN_TOKEN (`operators.token`) must have at least 32 bytes; make one with: openssl rand -hex 32',
    )
  }
  const loopback = networks(options.loopback ? ['loopback'] : [], 'operators.loopback')
  const allowed = networks(options.allow, 'operators.allow')
  // Comparing digests takes the same time for every guess, whatever its length.
  const expected = options.token === undefined ? undefined : digest(options.token)

  app.decorate('isOperator', (request: FastifyRequest): boolean => {
    const { authorization } = request.headers
    if (expected && authorization !== undefined && /^bearer /i.test(authorization)) {
      return timingSafeEqual(digest(authorization.slice(7).trim()), expected)
    }
    if (proxyHeaders.some((header) => request.headers[header] !== undefined) || !sameOrigin(request)) return false
    const address = request.socket.remoteAddress
    return (loopback.includes(address) && namesThisMachine(request.headers.host)) || allowed.includes(address)
  })
}

/** Decides who is an operator. */
export const operators: FastifyPluginAsync<OperatorsOptions> = fp(plugin, { name: 'fleet-operators', fastify: '5.x' })
export default operators

/**
 * A hook for a route that only operators may know of: everyone else gets the 404 of a path that does not exist.
 */
export function operatorsOnly(app: FastifyInstance): onRequestHookHandler {
  return (request, reply, done) => {
    if (app.isOperator(request)) done()
    else reply.callNotFound()
  }
}
