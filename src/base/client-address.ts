import { isIP } from 'node:net'
import { type Networks, networks } from './networks.ts'

/**
 * Proxies that are trusted to name the client in `X-Forwarded-For`: all (`true`), none (`false`), a number of nearest
 * proxies, or those in a list of addresses, CIDR blocks or `loopback`, `linklocal`, `uniquelocal`.
 */
export type TrustProxy = boolean | number | readonly string[]

/** Largest number of proxies between a client and an instance. */
export const maxHops = 32

/** Trusted proxies. */
export interface Proxies {
  /** Whether every address is trusted. */
  readonly all: boolean
  readonly none: boolean
  /** Whether only the address decides, not the hop. */
  readonly byAddress: boolean
  /** @param hop 0 for the peer of the connection, 1 for the address it forwards, … */
  trusts(address: string, hop: number): boolean
}

/** @throws FLEET_ERR_OPTION_INVALID naming `option` and the invalid entry */
export function proxiesOf(trust: TrustProxy, option: string): Proxies {
  if (typeof trust === 'boolean') return { all: trust, none: !trust, byAddress: false, trusts: () => trust }
  if (typeof trust === 'number')
    return { all: false, none: trust === 0, byAddress: false, trusts: (_, hop) => hop < trust }
  const known: Networks = networks(trust, option)
  return {
    all: trust.some((entry) => /\/0+$/.test(entry)),
    none: trust.length === 0,
    byAddress: true,
    trusts: (address) => known.includes(address),
  }
}

/**
 * The nearest address that is not a trusted proxy, as defined by proxy-addr: entries further left in `X-Forwarded-For`
 * were written by the client. An entry that is not an address ends the search at the proxy that sent it, so that a
 * client cannot choose its own key.
 *
 * @returns an address without zone or port, IPv4 also if mapped into IPv6; '' for a Unix domain socket
 */
export function resolveClient(
  peer: string | undefined,
  forwardedFor: string | undefined,
  trusts: Proxies['trusts'],
): string {
  let client = plainAddress(peer) ?? peer ?? ''
  if (!forwardedFor) return client
  let hop = 0
  for (let end = forwardedFor.length; end > 0; ) {
    const comma = forwardedFor.lastIndexOf(',', end - 1)
    const entry = forwardedFor.slice(comma + 1, end).trim()
    end = comma
    if (entry === '') continue
    const address = hop < maxHops && trusts(client, hop++) ? plainAddress(entry) : undefined
    if (address === undefined) break
    client = address
  }
  return client
}

/** Longer than any address with a port; longer zones are rejected. */
const maxLength = 64

/** An address without zone and port, and IPv4 if mapped into IPv6; `undefined` if it is not an address. */
export function plainAddress(text: string | undefined): string | undefined {
  if (text === undefined || text.length > maxLength) return undefined
  let address = text
  // Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711.
  if (address.includes('.') || address.startsWith('['))
    address = address.replace(/^\[([^\]]+)\](?::\d{1,5})?$/, '$1').replace(/^([\d.]+):\d{1,5}$/, '$1')
  const zone = address.indexOf('%')
  if (zone !== -1) address = address.slice(0, zone)
  const family = isIP(address)
  if (family === 0) return undefined
  return family === 6 && /ffff:/i.test(address) ? (mappedIPv4(address) ?? address) : address
}

/**
 * The key of an address: an IPv4 address itself, or the network of an IPv6 address, because one client has a whole network.
 *
 * @param ipv6Subnet bits of that network
 */
export function addressKey(address: string, ipv6Subnet: number): string {
  if (!address.includes(':')) return address === '' ? 'unix' : address
  if (isIP(address) !== 6) return address
  const groups = groupsOf(address).slice(0, Math.ceil(ipv6Subnet / 16))
  const last = groups.length - 1
  groups[last] = (groups[last] as number) & (0xffff << (groups.length * 16 - ipv6Subnet)) & 0xffff
  return `${groups.map((group) => group.toString(16)).join(':')}${groups.length < 8 ? '::' : ''}/${ipv6Subnet}`
}

function mappedIPv4(address: string): string | undefined {
  const groups = groupsOf(address)
  const [high = 0, low = 0] = groups.slice(6)
  if (groups[5] !== 0xffff || groups.slice(0, 5).some((group) => group !== 0)) return undefined
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.')
}

/** The eight 16-bit groups of a valid IPv6 address. */
function groupsOf(address: string): number[] {
  const hex = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number)
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
  })
  const [left = [], right] = hex.split('::').map((part) => (part === '' ? [] : part.split(':')))
  const zeros = right === undefined ? [] : new Array(8 - left.length - right.length).fill('0')
  return [...left, ...zeros, ...(right ?? [])].map((group) => Number.parseInt(group, 16))
}
