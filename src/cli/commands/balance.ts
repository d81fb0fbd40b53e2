import { isIP } from 'node:net'
import { dictionary } from '../../base/dictionary.ts'
import { FleetError } from '../../base/errors.ts'
import { fromDns, fromRegistry, fromSrv, type Source } from '../../edge/balancer/discovery.ts'
import { type PolicyName, policyNames } from '../../edge/balancer/policies/index.ts'
import type { Target } from '../../edge/balancer/target.ts'
import { createProxy } from '../../edge/http/server.ts'
import { createTcpProxy } from '../../edge/tcp/index.ts'
import { onEnding } from '../../instance/lifecycle/signals.ts'
import { type Command, defineCommand } from '../args.ts'

const command: Command = defineCommand({
  name: 'balance',
  summary: 'Run the built-in load balancer',
  usage: `fleet balance --listen 8080 --target http://127.0.0.1:4001 --target http://127.0.0.1:4002 [options]

A target may have options: http://127.0.0.1:4001,weight=50,backup,max=100
On SIGTERM it exits after in-flight requests have finished.`,
  options: {
    listen: { type: 'string', short: 'l', default: '8080', describe: 'ADDRESS to listen on: a port, or host:port' },
    target: { type: 'string', short: 't', multiple: true, describe: 'URL of an upstream' },
    discover: {
      type: 'string',
      short: 'd',
      describe:
        'SOURCE of further targets: dns+http://NAME:PORT, srv+http://NAME, or registry (of the fleet FLEET_NAME, at REDIS_URL)',
    },
    policy: {
      type: 'string',
      short: 'p',
      default: 'round-robin',
      describe: `NAME of the policy: ${policyNames.join(', ')}`,
    },
    'probe-path': { type: 'string', default: '/ready', describe: 'PATH of the readiness check' },
    tcp: { type: 'boolean', default: false, describe: 'Proxy TCP connections (layer 4) instead of HTTP requests' },
    admin: { type: 'string', describe: 'ADDRESS of /metrics and /targets for operators: a port, or host:port' },
    'trust-proxy': { type: 'string', multiple: true, describe: 'ADDRESS or network of a proxy in front of this one' },
  },
  async run({ values, out }) {
    const { host, port } = parseListen(values.listen)
    const targets = (values.target ?? []).map(parseTargetOption)
    const discover = values.discover === undefined ? undefined : parseDiscover(values.discover)
    if (targets.length === 0 && !discover)
      throw new FleetError('FLEET_ERR_USAGE', 'missing --target URL or --discover SOURCE')
    if (!policyNames.includes(values.policy as PolicyName)) {
      throw new FleetError('FLEET_ERR_USAGE', `--policy must be one of ${policyNames.join(', ')}`)
    }
    const policy = values.policy as PolicyName
    if (values.tcp && values.admin !== undefined)
      throw new FleetError('FLEET_ERR_USAGE', '--admin cannot be combined with --tcp')
    const admin = values.admin === undefined ? undefined : parseListen(values.admin, '127.0.0.1')
    const probe = { path: values['probe-path'] }
    const proxy = values.tcp
      ? createTcpProxy({ targets, discover, policy, probe })
      : createProxy({ targets, discover, policy, probe, admin, trustProxy: values['trust-proxy'] ?? [] })
    const ended = new Promise<number>((resolve) => {
      onEnding({
        first: async () => {
          await proxy.close()
          resolve(0)
          return 0
        },
        second: () => {},
      })
    })
    const url = await proxy.listen({ host, port })
    out.line(`listening on ${url}`)
    out.table(proxy.targets.map(row))
    out.result({ url, targets: proxy.targets.map(row) })
    return ended
  },
})
export default command

const row = ({ url, state, weight, backup }: Target): Record<string, string | number> => ({
  target: url.origin,
  state,
  weight,
  backup: backup ? 'yes' : 'no',
})

/** @throws FLEET_ERR_USAGE */
export function parseListen(text: string, everywhere: string = '0.0.0.0'): { host: string; port: number } {
  const match = /^(?:(?<host>\[[\da-f.]*:[\da-f:.]*\]|[\w.-]+):)?(?<port>\d{1,5})$/i.exec(text)
  const port = Number(match?.groups?.port)
  if (!match || port > 65_535) {
    throw new FleetError('FLEET_ERR_USAGE', `expected a port or host:port to listen on, not ${JSON.stringify(text)}`)
  }
  const host = match.groups?.host?.replace(/^\[|\]$/g, '') ?? everywhere
  if (host.includes(':') && isIP(host) !== 6) throw new FleetError('FLEET_ERR_USAGE', `${host} is not an address`)
  return { host, port }
}

/** @throws FLEET_ERR_USAGE */
export function parseTargetOption(text: string): {
  url: string
  weight?: number
  backup?: boolean
  maxConnections?: number
} {
  const [url = '', ...settings] = text.split(',')
  const options = dictionary<number | boolean>()
  for (const setting of settings) {
    const [key, value] = setting.split('=')
    if (key === 'backup' && value === undefined) options.backup = true
    else if (key === 'weight' && /^\d+$/.test(value ?? '')) options.weight = Number(value)
    else if (key === 'max' && /^\d+$/.test(value ?? '')) options.maxConnections = Number(value)
    else throw new FleetError('FLEET_ERR_USAGE', `--target: ${setting} must be weight=N, max=N or backup`)
  }
  return { url, ...options }
}

/** @throws FLEET_ERR_USAGE, FLEET_ERR_ENV_INVALID */
export function parseDiscover(text: string): Source {
  const [, kind, url] = /^(dns|srv)\+(https?:\/\/.+)$/.exec(text) ?? []
  if (kind && url && URL.canParse(url)) return kind === 'dns' ? fromDns(url) : fromSrv(url)
  if (text !== 'registry') {
    throw new FleetError('FLEET_ERR_USAGE', '--discover must be dns+http://NAME:PORT, srv+http://NAME or registry')
  }
  return fromRegistry()
}
