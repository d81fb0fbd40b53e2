import { Resolver } from 'node:dns/promises'
import { hostname } from 'node:os'
import { performance } from 'node:perf_hooks'
import { type FleetEnv, readEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { defaultPool } from '../../base/pool-name.ts'
import type { Peer } from '../../instance/identity.ts'
import { addressFrom, close, connect, type RedisAddress } from '../../state/redis/client.ts'
import { keysOf } from '../../state/redis/index.ts'
import { FleetKeys, secretMissing, secretsOf, sharedName } from '../../state/registry/fleet-keys.ts'
import { Peers } from '../../state/registry/peers.ts'
import { RedisDirectory } from '../../state/registry/redis-directory.ts'
import { type EntryRejection, SignedEntries } from '../../state/registry/signed-entries.ts'
import { throttle } from '../../state/throttle.ts'
import { guard } from '../boundary.ts'
import type { TargetOptions } from './target.ts'

/** A target that a source found. */
export interface Found extends TargetOptions {
  /** The instance is draining and receives no new work. */
  draining?: boolean
}

/**
 * A source of targets. Called once; it passes the complete list to the listener at any time and any number of times. While
 * it cannot read the list it stays silent, so that the last known list remains in use.
 *
 * @returns a function that stops it
 */
export type Source = (listener: (found: readonly Found[]) => void) => () => void

export interface DnsOptions {
  /** Between two queries, in milliseconds. @default 5000 */
  intervalMs?: number
  /** Name servers to query, each `address` or `address:port`. @default those of the system */
  servers?: readonly string[]
}

/**
 * One target per address (A and AAAA) of a name: a headless Kubernetes service, a compose service with replicas.
 *
 * @param url such as `http://app.internal:3000`
 * @throws FLEET_ERR_TARGET_INVALID
 */
export function fromDns(url: string, options: DnsOptions = {}): Source {
  const { protocol, hostname: name, port } = URL.parse(url) ?? invalid(url)
  return repeat(options, async (resolver) => {
    const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)])
    const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
    return addresses.map((address) => ({
      url: `${protocol}//${address.includes(':') ? `[${address}]` : address}${port && `:${port}`}`,
      serverName: name,
    }))
  })
}

/**
 * One target per SRV record of a name, with its port and weight; records of lower priority are backups (RFC 2782).
 *
 * @param url such as `http://_http._tcp.app.internal`
 * @throws FLEET_ERR_TARGET_INVALID
 */
export function fromSrv(url: string, options: DnsOptions = {}): Source {
  const { protocol, hostname: name } = URL.parse(url) ?? invalid(url)
  return repeat(options, async (resolver) => {
    const records = await resolver.resolveSrv(name)
    const first = Math.min(...records.map(({ priority }) => priority))
    const heaviest = Math.max(...records.map(({ weight }) => weight))
    return records.map(({ name: host, port, priority, weight }) => ({
      url: `${protocol}//${host}:${port}`,
      // SRV weights go up to 65,535, target weights up to 1000; the lightest record still gets a share.
      weight: heaviest === 0 ? 100 : Math.max(1, Math.round((weight * 1000) / heaviest)),
      backup: priority > first,
    }))
  })
}

/** Which instances a source lists, and as what. */
export interface PeerSelection {
  /** Pool of the instances. @default `default` */
  pool?: string
  /** Whether an instance is a canary, for example by its color. @default none is */
  canary?: (peer: Peer) => boolean
  /** URL of an instance. @default `http://host:port`, and 127.0.0.1 for instances on this machine */
  urlOf?: (peer: Peer) => string
}

export interface RegistryOptions extends RedisAddress, PeerSelection {
  /** Name of the fleet. @default FLEET_NAME, else `fleet` */
  name?: string
  /** Between two readings, in milliseconds. @default 500 */
  intervalMs?: number
  /** The same value as on the instances, in milliseconds. @default 6000 */
  leaseMs?: number
  /**
   * Verifies the registry's entries, like `broadcast.secret` on the instances; entries with another signature are ignored.
   * @default FLEET_SECRET, else SESSION_SECRET, else JWT_SECRET; outside production, the secret shared in Redis
   */
  secret?: string | readonly string[]
}

/**
 * The live instances of a fleet, from its registry in Redis, with the weights, regions and states that they publish. While
 * Redis is unavailable, to this process or to all instances, the last known list remains in use. Entries that the fleet did
 * not sign are ignored, with a process warning.
 *
 * @param options the address of Redis, by default from the environment
 * @throws FLEET_ERR_SECRET_MISSING in production, FLEET_ERR_SECRET_WEAK; FLEET_ERR_OPTION_INVALID without an address of Redis
 */
