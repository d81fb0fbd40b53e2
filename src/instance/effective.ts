import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { maxHops, proxiesOf, type TrustProxy } from '../base/client-address.ts'
import { readEnv } from '../base/env.ts'
import { ipOf, trustProxyOf } from '../base/internals/fastify.ts'

/** What an app runs with, whatever its files say. `undefined`: its server has no such setting, or it does not use fleet. */
export interface EffectiveConfiguration {
  readonly versions: { readonly node: string; readonly fastify: string; readonly fleet?: string }
  /** Whether `NODE_ENV` is `production`. */
  readonly production: boolean
  /** Of the listener, ms; 0: no limit. */
  readonly keepAliveTimeoutMs?: number
  readonly requestTimeoutMs?: number
  readonly headersTimeoutMs?: number
  /** Bytes. */
  readonly bodyLimit?: number
  /** The proxies that may name the client: none, some, or every address. */
  readonly trustProxy: 'none' | 'some' | 'all'
  readonly drainDelayMs?: number
  readonly shutdownTimeoutMs?: number
}

/** The effective configuration of an app whose plugins are loaded. It contains no secrets. */
export function effectiveConfiguration(app: FastifyInstance): EffectiveConfiguration {
  const fleet = app.hasDecorator('fleet') ? app.fleet : undefined
  const { lifecycle, identity } = (fleet?.configuration ?? {}) as {
    lifecycle?: { drainDelayMs: number; shutdownTimeoutMs: number }
    identity?: { trustProxy?: TrustProxy }
  }
  // HTTP/2 servers lack these settings.
  const server = app.server as Partial<Record<'keepAliveTimeout' | 'requestTimeout' | 'headersTimeout', number>>
  return {
    versions: { node: process.versions.node, fastify: app.version, ...(fleet && { fleet: ownVersion() }) },
    production: readEnv().production,
    keepAliveTimeoutMs: server.keepAliveTimeout,
    requestTimeoutMs: server.requestTimeout,
    headersTimeoutMs: server.headersTimeout,
    bodyLimit: app.initialConfig.bodyLimit,
    trustProxy: trusted(app, identity?.trustProxy),
    drainDelayMs: lifecycle?.drainDelayMs,
    shutdownTimeoutMs: lifecycle?.shutdownTimeoutMs,
  }
}

/** The wider of what fleet and Fastify itself trust. */
function trusted(app: FastifyInstance, own: TrustProxy | undefined): EffectiveConfiguration['trustProxy'] {
  const { all, none } = proxiesOf(own ?? false, 'identity.trustProxy')
  const option = trustProxyOf(app)
  if (all || (option && trustsEveryone(app))) return 'all'
  return none && !option ? 'none' : 'some'
}

/** Whether Fastify follows more proxies than any deployment has, all of them with addresses of the internet. */
function trustsEveryone(app: FastifyInstance): boolean {
  const proxies = Array.from({ length: maxHops + 1 }, (_, i) => `203.0.113.${i + 1}`)
  return ipOf(app, '192.0.2.1', ['198.51.100.1', ...proxies].join(', ')) === '198.51.100.1'
}

const ownVersion = (): string =>
  (JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version
