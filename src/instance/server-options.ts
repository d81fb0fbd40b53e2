import type { ServerOptions } from 'node:http'
import type { FastifyServerOptions } from 'fastify'
import { proxiesOf } from '../base/client-address.ts'
import { readEnv } from '../base/env.ts'

/**
 * Options of Fastify's constructor that a plugin cannot set: `Fastify({ ...serverOptions(), logger: true })`. They are
 * optional. With them, `request.ip` and `request.protocol` are those of the client behind the load balancer.
 *
 * - `trustProxy`: the proxies in `TRUST_PROXY`; none if it is not set
 * - `requestTimeout`: 300 s, Node's default, which Fastify disables; it stops slow-request attacks
 * - `keepAliveTimeout`: 72 s, longer than the idle timeout of load balancers, so that none sends on a closing connection
 * - `pluginTimeout`: 60 s instead of 10 s, because a plugin that waits for Redis or a database takes long on a busy machine
 * - `http`: slow clients are checked every 5 s instead of Node's 30 s; for TLS, set `connectionsCheckingInterval` in `https`
 * - `logger`: with `LOG_LEVEL`, else Fastify's default
 */
export function serverOptions(): Pick<
  FastifyServerOptions,
  'trustProxy' | 'requestTimeout' | 'keepAliveTimeout' | 'pluginTimeout' | 'logger'
> & { http: ServerOptions } {
  const { TRUST_PROXY, LOG_LEVEL } = readEnv()
  const proxies = proxiesOf(TRUST_PROXY ?? false, 'TRUST_PROXY')
  return {
    trustProxy: proxies.none ? false : proxies.all || ((address, hop) => proxies.trusts(address ?? '', hop)),
    requestTimeout: 300_000,
    keepAliveTimeout: 72_000,
    pluginTimeout: 60_000,
    http: { connectionsCheckingInterval: 5_000 },
    logger: { level: LOG_LEVEL ?? 'info' },
  }
}
