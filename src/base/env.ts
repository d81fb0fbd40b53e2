import { maxHops, type TrustProxy } from './client-address.ts'
import { FleetError } from './errors.ts'
import { isNetwork } from './networks.ts'
import { hostUrls } from './postgres-url.ts'

type Variables = Readonly<Record<string, string | undefined>>

/** Typed and validated environment variables; `undefined` if not set or empty. */
export type FleetEnv = Readonly<Partial<ReturnType<typeof parse>>> & { readonly production: boolean }

/**
 * Reads the environment. No other file of this project does.
 *
 * @param source default `process.env`
 * @throws FLEET_ERR_ENV_INVALID naming the variable and the accepted values
 */
export const readEnv = (source: Variables = process.env): FleetEnv => Object.freeze(parse(source))

function parse(source: Variables) {
  const read = <T>(name: string, parse: (value: string) => T | undefined, expects: string): T | undefined => {
    const value = source[name]?.trim()
    if (value === undefined || value === '') return undefined
    const parsed = parse(value)
    if (parsed !== undefined) return parsed
    throw new FleetError('FLEET_ERR_ENV_INVALID', `${name} must be ${expects}; change it or unset it`)
  }
  const text = (name: string): string | undefined => read(name, (v) => v, 'text')
  const token = (name: string): string | undefined =>
    read(name, (v) => (/^[\w.:@-]{1,128}$/.test(v) ? v : undefined), 'up to 128 letters, digits or . _ : @ -')
  const int = (name: string, min: number, max: number, unit: string): number | undefined =>
    read(
      name,
      (v) => (/^-?\d+$/.test(v) && Number(v) >= min && Number(v) <= max ? Number(v) : undefined),
      `a whole number from ${min} to ${max} (${unit})`,
    )
  const flag = (name: string): boolean | undefined =>
    read(name, (v) => flags.get(v.toLowerCase()), '1, true, on, 0, false or off')
  const list = (name: string): readonly string[] | undefined =>
    read(
      name,
      (v) => {
        const entries = v.split(',').map((entry) => entry.trim())
        return entries.every((entry) => entry !== '') ? entries : undefined
      },
      'a comma-separated list without empty entries',
    )
  const url = (name: string, ...schemes: string[]): string | undefined =>
    read(name, (v) => (isUrl(v, schemes) ? v : undefined), `a URL that starts with ${schemes.join(' or ')}`)

  const replicas = replicaUrls(source, list('DATABASE_REPLICA_URLS') ?? [])
  return {
    production: source.NODE_ENV === 'production',
    PORT: int('PORT', 0, 65535, 'a TCP port'),
    HOST: text('HOST'),
    INSTANCE_ID: token('INSTANCE_ID'),
    FLEET_NAME: token('FLEET_NAME'),
    FLEET_COLOR: token('FLEET_COLOR'),
    FLEET_VERSION: token('FLEET_VERSION'),
    FLEET_REGION: token('FLEET_REGION'),
    FLEET_ZONE: token('FLEET_ZONE'),
    FLEET_WEIGHT: int('FLEET_WEIGHT', 0, 1000, 'share of traffic relative to other instances'),
    FLEET_ADMIN_TOKEN: text('FLEET_ADMIN_TOKEN'),
    /** Port of the management listener for probes, metrics, operators' API and dashboard. */
    FLEET_ADMIN_PORT: int('FLEET_ADMIN_PORT', 0, 65535, 'a TCP port'),
    FLEET_ADMIN_HOST: text('FLEET_ADMIN_HOST'),
    /** Serve probes on the application's port as well, if there is a management listener. */
    FLEET_PUBLIC_PROBES: flag('FLEET_PUBLIC_PROBES'),
    FLEET_ALLOW_MEMORY: flag('FLEET_ALLOW_MEMORY'),
    FLEET_AGENT_PORT: int('FLEET_AGENT_PORT', 0, 65535, 'a TCP port'),
    FLEET_PORT: int('FLEET_PORT', 0, 65535, 'the TCP port of the load balancer'),
    FLEET_BASE_PORT: int('FLEET_BASE_PORT', 1, 65535, 'the TCP port of the first instance'),
    REDIS_URL: url('REDIS_URL', 'redis:', 'rediss:'),
    REDIS_HOST: text('REDIS_HOST'),
    REDIS_PORT: int('REDIS_PORT', 1, 65535, 'a TCP port'),
    REDIS_PASSWORD: text('REDIS_PASSWORD'),
    REDIS_TLS: flag('REDIS_TLS'),
    REDIS_COMMAND_TIMEOUT: int('REDIS_COMMAND_TIMEOUT', 1, 60_000, 'milliseconds'),
    /** `name@host:port,host:port`; the part before `@` is the primary's name, by default `mymaster`. */
    REDIS_SENTINELS: text('REDIS_SENTINELS'),
    REDIS_CLUSTER: list('REDIS_CLUSTER'),
    FLEET_SECRET: list('FLEET_SECRET'),
    SESSION_SECRET: list('SESSION_SECRET'),
    SESSION_TTL: int('SESSION_TTL', 1, 31_536_000, 'seconds'),
    SESSION_COOKIE_NAME: read(
      'SESSION_COOKIE_NAME',
      (v) => (/^[\w!#$%&'*+.^`|~-]+$/.test(v) ? v : undefined),
      "a cookie name (RFC 6265: letters, digits and !#$%&'*+-.^_`|~)",
    ),
    SESSION_COOKIE_SECURE:
      source.SESSION_COOKIE_SECURE?.trim() === 'auto' ? ('auto' as const) : flag('SESSION_COOKIE_SECURE'),
    JWT_SECRET: text('JWT_SECRET'),
    /** JSON: `[{"kid":"2026-11","secret":"…"}]`; the first key signs, all verify. */
    JWT_KEYS: text('JWT_KEYS'),
    DATABASE_URL: read(
      'DATABASE_URL',
      (v) => (hostUrls(v).every((each) => isUrl(each, ['postgres:', 'postgresql:'])) ? v : undefined),
      'a URL that starts with postgres: or postgresql:',
    ),
    DATABASE_REPLICA_URLS: replicas.length > 0 ? replicas : undefined,
    SHUTDOWN_TIMEOUT: int('SHUTDOWN_TIMEOUT', 1, 3_600_000, 'milliseconds'),
    DRAIN_DELAY: int('DRAIN_DELAY', 0, 600_000, 'milliseconds'),
    TRUST_PROXY: read(
      'TRUST_PROXY',
      trustProxy,
      `true, false, a number of proxies from 0 to ${maxHops}, or a comma-separated list of addresses, CIDR blocks, loopback, linklocal, uniquelocal`,
    ),
    /** Number of the worker, from 1; set by `fleet start`. */
    FLEET_WORKER: int('FLEET_WORKER', 1, 1_024, 'a worker’s number; `fleet start` sets it'),
    /**
     * Listen only when the critical checks pass, and exit if that takes longer, in milliseconds. For a process that takes
     * over a port: set by `fleet start`, and for pm2 in `ecosystem.config.cjs`.
     */
    FLEET_READY_TIMEOUT: int('FLEET_READY_TIMEOUT', 1, 7_200_000, 'milliseconds'),
    /** Set by systemd: the notification socket, and the watchdog interval in microseconds. */
    NOTIFY_SOCKET: text('NOTIFY_SOCKET'),
    WATCHDOG_USEC: int('WATCHDOG_USEC', 1, Number.MAX_SAFE_INTEGER, 'microseconds; systemd sets it'),
    LOG_LEVEL: read(
      'LOG_LEVEL',
      (v) => (['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].includes(v) ? v : undefined),
      'one of fatal, error, warn, info, debug, trace, silent',
    ),
  }
}

function trustProxy(value: string): TrustProxy | undefined {
  if (/^(?:true|false)$/i.test(value)) return value.toLowerCase() === 'true'
  if (/^\d{1,3}$/.test(value)) return Number(value) <= maxHops ? Number(value) : undefined
  const entries = value.split(',').map((entry) => entry.trim())
  return entries.every(isNetwork) ? entries : undefined
}

const flags: ReadonlyMap<string, boolean> = new Map([
  ['1', true],
  ['true', true],
  ['on', true],
  ['0', false],
  ['false', false],
  ['off', false],
])

const isUrl = (value: string, schemes: readonly string[]): boolean => {
  const parsed = URL.parse(value)
  return parsed !== null && schemes.includes(parsed.protocol)
}

/** `DATABASE_REPLICA_URLS`, then `DATABASE_URL_REPLICA_1`, `_2`, …. */
function replicaUrls(source: Variables, listed: readonly string[]): readonly string[] {
  const numbered = Object.keys(source)
    .map((name) => /^DATABASE_URL_REPLICA_(\d+)$/.exec(name))
    .filter((match) => match !== null && source[match[0]])
    .sort((a, b) => Number(a?.[1]) - Number(b?.[1]))
    .map((match) => source[match?.[0] ?? ''] ?? '')
  const urls = [...listed, ...numbered]
  if (urls.every((url) => isUrl(url, ['postgres:', 'postgresql:']))) return urls
  throw new FleetError(
    'FLEET_ERR_ENV_INVALID',
    'DATABASE_REPLICA_URLS and DATABASE_URL_REPLICA_n must be URLs that start with postgres: or postgresql:',
  )
}

/** The environment of a child process: this process's with `added`; `undefined` removes a variable. */
export function childEnv(added: Variables = {}): Record<string, string | undefined> {
  return { ...process.env, ...added }
}
