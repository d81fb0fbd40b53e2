import { defaultPool, isPoolName, poolNameText } from '../../base/pool-name.ts'
import { type PolicyName, policyNames } from '../../edge/balancer/policies/index.ts'
import type { PoolOptions } from '../../edge/http/pool-options.ts'
import { parseRoutes, type Route } from '../../edge/http/routes.ts'
import type { Peer } from '../../instance/identity.ts'
import { usageError } from '../args.ts'
import { isSource, parseDiscover, parseTargetList, parseTargetOption, type TargetOption } from './targets.ts'

/** What the command line says about pools. */
interface PoolFlags {
  readonly target: readonly string[]
  readonly discover: string | undefined
  /** `NAME=TARGETS` or `NAME=SOURCE`. */
  readonly pool: readonly string[]
  /** `POLICY` for all pools, or `NAME=POLICY`. */
  readonly policy: readonly string[]
  /** `PERCENT` for all pools, or `NAME=PERCENT`. */
  readonly canary: readonly string[]
  readonly routes: readonly Route[]
}

/** A pool before its source is opened. */
interface Draft {
  readonly targets: TargetOption[]
  source?: string
}

/** Routes as text. @param name of the option or variable @throws FLEET_ERR_USAGE */
export const routesFrom = (text: string, name: string): Route[] =>
  parseRoutes(text, (problem) => {
    throw usageError(`${name}: ${problem}`)
  })

/**
 * The pools of the command line by name, with the pool `default`.
 *
 * @throws FLEET_ERR_USAGE, FLEET_ERR_ENV_INVALID
 */
export function poolsFrom(flags: PoolFlags): Record<string, PoolOptions> {
  const policies = byPool('--policy', flags.policy, policyOf)
  const percents = byPool('--canary', flags.canary, percentOf)
  const drafts = draftsOf(flags)
  const unknown = [...policies.keys(), ...percents.keys()].find((name) => name !== everyPool && !drafts.has(name))
  if (unknown !== undefined) throw usageError(`--policy or --canary names the pool ${unknown}, which does not exist`)
  return Object.fromEntries(
    [...drafts].map(([name, { targets, source }]): [string, PoolOptions] => {
      const canaryPercent = percents.get(name) ?? percents.get(everyPool) ?? 0
      const registry = { pool: name, canary: canaryPercent > 0 ? isCanary : undefined }
      const discover = source === undefined ? undefined : parseDiscover(source, registry)
      return [name, { targets, discover, policy: policies.get(name) ?? policies.get(everyPool), canaryPercent }]
    }),
  )
}

function draftsOf({ target, discover, pool, routes }: PoolFlags): Map<string, Draft> {
  const first: Draft = { targets: target.map((text) => parseTargetOption(text)), source: discover }
  const drafts = new Map([[defaultPool, first]])
  for (const text of pool) {
    const [name = '', value] = split(text)
    if (!isPoolName(name) || !value)
      throw usageError(`--pool ${text} is not NAME=TARGETS or NAME=SOURCE with a name of ${poolNameText}`)
    const draft = drafts.get(name) ?? { targets: [] }
    drafts.set(name, draft)
    if (!isSource(value)) draft.targets.push(...parseTargetList(value, '--pool'))
    else if (draft.source === undefined) draft.source = value
    else throw usageError(`the pool ${name} has two sources; remove one of them`)
  }
  for (const { pool: name } of routes) {
    if (drafts.has(name)) continue
    // Its instances announce the pool themselves, now or later.
    if (discover !== 'registry')
      throw usageError(`a route names the pool ${name}, which does not exist; add --pool ${name}=HOST:PORT`)
    drafts.set(name, { targets: [], source: discover })
  }
  if ([...drafts.values()].every(({ targets, source }) => targets.length === 0 && source === undefined))
    throw usageError('missing --target URL, --pool NAME=TARGETS or --discover SOURCE')
  return drafts
}

const isCanary = ({ color }: Peer): boolean => color === 'canary'

/** Key of the value for pools without one of their own. */
const everyPool = ''

/** Values of an option that is given as `VALUE` or `POOL=VALUE`. */
function byPool<T>(
  option: string,
  given: readonly string[],
  parse: (text: string, option: string) => T,
): Map<string, T> {
  return new Map(
    given.map((text) => {
      const [name, value] = split(text)
      return value === undefined ? [everyPool, parse(text, option)] : [name, parse(value, option)]
    }),
  )
}

const split = (text: string): [string, string | undefined] => {
  const end = text.indexOf('=')
  return end < 0 ? [text, undefined] : [text.slice(0, end), text.slice(end + 1)]
}

function policyOf(text: string, option: string): PolicyName {
  const policy = policyNames.find((name) => name === text)
  if (policy) return policy
  throw usageError(`${option} must be one of ${policyNames.join(', ')}, or POOL=NAME`)
}

function percentOf(text: string, option: string): number {
  if (/^\d{1,3}(?:\.\d{1,4})?$/.test(text) && Number(text) <= 100) return Number(text)
  throw usageError(`${option} must be a number from 0 to 100, or POOL=NUMBER`)
}
