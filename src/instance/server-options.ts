import type { ServerOptions } from 'node:http'
import type { FastifyServerOptions } from 'fastify'
import { proxiesOf } from '../base/client-address.ts'
import { readEnv } from '../base/env.ts'

/**
 * Options of Fastify's constructor that a plugin cannot set: `Fastify({ ...serverOptions(), logger: true })`. The fleet
 * works without them; with them `request.ip` and `request.protocol` are those of the client behind the front.
 *
 * - `trustProxy`: the proxies that `TRUST_PROXY` trusts; none if it is not set
 * - `requestTimeout`: 300 s, Node's own default, which Fastify switches off; it ends slow-request attacks
 * - `keepAliveTimeout`: 72 s, longer than any front keeps an idle connection, so that no front writes into a closing one
 * - `http`: slow clients are looked for every 5 s instead of Node's 30 s; over TLS, give `connectionsCheckingInterval` in `https`
 * - `logger`: with `LOG_LEVEL`, else Fastify's default
 */
export function serverOptions(): Pick<
  FastifyServerOptions,
  'trustProxy' | 'requestTimeout' | 'keepAliveTimeout' | 'logger'
> & { http: ServerOptions } {
  const { TRUST_PROXY, LOG_LEVEL } = readEnv()
  const proxies = proxiesOf(TRUST_PROXY ?? false, 'TRUST_PROXY')
  return {
    trustProxy: proxies.none ? false : proxies.all || ((address, hop) => proxies.trusts(address ?? '', hop)),
    requestTimeout: 300_000,
    keepAliveTimeout: 72_000,
    http: { connectionsCheckingInterval: 5_000 },
    logger: { level: LOG_LEVEL ?? 'info' },
  }
}
