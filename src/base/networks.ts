import { BlockList, isIP } from 'node:net'
import { lookup } from './dictionary.ts'
import { FleetError } from './errors.ts'

const named = lookup<Readonly<Record<string, readonly string[]>>>({
  loopback: ['127.0.0.0/8', '::1/128'],
  linklocal: ['169.254.0.0/16', 'fe80::/10'],
  uniquelocal: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
})

type Subnet = [address: string, length: number, family: 'ipv4' | 'ipv6']

function parseSubnet(entry: string): Subnet | undefined {
  const [address = '', prefix, ...rest] = entry.split('/')
  const family = address.includes('%') ? 0 : isIP(address)
  const bits = family === 4 ? 32 : 128
  const length = prefix === undefined ? bits : /^\d{1,3}$/.test(prefix) ? Number(prefix) : Number.NaN
  if (family === 0 || rest.length > 0 || !(length <= bits)) return undefined
  return [address, length, family === 4 ? 'ipv4' : 'ipv6']
}

/** Whether {@link networks} accepts this entry. */
export const isNetwork = (entry: string): boolean => Object.hasOwn(named, entry) || parseSubnet(entry) !== undefined

/** The first address of each network. */
export const firstAddresses = (entries: readonly string[]): string[] =>
  entries.flatMap((entry) => named[entry] ?? [entry]).map((entry) => entry.replace(/\/.*/, ''))

/** A set of networks. */
export interface Networks {
  /** Whether the address of a socket belongs to one of the networks. */
  includes(address: string | undefined): boolean
}

/**
 * @param entries addresses, CIDR blocks, or `loopback`, `linklocal`, `uniquelocal` (the names Express and Fastify use)
 * @param option name used in the error
 * @throws FLEET_ERR_OPTION_INVALID naming the invalid entry
 */
export function networks(entries: readonly string[], option: string): Networks {
  const blocks = new BlockList()
  for (const entry of entries.flatMap((e) => (Object.hasOwn(named, e) ? (named[e] as string[]) : [e]))) {
    const subnet = parseSubnet(entry)
    if (!subnet) {
      throw new FleetError(
        'FLEET_ERR_OPTION_INVALID',
        `\`${option}\` must list addresses, CIDR blocks or ${Object.keys(named).join(', ')}, but one entry is ${JSON.stringify(entry)}`,
      )
    }
    blocks.addSubnet(...subnet)
  }
  return {
    includes(address) {
      if (address === undefined) return false
      // A dual-stack listener reports IPv4 peers as ::ffff:a.b.c.d.
      const [bare = ''] = address.split('%', 1)
      const plain = bare.startsWith('::ffff:') && bare.includes('.') ? bare.slice(7) : bare
      const family = isIP(plain)
      return family !== 0 && blocks.check(plain, family === 4 ? 'ipv4' : 'ipv6')
    },
  }
}
