import { isIP } from 'node:net'
import { readEnv } from '../../base/env.ts'
import { defaultPool } from '../../base/pool-name.ts'
import { policyNames } from '../../edge/balancer/policies/index.ts'
import type { Target } from '../../edge/balancer/target.ts'
import { createProxy } from '../../edge/http/server.ts'
import { createTcpProxy } from '../../edge/tcp/index.ts'
import { onExitSignal } from '../../instance/lifecycle/signals.ts'
import { type Command, defineCommand, flag, option, portOption, usageError } from '../args.ts'
import { poolsFrom, routesFrom } from '../balance/pools.ts'

export { parseDiscover, parseTargetOption } from '../balance/targets.ts'

const command: Command = defineCommand({
  name: 'balance',
  summary: 'Run the built-in load balancer',
  usage: `fleet balance --port 8080 --target http://127.0.0.1:4001 --target http://127.0.0.1:4002 [options]
fleet balance --port 8080 --discover registry --route /api/v2=v2 --route x-version:2=v2 [options]

A target may have options: http://127.0.0.1:4001,weight=50,backup,canary,max=100
Requests that no route matches go to the pool default, which --target and --discover describe. With --discover registry, each
instance is in the pool that it names in FLEET_POOL.
On SIGTERM it exits after in-flight requests have finished.`,
  options: {
    port: option('PORT to listen on, on every address; 0: a free one (default: 8080)'),
    listen: option('ADDRESS to listen on instead: a port, or host:port', { short: 'l' }),
    target: option('URL of an upstream', { short: 't', multiple: true }),
    discover: option(
      'SOURCE of further targets: dns+http://NAME:PORT, srv+http://NAME, or registry (of the fleet FLEET_NAME, at REDIS_URL)',
      { short: 'd' },
    ),
    route: option(
      'ROUTE to a pool: /path=POOL, //host=POOL, //host/path=POOL or header:value=POOL (default: FLEET_ROUTES)',
      { short: 'r', multiple: true },
    ),
    pool: option('POOL of routes: NAME=HOST:PORT,HOST:PORT or NAME=SOURCE', { multiple: true }),
    policy: option(`NAME of the policy, or POOL=NAME: ${policyNames.join(', ')}`, {
      short: 'p',
      multiple: true,
      default: ['round-robin'],
      choices: policyNames,
    }),
    canary: option('PERCENT of clients, or POOL=PERCENT, for targets with ,canary or instances of FLEET_COLOR=canary', {
      multiple: true,
    }),
    'probe-path': option('PATH of the readiness check', { default: '/ready' }),
    tcp: flag('Proxy TCP connections (layer 4) instead of HTTP requests', { default: false }),
    admin: option('ADDRESS of the operators’ listener, see docs/balancer.md: a port, or host:port'),
    'trust-proxy': option('ADDRESS or network of a proxy in front of this one', { multiple: true }),
  },
  async run({ values, out }) {
    if (values.port !== undefined && values.listen !== undefined)
      throw usageError('--port and --listen cannot be combined; --listen takes a port, too')
    const { host, port } = parseListen(values.listen ?? `${portOption(values.port ?? '8080')}`)
    const { target = [], discover, pool = [], policy, canary = [] } = values
    const routes = values.route
      ? routesFrom(values.route.join(' '), '--route')
      : routesFrom(readEnv().FLEET_ROUTES ?? '', 'FLEET_ROUTES')
    if (values.tcp && (routes.length > 0 || pool.length > 0 || values.admin !== undefined))
      throw usageError('--tcp cannot be combined with routes, --pool or --admin')
    const admin = values.admin === undefined ? undefined : parseListen(values.admin, '127.0.0.1')
    const probe = { path: values['probe-path'] }
    const pools = poolsFrom({ target, discover, pool, policy, canary, routes })
    const proxy = values.tcp
      ? createTcpProxy({ targets: [], ...pools[defaultPool], probe })
      : createProxy({ pools, routes, probe, admin, trustProxy: values['trust-proxy'] ?? [] })
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
    const url = await proxy.listen({ host, port }).catch(async (error: Error) => {
      // A source of targets would keep this process running.
      await proxy.close()
      throw error
    })
    const rows =
      'pools' in proxy
        ? [...proxy.pools].flatMap(([name, { balancer }]) =>
            balancer.targets.map((each) => ({ pool: name, ...row(each) })),
          )
        : proxy.targets.map(row)
    out.line(`listening on ${url}`)
    out.table(rows)
    out.result({ url, targets: rows })
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
