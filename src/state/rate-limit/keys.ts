// What a limit counts by.
import type { RateLimitOptions as RouteOptions } from '@fastify/rate-limit'
import type { FastifyRequest } from 'fastify'
import { clientKey } from '../../instance/client-key.ts'
import { principal } from '../principal.ts'

/** `config.rateLimit` of a route: a limit per user, or per client if no user is logged in. */
export function perUser(max: number, timeWindow = 60_000): RouteOptions {
  return { max, timeWindow, hook: 'preHandler', keyGenerator: byUser }
}

/** A `keyGenerator` per user. It needs `hook: 'preHandler'`, which runs after authentication. */
export function byUser(request: FastifyRequest): string {
  const user = principal(request)
  return user === undefined ? `ip ${clientOf(request)}` : `user ${user}`
}

/** Where the plugin keeps its option `ipv6Subnet`. */
export const subnetOf = Symbol('fleet.rateLimit.ipv6Subnet')

/** The client's key, with the option `ipv6Subnet` applied. */
export const clientOf = (request: FastifyRequest): string =>
  clientKey(request, (request.server as { [subnetOf]?: number } | undefined)?.[subnetOf])

/** `config.rateLimit` of routes that check passwords: one limit per client for all of them, 10 per minute by default. */
export function authentication(max = 10, timeWindow = 60_000): RouteOptions {
  return { max, timeWindow, groupId: 'authentication' }
}
