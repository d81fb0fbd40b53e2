import type { FastifyInstance, FastifyRequest } from 'fastify'
import {
  addressKey,
  maxHops,
  type Proxies,
  plainAddress,
  proxiesOf,
  resolveClient,
  type TrustProxy,
} from '../base/client-address.ts'
import { detached } from '../base/detached.ts'
import { readEnv } from '../base/env.ts'
import { ipOf } from '../base/internals/fastify.ts'
import { firstAddresses } from '../base/networks.ts'

/** Largest number of cached addresses. */
const maxCached = 10_000

const trustNone = (): boolean => false

/** Identifies clients by their addresses. */
export class Clients {
  readonly proxies: Proxies | undefined
  readonly #keys = new Map<string, string>()
  readonly #trusted = new Map<string, boolean>()

  /**
   * @param trust `undefined`: use Fastify's own `trustProxy`
   * @throws FLEET_ERR_OPTION_INVALID naming `option`
   */
  constructor(trust: TrustProxy | undefined, option: string) {
    this.proxies = trust === undefined ? undefined : proxiesOf(trust, option)
  }

  /** @param beyond further addresses that are skipped like those of trusted proxies */
  address({ socket, headers, ips }: FastifyRequest, beyond?: (address: string) => boolean): string {
    const peer = socket.remoteAddress
    const forwardedFor = headers['x-forwarded-for']
    if (forwardedFor === undefined) return resolveClient(peer, undefined, trustNone)
    let trusts = this.#trusts
    if (!this.proxies) {
      // Fastify has resolved its trusted proxies, but does not check that forwarded entries are addresses.
      const followed = (ips?.length ?? 1) - 1
      trusts = (_, hop) => hop < followed
    }
    const all = beyond ? (address: string, hop: number) => trusts(address, hop) || beyond(address) : trusts
    return resolveClient(peer, String(forwardedFor), all)
  }

