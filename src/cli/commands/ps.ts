import { lookup } from '../../base/dictionary.ts'
import type { Peer } from '../../instance/identity.ts'
import { type Command, defineCommand } from '../args.ts'
import { operatorOptions, operatorsFrom } from '../operators.ts'
import type { Output } from '../output.ts'

const command: Command = defineCommand({
  name: 'ps',
  summary: 'List the instances of a fleet',
  usage: `fleet ps [URL] [options]

URL is any instance, or a front that forwards operators’ paths (default: the first instance on this machine).`,
  options: operatorOptions,
  async run({ values, positionals, out }) {
    const instances = await operatorsFrom(positionals, values).instances()
    out.result(instances)
    out.table(instances.map((peer) => row(peer, out)))
    return 0
  },
})
export default command

const colours = lookup({ starting: 'cyan', serving: 'green', draining: 'yellow', closed: 'red' } as const)

/** Narrow terminals wrap long rows, so fields that rarely differ are in `--json` only. */
export const row = (peer: Peer, out: Output): Record<string, string | number | undefined> => ({
  instance: peer.id,
  state: out.style(peer.failing.length > 0 ? 'red' : (colours[peer.state] ?? 'white'), peer.state),
  address: `${peer.host}:${peer.port ?? '-'}`,
  pid: peer.pid,
  version: peer.version,
  color: peer.color,
  pool: peer.pool,
  weight: peer.weight,
  rps: peer.rps,
  'p95 ms': peer.p95,
  'loop %': Math.round(peer.eventLoopUtilization * 100),
  'memory mb': Math.round(peer.memory / 1_048_576),
  up: duration(Date.now() - Date.parse(peer.startedAt)),
  // An instance of an earlier version reports critical checks only.
  failing: [...peer.failing, ...(peer.degraded ?? [])].join(', '),
})

/** The two largest units, e.g. `3h 20m`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  const units: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ]
  const first = units.findIndex(([count]) => count > 0)
  if (first === -1) return '0s'
  return units
    .slice(first, first + 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ')
}