export function fromRegistry(options: RegistryOptions = {}): Source {
  const env = readEnv()
  const {
    name = env.FLEET_NAME ?? 'fleet',
    intervalMs = 500,
    leaseMs = 6000,
    pool,
    canary,
    urlOf,
    secret,
    ...address
  } = options
  const secrets = readerSecrets(env, secret)
  return (listener) => {
    const given = address.client ?? address.cluster ?? address.sentinels ?? address.url ?? address.host
    const login = { password: env.REDIS_PASSWORD, tls: env.REDIS_TLS }
    const defaults = given === undefined ? { ...addressFrom(env), ...login } : login
    const connection = connect({ commandTimeoutMs: 500, ...defaults, ...address })
    if (!connection) throw new FleetError('FLEET_ERR_OPTION_INVALID', 'discovery from the registry needs REDIS_URL')
    const { client } = connection
    // Failed commands already report it; without a listener the event would end the process.
    client.on('error', () => {})
    const directory = new RedisDirectory(client, keysOf(name))
    const entries = new SignedEntries(new FleetKeys(secrets.list, 'registry', name))
    const table = new Peers('', leaseMs, entries, warnOfEntry)
    const stop = every(intervalMs, async () => {
      if (secrets.isShared) {
        const shared = await client.get(keysOf(name)('secret', sharedName))
        if (shared) secrets.list.splice(0, secrets.list.length, shared)
      }
      const read = { leaseMs: Math.round(leaseMs * 0.55), claim: false, sample: [] }
      while (table.apply(await directory.beat(undefined, { ...read, from: table.position })));
      return fromPeers(table.list(reader), { pool, canary, urlOf })
    })(listener)
    return () => {
      stop()
      if (!address.client) void close(client, 500)
    }
  }
}

/** @throws FLEET_ERR_SECRET_MISSING, FLEET_ERR_SECRET_WEAK */
function readerSecrets(env: FleetEnv, given: RegistryOptions['secret']): { list: string[]; isShared: boolean } {
  const [from, found] = given === undefined ? (secretsOf(env) ?? []) : ['`secret`', [given].flat()]
  if (found?.some((secret) => Buffer.byteLength(secret) < 32))
    throw new FleetError('FLEET_ERR_SECRET_WEAK', `${from} needs 32 bytes: openssl rand -hex 32`)
  if (!found && env.production) throw secretMissing('discovery verifies the entries of the registry')
  return { list: [...(found ?? [])], isShared: !found }
}

const warnOfEntry = throttle((reason: EntryRejection, id: string) =>
  process.emitWarning(
    `discovery: ignoring the registry's entry ${JSON.stringify(id.slice(0, 128))} (${reason}); instances sign theirs with FLEET_SECRET or SESSION_SECRET, which must be the same here`,
    'FleetWarning',
  ),
)

/** The same for a balancer inside an instance: `fromFleet(() => app.fleet.peers())`. */
export const fromFleet = (
  peers: () => readonly Peer[],
  { intervalMs = 500, ...selection }: PeerSelection & Pick<RegistryOptions, 'intervalMs'> = {},
): Source => every(intervalMs, async () => fromPeers(peers(), selection))

const fromPeers = (
  peers: readonly Peer[],
  { pool = defaultPool, canary, urlOf = defaultUrl }: PeerSelection,
): Found[] =>
  peers
    .filter(({ pool: label = defaultPool, port }) => label === pool && port !== undefined)
    .filter(({ state }) => state === 'serving' || state === 'draining')
    .map((peer) => ({
      url: urlOf(peer),
      id: peer.id,
      weight: peer.weight,
      canary: canary?.(peer),
      region: peer.region,
      zone: peer.zone,
      draining: peer.state === 'draining',
    }))

const defaultUrl = ({ host, port }: Peer): string => `http://${host === hostname() ? '127.0.0.1' : host}:${port}`

/** Stands for this process, which reads the registry without an entry of its own. */
const reader = { id: '', state: 'starting' } as Peer

function repeat({ intervalMs = 5000, servers }: DnsOptions, ask: (resolver: Resolver) => Promise<Found[]>): Source {
  const resolver = new Resolver({ timeout: 2000, tries: 2 })
  if (servers) resolver.setServers(servers)
  return every(intervalMs, async () => {
    const found = await ask(resolver)
    // An empty result is usually an error, and targets that are gone fail their probes anyway.
    if (found.length === 0) throw new Error('no records')
    return found
  })
}

/** Calls `ask` at once and then periodically. A failed call changes nothing. */
function every(intervalMs: number, ask: () => Promise<readonly Found[]>): Source {
  return (listener) => {
    let timer: NodeJS.Timeout | undefined
    let stopped = false
    const round = async (): Promise<void> => {
      const startedAt = performance.now()
      const found = await ask().catch(() => undefined)
      if (stopped) return
      if (found) listener(found)
      timer = setTimeout(again, Math.max(0, intervalMs - (performance.now() - startedAt))).unref()
    }
    const again = guard('a source of targets', () => void round())
    again()
    return () => {
      stopped = true
      clearTimeout(timer)
    }
  }
}

function invalid(url: string): never {
  throw new FleetError('FLEET_ERR_TARGET_INVALID', `${JSON.stringify(url.slice(0, 100))} must be a URL`)
}