  /** Caches IPv6 keys, whose computation takes longer than everything else here. */
  key(address: string, ipv6Subnet: number): string {
    if (!address.includes(':')) return addressKey(address, ipv6Subnet)
    const id = ipv6Subnet === 64 ? address : `${address}/${ipv6Subnet}`
    return cached(this.#keys, id, () => detached(addressKey(address, ipv6Subnet)))
  }

  /** Whether the peer of a connection is a trusted proxy. */
  trusts(peer: string | undefined): boolean {
    return this.proxies !== undefined && this.#trusts(resolveClient(peer, undefined, trustNone), 0)
  }

  /** Whether the peer of a request is a trusted proxy, by these rules or by Fastify's. */
  forwards({ socket, ips }: FastifyRequest): boolean {
    return this.proxies ? this.trusts(socket.remoteAddress) : (ips?.length ?? 1) > 1
  }

  #trusts = (address: string, hop: number): boolean => {
    const proxies = this.proxies as Proxies
    if (!proxies.byAddress) return proxies.trusts(address, hop)
    return cached(this.#trusted, address, () => proxies.trusts(address, hop))
  }
}

function cached<T>(cache: Map<string, T>, id: string, compute: () => T): T {
  let value = cache.get(id)
  if (value === undefined) {
    value = compute()
    if (cache.size >= maxCached) cache.clear()
    cache.set(detached(id), value)
  }
  return value
}

const decorator = Symbol('fleet.clients')
let fromEnv: Clients | undefined

function clientsOf({ server }: FastifyRequest): Clients {
  const own = (server as { [decorator]?: Clients } | undefined)?.[decorator]
  if (own) return own
  fromEnv ??= new Clients(readEnv().TRUST_PROXY, 'TRUST_PROXY')
  return fromEnv
}

/**
 * Sets the proxies that this app trusts to name the client. Warns if every address is trusted, or if Fastify's own
 * `request.ip` follows other rules.
 *
 * @param trust `undefined`: use Fastify's own `trustProxy`
 * @throws FLEET_ERR_OPTION_INVALID
 */
export function decorateClients(app: FastifyInstance, trust: TrustProxy | undefined): Clients {
  const clients = new Clients(trust, 'identity.trustProxy')
  app.decorate(decorator as unknown as string, clients)
  const { all = false, none = true } = clients.proxies ?? {}
  if (all)
    app.log.warn(
      'TRUST_PROXY trusts every address: a client that reaches this instance directly can claim any address and ' +
        'evade every limit; list the addresses or networks of the proxies instead',
    )
  const hasTrustProxy = app.hasRequestDecorator('ips')
  if (hasTrustProxy ? !all && differs(app, trust, clients.proxies) : !none)
    app.log.warn(
      `TRUST_PROXY is set, but this app was created ${hasTrustProxy ? 'with another' : 'without'} \`trustProxy\`: limits ` +
        'see the client behind the proxies of TRUST_PROXY, `request.ip`, `request.protocol` and `request.host` do not; ' +
        'create the app with Fastify(serverOptions())',
    )
  return clients
}

/** Addresses that proxies usually have, and one that none has. */
const usual = ['127.0.0.1', '10.0.0.1', '172.16.0.1', '192.168.0.1', '192.0.2.1', '::1', 'fd00::1']
/** Addresses of as many proxies as may be trusted. */
const longest = Array.from({ length: maxHops }, (_, i) => `203.0.113.${i + 1}`).join(', ')

/** Whether `request.ip` differs from the client's address for any of a sample of peers. */
function differs(app: FastifyInstance, trust: TrustProxy | undefined, proxies: Proxies | undefined): boolean {
  if (!proxies) return false
  const peers = typeof trust === 'object' ? [...usual, ...firstAddresses(trust)] : usual
  return peers.some((peer) =>
    [longest, `203.0.113.1, 198.51.100.1, ${peer}`].some((forwardedFor) => {
      const ip = ipOf(app, peer, forwardedFor)
      return ip !== undefined && plainAddress(ip) !== resolveClient(peer, forwardedFor, proxies.trusts)
    }),
  )
}

/**
 * Whether the client uses TLS, as the connection or a trusted proxy says: one of `TRUST_PROXY` (or `identity.trustProxy`), or of
 * Fastify's `trustProxy`. `X-Forwarded-Proto` of any other peer proves nothing.
 */
export function isHttps(request: Partial<FastifyRequest>): boolean {
  if (request.protocol === 'https') return true
  const forwarded = request.headers?.['x-forwarded-proto']
  if (typeof forwarded !== 'string' || forwarded.split(',', 1)[0]?.trim() !== 'https') return false
  return clientsOf(request as FastifyRequest).trusts(request.socket?.remoteAddress)
}

/**
 * The address of the client behind the proxies that `TRUST_PROXY` (or `identity.trustProxy`) trusts, independent of
 * Fastify's `trustProxy`. If neither is set, behind the proxies that Fastify's `trustProxy` trusts. Always an address,
 * whatever `X-Forwarded-For` contains; '' on a Unix domain socket.
 *
 * @param beyond further addresses that are skipped like those of trusted proxies
 */
export function clientAddress(request: FastifyRequest, beyond?: (address: string) => boolean): string {
  return clientsOf(request).address(request, beyond)
}

/** Whether the peer of the connection is a trusted proxy, whose `X-Forwarded-*` describe the client. */
export const isForwarded = (request: FastifyRequest): boolean => clientsOf(request).forwards(request)

/**
 * The key that identifies a client, for example in limits: its IPv4 address, or the network of its IPv6 address, which
 * belongs to one client. The key is short, has no spaces, and cannot be chosen by the client.
 *
 * @param ipv6Subnet bits of that network, 32 to 128; default 64
 */
export function clientKey(request: FastifyRequest, ipv6Subnet = 64): string {
  const clients = clientsOf(request)
  return clients.key(clients.address(request), ipv6Subnet)
}
