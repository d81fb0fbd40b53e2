import { isIP } from 'node:net'
import { dictionary } from '../../base/dictionary.ts'
import { fromDns, fromRegistry, fromSrv, type Source } from '../../edge/balancer/discovery.ts'
import { type PolicyName, policyNames } from '../../edge/balancer/policies/index.ts'
import type { Target } from '../../edge/balancer/target.ts'
import { createProxy } from '../../edge/http/server.ts'
import { createTcpProxy } from '../../edge/tcp/index.ts'
import { onExitSignal } from '../../instance/lifecycle/signals.ts'
import { type Command, defineCommand, flag, option, usageError } from '../args.ts'

const command: Command = defineCommand({
  name: 'balance',
  summary: 'Run the built-in load balancer',
  usage: `fleet balance --listen 8080 --target http://127.0.0.1:4001 --target http://127.0.0.1:4002 [options]

A target may have options: http://127.0.0.1:4001,weight=50,backup,max=100
On SIGTERM it exits after in-flight requests have finished.`,
  options: {
    listen: option('ADDRESS to listen on: a port, or host:port', { short: 'l', default: '8080' }),
    target: option('URL of an upstream', { short: 't', multiple: true }),
    discover: option(
      'SOURCE of further targets: dns+http://NAME:PORT, srv+http://NAME, or registry (of the fleet FLEET_NAME, at REDIS_URL)',
      { short: 'd' },
    ),
    policy: option(`NAME of the policy: ${policyNames.join(', ')}`, { short: 'p', default: 'round-robin' }),
    'probe-path': option('PATH of the readiness check', { default: '/ready' }),
    tcp: flag('Proxy TCP connections (layer 4) instead of HTTP requests', { default: false }),
    admin: option('ADDRESS of /metrics and /targets for operators: a port, or host:port'),
    'trust-proxy': option('ADDRESS or network of a proxy in front of this one', { multiple: true }),
  },
  async run({ values, out }) {
    const { host, port } = parseListen(values.listen)
    const targets = (values.target ?? []).map(parseTargetOption)
    const discover = values.discover === undefined ? undefined : parseDiscover(values.discover)
    if (targets.length === 0 && !discover) throw usageError('missing --target URL or --discover SOURCE')
    if (!policyNames.includes(values.policy as PolicyName)) {
      throw usageError(`--policy must be one of ${policyNames.join(', ')}`)
    }
    const policy = values.policy as PolicyName
    if (values.tcp && values.admin !== undefined) throw usageError('--admin cannot be combined with --tcp')
    const admin = values.admin === undefined ? undefined : parseListen(values.admin, '127.0.0.1')
    const probe = { path: values['probe-path'] }
    const proxy = values.tcp
      ? createTcpProxy({ targets, discover, policy, probe })
      : createProxy({ targets, discover, policy, probe, admin, trustProxy: values['trust-proxy'] ?? [] })
    const ended = new Promise<number>((resolve) => {
      onExitSignal({
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
    throw usageError(`expected a port or host:port to listen on, not ${JSON.stringify(text)}`)
  }
  const host = match.groups?.host?.replace(/^\[|\]$/g, '') ?? everywhere
  if (host.includes(':') && isIP(host) !== 6) throw usageError(`${host} is not an address`)
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
    else throw usageError(`--target: ${setting} must be weight=N, max=N or backup`)
  }
  return { url, ...options }
}

/** @throws FLEET_ERR_USAGE, FLEET_ERR_ENV_INVALID */
export function parseDiscover(text: string): Source {
  const [, kind, url] = /^(dns|srv)\+(https?:\/\/.+)$/.exec(text) ?? []
  if (kind && url && URL.canParse(url)) return kind === 'dns' ? fromDns(url) : fromSrv(url)
  if (text !== 'registry') {
    throw usageError('--discover must be dns+http://NAME:PORT, srv+http://NAME or registry')
  }
  return fromRegistry()
}
