import { maxHops, type TrustProxy } from './client-address.ts'
import { FleetError } from './errors.ts'
import { isNetwork } from './networks.ts'
import { isPoolName, poolNameText } from './pool-name.ts'
import { postgresSettings } from './postgres-url.ts'
import { clusterNodes, isHost, type Reject, redisUrl, sentinels } from './redis-url.ts'
import { isSecretVariable, maxSecretBytes, readSecretFile } from './secret-files.ts'

type Variables = Readonly<Record<string, string | undefined>>

/** Typed and validated environment variables; `undefined` if not set or empty. */
export type FleetEnv = Readonly<Partial<ReturnType<typeof parse>>> & { readonly production: boolean }

/**
 * Reads the environment. No other file of this project does. The URLs of databases and Redis, which other programs may use
 * as well, are validated on access.
 *
 * @param source default `process.env`
 * @throws FLEET_ERR_ENV_INVALID naming the variable and the accepted values
 */
export const readEnv = (source: Variables = process.env): FleetEnv => Object.freeze(parse(source))

const invalid = (problem: string): never => {
  throw new FleetError('FLEET_ERR_ENV_INVALID', problem)
}

/**
 * The contents of the files that variables such as `REDIS_URL_FILE` name, by the name without `_FILE`. Messages contain
 * neither a content nor a path: a secret given as the path would be shown.
 */
function filesOf(source: Variables): ReadonlyMap<string, string> {
  const contents = new Map<string, string>()
  // Only their names: the value of each variable of `process.env` that is read is copied from the system.
  for (const variable of Object.keys(source)) {
    const name = variable.endsWith('_FILE') ? variable.slice(0, -'_FILE'.length) : ''
    if (!isSecretVariable(name)) continue
    const path = source[variable]
    if (!path?.trim()) continue
    if (source[name]?.trim()) invalid(`${name} and ${variable} are both set; unset one of them`)
    const content = readSecretFile(path.trim())
    if (content === undefined)
      invalid(
        `${variable} must be the path of a readable text file that is not empty and has at most ${maxSecretBytes} bytes`,
      )
    else contents.set(name, content)
  }
  return contents
}

