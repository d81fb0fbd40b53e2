import { usageError } from '../args.ts'
import type { Limits } from './compare.ts'
import { type InstanceStatus, initialStatus } from './instance-status.ts'
import { canaryShares, type Rotation, type Shares } from './rotation.ts'
import type { DeployPlan, Run, Stage, Step } from './step.ts'

/** Commands that start and stop instances, with the placeholders `{host}`, `{port}`, `{version}` and `{color}`. */
export interface Programs {
  /** Replaces the instance at an address with a version. */
  readonly start: readonly string[]
  /** Stops the instance at an address. */
  readonly stop?: readonly string[]
}

export interface Release {
  readonly version: string
  readonly color?: string
  readonly programs: Programs
  /** Limit for a program, and for an instance until it is ready. */
  readonly timeoutMs: number
}

/** The instances before the deploy, by address. */
export type Survey = ReadonlyMap<string, InstanceStatus>

const urlOf = (address: string): string => `http://${address}`

export async function survey(addresses: readonly string[]): Promise<Survey> {
  return new Map(
    await Promise.all(addresses.map(async (address) => [address, await initialStatus(urlOf(address))] as const)),
  )
}

/** Takes each instance out of rotation, replaces it, and returns it when it is ready. */
export function rolling(release: Release, targets: readonly string[], found: Survey, rotation: Rotation): DeployPlan {
  const all: Shares = new Map(targets.map((address) => [address, 'full']))
  return replaceEach(release, targets, found, rotation, rotation.now, all)
}

/** Starts and checks the idle side, switches all requests to it in one step, and stops the other side last. */
export function blueGreen(
  release: Release & { readonly to?: Side; readonly watchMs: number },
  sides: Readonly<Record<Side, readonly string[]>>,
  found: Survey,
  rotation: Rotation,
): DeployPlan {
  const to = release.to ?? nextSide(release.version, sides, found, rotation.now)
  const [fresh, old] = [sides[to], sides[to === 'blue' ? 'green' : 'blue']]
  const side = { ...release, color: to }
  const next: Shares = new Map(fresh.map((address) => [address, 'full']))
  const leaving = old.filter((address) => isIn(rotation.now, address))
  const arriving = fresh.some((address) => rotation.now.get(address) !== 'full')
  const starts = startEach(side, fresh, found)
  if (starts.length > 0 && leaving.length === 0 && fresh.some((address) => isIn(rotation.now, address))) {
    throw usageError(`${to} serves requests and cannot be replaced in place`)
  }
  const watch: Step = { do: 'steady', urls: fresh.map(urlOf), version: release.version, forMs: release.watchMs }
  const changes = leaving.length > 0 || arriving
  return [
    ...starts,
    ...move(`switch to ${to}`, rotation, rotation.now, next),
    ...(changes ? [{ title: `watch ${to}`, steps: [watch], undo: [] }] : []),
    ...stopEach(release, occupied(old, found)),
  ]
}

export type Side = 'blue' | 'green'

/** Sends a share of the requests to the new version and compares it; then it replaces the others or is removed. */
export function canary(
  release: Release & {
    readonly percent: number
    readonly windowMs: number
    readonly limits: Limits
    readonly hold: boolean
  },
  { targets, canaries }: { targets: readonly string[]; canaries: readonly string[] },
  found: Survey,
  rotation: Rotation,
): DeployPlan {
  const shares = canaryShares(targets, canaries, release.percent)
  const stable: Shares = new Map(targets.map((address) => [address, 'full']))
  const done = targets.every((address) => isAt(release, found.get(address)))
  const retire = (from: Shares, left: readonly string[]): DeployPlan => [
    ...move('end the canary’s share', rotation, from, stable),
    ...stopEach(release, left),
  ]
  // All targets are replaced: only the canary's end may be missing.
  if (done) return retire(rotation.now, occupied(canaries, found))
  const { windowMs, limits } = release
  const comparison: Step = { do: 'compare', canary: canaries.map(urlOf), stable: targets.map(urlOf), windowMs, limits }
  const share: Stage = {
    title: `give ${canaries.join(', ')} ${release.percent} % of the requests`,
    steps: rotation.change(rotation.now, shares),
    undo: rotation.change(shares, stable),
  }
  return [
    ...startEach(release, canaries, found),
    share,
    { title: 'compare the canary', steps: [comparison], undo: [] },
    ...(release.hold
      ? []
      : [...replaceEach(release, targets, found, rotation, shares, shares), ...retire(shares, canaries)]),
  ]
}

