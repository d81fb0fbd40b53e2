import type { Peer } from '../../instance/identity.ts'
import { type Command, defineCommand } from '../args.ts'
import { type FleetStatus, operatorOptions, operatorsFrom } from '../operators.ts'
import { type Output, plural } from '../output.ts'
import { row } from './ps.ts'

/** Rows that fit a screen with the rest. */
const maxRows = 20
const columns = ['instance', 'state', 'version', 'rps', 'p95 ms', 'loop %', 'memory mb', 'up', 'failing'] as const

const command: Command = defineCommand({
  name: 'status',
  summary: 'Show a fleet on one screen: instances, requests, Redis, checks',
  usage: `fleet status [URL] [options]

URL is any instance, or a front that forwards operators’ paths (default: the first instance on this machine). The checks are
those of the instance that responds. At most ${maxRows} instances are listed, those in trouble first; \`fleet ps\` lists all.
Exit code 1: no instance serves, or a critical check of one fails.`,
  options: operatorOptions,
  async run({ values, positionals, out }) {
    const status = await operatorsFrom(positionals, values).status()
    const healthy = status.serving > 0 && status.instances.every(({ failing }) => failing.length === 0)
    out.result({ healthy, ...status, redis: status.checks.redis ?? null })
    print(status, healthy, out)
    return healthy ? 0 : 1
  },
})
export default command

function print(status: FleetStatus, healthy: boolean, out: Output): void {
  const { fleet, serving, instances, rps, p95, stores, checks, checkedBy } = status
  const share = out.style(healthy ? 'green' : 'red', `${serving} of ${plural(instances.length, 'instance')} serving`)
  out.line(`${out.style('bold', fleet)}: ${share}, ${rps} requests/s, p95 ${p95} ms`)
  const where = `sessions: ${stores.session}, cache: ${stores.cache}${stores.stateless ? '' : ' (not stateless)'}`
  out.line(`Redis: ${redisText(checks.redis)}; ${where}`)
  out.line()
  const sorted = instances.toSorted((a, b) => Number(isQuiet(a)) - Number(isQuiet(b)))
  const rows = sorted.slice(0, maxRows).map((peer) => {
    const all = row(peer, out)
    return Object.fromEntries(columns.map((name) => [name, all[name]]))
  })
  out.table(rows)
  if (sorted.length > maxRows) out.line(`… and ${sorted.length - maxRows} more, see \`fleet ps\``)
  if (Object.keys(checks).length === 0) return
  out.line()
  out.line(`Checks of ${checkedBy}:`)
  out.table(
    Object.entries(checks).map(([check, { status, critical, latencyMs, lastError }]) => ({
      check,
      status: out.style(status === 'up' ? 'green' : status === 'down' ? 'red' : 'yellow', String(status)),
      critical: critical === undefined ? '' : critical ? 'yes' : 'no',
      'latency ms': latencyMs ?? undefined,
      'last error': status === 'up' ? '' : (lastError ?? ''),
    })),
  )
}

const isQuiet = ({ state, failing }: Peer): boolean => state === 'serving' && failing.length === 0

function redisText(check: FleetStatus['checks'][string] | undefined): string {
  if (check === undefined) return 'no check'
  const latency = typeof check.latencyMs === 'number' ? `, ${check.latencyMs} ms` : ''
  return `${check.status}${check.status === 'up' ? latency : check.lastError ? `, ${check.lastError}` : ''}`
}
