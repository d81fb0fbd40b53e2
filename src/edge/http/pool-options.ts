import { FleetError } from '../../base/errors.ts'
import { bool, int, list, type OptionsOf, object, resolveOptions, type Shape, shape, text } from '../../base/options.ts'
import { defaultPool, isPoolName, poolNameText } from '../../base/pool-name.ts'
import { type BalancerOptions, balancerOptions } from '../balancer/options.ts'
import { stickyOptions } from '../balancer/policies/sticky-cookie.ts'
import type { TargetOptions } from '../balancer/target.ts'
import { parseRoutes, type Route, Router, routeOptions } from './routes.ts'

type Targets = readonly (string | TargetOptions)[]

const anObject = object({})

export const maxBodyBytes: Shape<number> = int(0, Number.MAX_SAFE_INTEGER, 'bytes')

/** @internal */
export const poolOptions = {
  /** Targets of the pool. */
  targets: list(
    shape<string | TargetOptions>('a URL, or an object with `url`', (v) => text.accepts(v) || anObject.accepts(v)),
  ) as Shape<Targets>,
  /** Largest request body; 413 above it. 0: the upstream decides. @default that of the proxy */
  maxBodyBytes,
  /** Every request of the pool gets 503. `proxy.pools.get(name).maintenance` changes it. */
  maintenance: bool.default(false),
}
/** With options of a balancer; those that a pool does not have are those of the proxy, except `discover`. */
export type PoolOptions = BalancerOptions & OptionsOf<typeof poolOptions>

export interface ResolvedPool {
  readonly name: string
  readonly targets: Targets
  readonly balancer: BalancerOptions
  readonly maxBodyBytes: number
  readonly maintenance: boolean
}

/**
 * The pools of a proxy, with the pool `default`.
 *
 * @param targets of the proxy: those of the default pool
 * @param common options for the balancers of all pools
 * @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID
 */
export function resolvePools(
  proxy: { readonly pools: Readonly<Record<string, PoolOptions>>; readonly maxBodyBytes: number },
  targets: Targets | undefined,
  common: BalancerOptions,
): ResolvedPool[] {
  const given: [string, PoolOptions][] = Object.entries({ [defaultPool]: {}, ...proxy.pools })
  if (targets && proxy.pools[defaultPool]?.targets)
    throw invalid('`proxy.targets` and `proxy.pools.default.targets` are both set; remove one of them')
  if (!targets && !common.discover && given.length === 1 && !proxy.pools[defaultPool])
    throw invalid('`proxy` needs `targets`, `discover` or `pools`')
  return given.map(([name, options]) => {
    const label = `proxy.pools.${name}`
    if (!isPoolName(name)) throw invalid(`\`${label}\` must have a name of ${poolNameText}`)
    const pool = resolveOptions(label, { ...balancerOptions, ...poolOptions }, options)
    const own = Object.fromEntries(
      Object.entries(options).filter(([key, value]) => key in balancerOptions && value !== undefined),
    )
    return {
      name,
      targets: (name === defaultPool ? targets : undefined) ?? pool.targets ?? [],
      balancer: name === defaultPool ? merge(common, own) : merge(inherited(common, name), own),
      maxBodyBytes: pool.maxBodyBytes ?? proxy.maxBodyBytes,
      maintenance: pool.maintenance,
    }
  })
}

/** Another pool has other targets, so it needs another cookie. */
function inherited({ discover: _, ...common }: BalancerOptions, pool: string): BalancerOptions {
  const { sticky } = common
  const cookie = `${sticky?.cookie ?? stickyOptions.cookie.fallback}_${pool}`
  return sticky ? { ...common, sticky: { ...sticky, cookie } } : common
}

/** Members of an object of options are merged, as in {@link resolveOptions}. */
const merge = (weaker: BalancerOptions, stronger: BalancerOptions): BalancerOptions =>
  Object.fromEntries(
    Object.entries<unknown>({ ...weaker, ...stronger }).map(([key, value]) => {
      const base = weaker[key as keyof BalancerOptions]
      const isGroup = balancerOptions[key as keyof BalancerOptions]?.members !== undefined
      return [key, isGroup ? { ...(base as object), ...(value as object) } : value]
    }),
  )

/** @throws FLEET_ERR_OPTION_UNKNOWN, FLEET_ERR_OPTION_INVALID naming a route without a pool */
export function resolveRoutes(
  given: string | readonly Route[],
  pools: readonly ResolvedPool[],
): Router<string> | undefined {
  const reject = (problem: string): never => {
    throw invalid(`\`proxy.routes\`: ${problem}`)
  }
  const routes = typeof given === 'string' ? parseRoutes(given, reject) : given
  if (routes.length === 0) return undefined
  for (const route of routes) resolveOptions('proxy.routes', routeOptions, route)
  const names = pools.map(({ name }) => name)
  return new Router(routes, (name) => names.find((known) => known === name), reject)
}

const invalid = (problem: string): FleetError => new FleetError('FLEET_ERR_OPTION_INVALID', problem)