function parse(given: Variables) {
  const files = filesOf(given)
  const source: Variables = files.size === 0 ? given : { ...given, ...Object.fromEntries(files) }
  const read = <T>(
    name: string,
    parse: (value: string, reject: Reject) => T | undefined,
    expects: string,
  ): T | undefined => {
    // Spaces are part of a file's secret.
    const value = files.get(name) ?? source[name]?.trim()
    if (value === undefined || value === '') return undefined
    const label = files.has(name) ? `the content of ${name}_FILE` : name
    const reject: Reject = (problem) => invalid(`${label} ${problem}; change it or unset it`)
    return parse(value, reject) ?? reject(`must be ${expects}`)
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
  const list = (
    name: string,
    check?: (entries: readonly string[], reject: Reject) => unknown,
  ): readonly string[] | undefined =>
    read(
      name,
      (v, reject) => {
        const entries = v.split(',').map((entry) => entry.trim())
        if (entries.includes('')) return undefined
        check?.(entries, reject)
        return entries
      },
      'a comma-separated list without empty entries',
    )
  const checked = (name: string, check: (value: string, reject: Reject) => unknown): string | undefined =>
    read(
      name,
      (v, reject) => {
        const value = v.trim()
        check(value, reject)
        return value
      },
      'text',
    )
  return {
    production: source.NODE_ENV === 'production',
    PORT: int('PORT', 0, 65535, 'a TCP port'),
    HOST: text('HOST'),
    INSTANCE_ID: token('INSTANCE_ID'),
    FLEET_NAME: token('FLEET_NAME'),
    FLEET_COLOR: token('FLEET_COLOR'),
    FLEET_POOL: read('FLEET_POOL', (v) => (isPoolName(v) ? v : undefined), poolNameText),
    /** Routes of `fleet balance`, e.g. `/api/v2=v2`. */
    FLEET_ROUTES: text('FLEET_ROUTES'),
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
    get REDIS_URL() {
      return checked('REDIS_URL', redisUrl)
    },
    REDIS_HOST: read('REDIS_HOST', (v) => (isHost(v) ? v : undefined), 'the name or address of a host, without a port'),
    REDIS_PORT: int('REDIS_PORT', 1, 65535, 'a TCP port'),
    REDIS_PASSWORD: text('REDIS_PASSWORD'),
    REDIS_TLS: flag('REDIS_TLS'),
    REDIS_COMMAND_TIMEOUT: int('REDIS_COMMAND_TIMEOUT', 1, 60_000, 'milliseconds'),
    /** `name@host:port,host:port`; the part before `@` is the primary's name, by default `mymaster`. */
    REDIS_SENTINELS: checked('REDIS_SENTINELS', sentinels),
    REDIS_CLUSTER: list('REDIS_CLUSTER', clusterNodes),
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
    get DATABASE_URL() {
      const url = checked('DATABASE_URL', postgresSettings)
      // A common name of the primary. An app that sets it would otherwise run without its database.
      return url ?? checked('DATABASE_URL_MASTER', (_, reject) => reject('is not read; name the primary DATABASE_URL'))
    },
    get DATABASE_REPLICA_URLS() {
      const listed = list('DATABASE_REPLICA_URLS', (urls, reject) => {
        for (const url of urls) postgresSettings(url, (problem) => reject(`has an entry that ${problem}`))
      })
      const numbered = numberedReplicas(source).map((name) => checked(name, postgresSettings))
      const urls = [...(listed ?? []), ...numbered.filter((url) => url !== undefined)]
      return urls.length > 0 ? urls : undefined
    },
    SHUTDOWN_TIMEOUT: int('SHUTDOWN_TIMEOUT', 1, 3_600_000, 'milliseconds'),
    DRAIN_DELAY: int('DRAIN_DELAY', 0, 600_000, 'milliseconds'),
    TRUST_PROXY: read(
      'TRUST_PROXY',
      trustProxy,
      `true, false, a number of proxies from 0 to ${maxHops}, or a comma-separated list of addresses, CIDR blocks, loopback, linklocal, uniquelocal`,
    ),
    /** Number of the worker, from 1; set by `fleet start`. */
    FLEET_WORKER: int('FLEET_WORKER', 1, 1_024, 'a worker’s number; `fleet start` sets it'),
    /** Number of processes that share a port, as far as it is known: set by `fleet start`, and by pm2 as `instances`. */
    FLEET_WORKERS: int('FLEET_WORKERS', 1, 1_024, 'processes') ?? pm2Instances(source),
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

/** pm2 sets `instances` in the environment of each process. */
function pm2Instances({ pm_id: id, instances }: Variables): number | undefined {
  return id !== undefined && Number(instances) > 1 ? Number(instances) : undefined
}

/** The names `DATABASE_URL_REPLICA_1`, `_2`, …, in order. */
const numberedReplicas = (source: Variables): string[] =>
  Object.keys(source)
    .map((name) => ({ name, number: /^DATABASE_URL_REPLICA_(\d+)$/.exec(name)?.[1] }))
    .filter(({ number }) => number !== undefined)
    .sort((a, b) => Number(a.number) - Number(b.number))
    .map(({ name }) => name)

/** Options of Node and V8 that this process was started with; a later one overrides an earlier one. */
export const nodeOptions = (): string => [process.env.NODE_OPTIONS ?? '', ...process.execArgv].join(' ')

/**
 * The environment of a child process: this process's with `added`; `undefined` removes a variable. A secret in `added`
 * replaces one that this process got as a file.
 */
export function childEnv(added: Variables = {}): Record<string, string | undefined> {
  const replaced = Object.keys(added).filter((name) => isSecretVariable(name) && added[name] !== undefined)
  const files = Object.fromEntries(replaced.map((name) => [`${name}_FILE`, undefined]))
  return { ...process.env, ...files, ...added }
}