function replaceEach(
  release: Release,
  targets: readonly string[],
  found: Survey,
  rotation: Rotation,
  from: Shares,
  to: Shares,
): DeployPlan {
  const plan: Stage[] = []
  let shares = from
  for (const address of targets.filter((address) => !isAt(release, found.get(address)))) {
    // The same change of the front returns the previous instance to rotation.
    const next: Shares = new Map([...to, [address, 'none']])
    plan.push(...move(`take ${address} out of rotation`, rotation, shares, next))
    plan.push({
      title: `replace ${address} with version ${release.version}`,
      steps: start(release, address),
      undo: restore(release, address, found),
    })
    shares = next
  }
  return [...plan, ...move('all in rotation', rotation, shares, to)]
}

/** Starts instances that are not in rotation yet; a failure stops them again. */
function startEach(release: Release, addresses: readonly string[], found: Survey): DeployPlan {
  const { stop } = release.programs
  return addresses
    .filter((address) => !isAt(release, found.get(address)))
    .map((address) => ({
      title: `start version ${release.version} at ${address}`,
      steps: start(release, address),
      undo: stop ? [program(stop, release, address)] : [],
    }))
}

function stopEach(release: Release, addresses: readonly string[]): DeployPlan {
  const { stop } = release.programs
  if (!stop || addresses.length === 0) return []
  const title = `stop ${addresses.join(', ')}`
  return [{ title, steps: addresses.map((address) => program(stop, release, address)), undo: [] }]
}

/** The addresses on which something listens, ready or not. */
const occupied = (addresses: readonly string[], found: Survey): readonly string[] =>
  addresses.filter((address) => found.get(address)?.summary !== 'ECONNREFUSED')

const start = (release: Release, address: string): Step[] => {
  const { version, color, timeoutMs } = release
  const ready: Step = { do: 'ready', url: urlOf(address), version, color, timeoutMs }
  return [program(release.programs.start, release, address), ready]
}

/** Starts the previous version: the instance's own, or that of the others if it does not respond. */
function restore(release: Release, address: string, found: Survey): Step[] {
  const others = [...found.values()].map(({ version }) => version)
  const version = [found.get(address)?.version, ...others].find((known) => known && known !== release.version)
  if (version === undefined) return []
  return start({ ...release, version, color: found.get(address)?.color }, address)
}

function program(words: readonly string[], release: Release, address: string): Run {
  const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(address) ?? []
  const values: Record<string, string> = { host, port, version: release.version, color: release.color ?? '' }
  return {
    do: 'run',
    argv: words.map((word) => word.replace(/\{(host|port|version|color)\}/g, (_, name: string) => values[name] ?? '')),
    env: {
      HOST: host,
      PORT: port,
      FLEET_VERSION: release.version,
      ...(release.color === undefined ? {} : { FLEET_COLOR: release.color }),
    },
    timeoutMs: release.timeoutMs,
  }
}

/** Changes the rotation; no stage where nothing changes. */
function move(title: string, rotation: Rotation, from: Shares, to: Shares): DeployPlan {
  const steps = rotation.change(from, to)
  return steps.length > 0 ? [{ title, steps, undo: rotation.change(to, from) }] : []
}

const isIn = (shares: Shares, address: string): boolean => (shares.get(address) ?? 'none') !== 'none'

const isAt = ({ version, color }: Pick<Release, 'version' | 'color'>, at: InstanceStatus | undefined): boolean =>
  at?.ready === true && at.version === version && (color === undefined || at.color === color)

/** @throws FLEET_ERR_USAGE when the running instances do not determine it */
function nextSide(version: string, sides: Readonly<Record<Side, readonly string[]>>, found: Survey, now: Shares): Side {
  const names = ['blue', 'green'] as const
  const fresh = names.filter((color) => sides[color].some((address) => isAt({ version, color }, found.get(address))))
  const live = names.filter((name) => sides[name].some((address) => isIn(now, address)))
  // A deploy was interrupted after the start: continue with that side.
  if (fresh.length === 1 && fresh[0]) return fresh[0]
  if (live.length === 1) return live[0] === 'blue' ? 'green' : 'blue'
  throw usageError(`${live.join(' and ') || 'neither side'} is in rotation; choose with --to blue|green`)
}
