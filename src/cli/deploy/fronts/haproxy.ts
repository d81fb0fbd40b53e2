import { usageError } from '../../args.ts'
import { servers } from '../haproxy-api.ts'
import type { Rotation, Share, Shares } from '../rotation.ts'
import type { Step } from '../step.ts'

export interface HaproxyOptions {
  /** Path of the runtime API's socket, level admin. */
  readonly socket: string
  readonly backend: string
  readonly timeoutMs: number
}

/** @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_USAGE when the backend has no server with an address */
export async function haproxyRotation(options: HaproxyOptions, managed: readonly string[]): Promise<Rotation> {
  const { socket, backend, timeoutMs } = options
  const states = (await servers(socket, backend)).filter(({ address }) => managed.includes(address))
  const names = new Map(states.map(({ address, name }) => [address, name]))
  const unknown = managed.filter((address) => !names.has(address))
  if (unknown.length > 0) {
    throw usageError(`HAProxy’s backend ${backend} has no server at ${unknown.join(', ')}`)
  }
  const command = (text: string, tolerate?: string): Step => ({ do: 'runtime', socket, command: text, tolerate })

  // The agent reports `ready` and a weight twice a second, which would undo a drain.
  const take = (name: string): Step[] => [
    command(`disable agent ${backend}/${name}`),
    command(`set server ${backend}/${name} state drain`),
  ]
  const give = (name: string, share: Share): Step[] => [
    ...(share === 'full' ? [] : [command(`disable agent ${backend}/${name}`)]),
    command(`set weight ${backend}/${name} ${share === 'full' ? '100%' : share}`),
    command(`set server ${backend}/${name} state ready`),
    ...(share === 'full' ? [command(`enable agent ${backend}/${name}`, 'Agent was not configured')] : []),
    { do: 'server-up', socket, backend, server: name, timeoutMs },
  ]
  return {
    now: new Map(
      states.map(({ address, out, weight, ownWeight }): [string, Share] => [
        address,
        out ? 'none' : ownWeight ? 'full' : weight,
      ]),
    ),
    change: (from, to) => {
      const moves = [...names].flatMap(([address, name]) => {
        const share = shareOf(to, address)
        return share === shareOf(from, address) ? [] : [{ name, share }]
      })
      return [
        ...moves.flatMap(({ name, share }) => (share === 'none' ? [] : give(name, share))),
        ...moves.flatMap(({ name, share }) => (share === 'none' ? take(name) : [])),
      ]
    },
  }
}

const shareOf = (shares: Shares, address: string): Share => shares.get(address) ?? 'none'
