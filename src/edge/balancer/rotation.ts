import { performance } from 'node:perf_hooks'
import { addressKey } from '../../base/client-address.ts'
import { cookieValues } from '../../base/cookies.ts'
import { int, number, type Resolved } from '../../base/options.ts'
import { guard } from '../boundary.ts'
import { hashText } from './policies/hash.ts'
import type { PickInput, Policy } from './policies/index.ts'
import type { Target, TargetState } from './target.ts'

export type StateListener = (target: Target, before: TargetState) => void

export const rotationOptions = {
  /** Slow start: how long a returning target takes to reach its full share while others are up; 0: at once. */
  slowStartMs: int(0, 3_600_000, 'milliseconds').default(0),
  /**
   * Below this share of targets up, health is ignored and all targets are used that have a weight and are not draining. With
   * 0, only when no target is up.
   */
  panicThreshold: number(0, 1).default(0),
  /**
   * Percentage of clients whose requests go to the targets with `canary`, always the same ones. A client can choose with the
   * cookie `fleet_canary=always` or `never`. Each side takes over while the other has no target. 0: canaries get no requests.
   */
  canaryPercent: number(0, 100).default(0),
}
type RotationOptions = Resolved<typeof rotationOptions>

/** How many times a policy may pick a full or already tried target before a random usable one is taken. */
const picks = 3

/**
 * Filter, then pick: targets move between lists when their state changes, and the policy sees only the list in use.
 *
 * The lists, best first: targets that are up; backups that are up; canaries that are up, which come first for their share of
 * the clients; and only when there are none of these, draining targets (they still serve), then all others (the panic rule:
 * when every target looks dead, the probes may be wrong), those of weight 0 last.
 */
export class Rotation {
  readonly #policy: Policy
  readonly #options: RotationOptions
  readonly #listeners: StateListener[] = []
  #targets: readonly Target[] = []
  #lists: readonly (readonly Target[])[] = []
  /** Canaries that are up. */
  #canaries: readonly Target[] = []
  #canaryPercent: number
  /** Those in rotation, backups and canaries included. */
  #up: readonly Target[] = []
  #lostAt: number | undefined = performance.now()

  constructor(policy: Policy, options: RotationOptions) {
    this.#policy = policy
    this.#options = options
    this.#canaryPercent = options.canaryPercent
  }

  get targets(): readonly Target[] {
    return this.#targets
  }

  /** Targets in rotation, backups included. */
  get up(): number {
    return this.#up.length
  }

  /** Monotonic milliseconds since which no target is up; undefined while one is. */
  get lostAt(): number | undefined {
    return this.#lostAt
  }

  get canaryPercent(): number {
    return this.#canaryPercent
  }

  set canaryPercent(percent: number) {
    this.#canaryPercent = percent
    this.#refresh()
  }

  onState(listener: StateListener): void {
    this.#listeners.push(guard('a listener for states of targets', listener))
  }

  add(target: Target): void {
    this.#targets = [...this.#targets, target]
    this.#refresh()
  }

  remove(target: Target): void {
    this.#targets = this.#targets.filter((other) => other !== target)
    this.#refresh()
  }

  /** Does nothing when the target is already in that state or was removed. */
  move(target: Target, state: TargetState): void {
    const before = target.state
    if (before === state || !this.#targets.includes(target)) return
    const now = performance.now()
    target.state = state
    target.since = now
    target.warmFrom = state === 'up' && this.up > 0 && this.#options.slowStartMs > 0 ? now : undefined
    this.#refresh()
    for (const listener of this.#listeners) listener(target, before)
  }

  /** @param weight 0 to 1000; with 0 the target receives no new requests */
  reweigh(target: Target, weight: number): void {
    if (target.weight === weight) return
    target.weight = weight
    this.#refresh()
  }

  /** A target with free capacity that is not in `tried`; undefined when there is none. */
  choose(input: PickInput, tried: readonly Target[]): Target | undefined {
    if (this.#canaries.length > 0 && isCanaryClient(input, this.#canaryPercent)) {
      const target = this.#pick(this.#canaries, input, tried)
      if (target) return target
    }
    for (const list of this.#lists) {
      const target = this.#pick(list, input, tried)
      if (target) return target
    }
    return undefined
  }

  /** Whether a target in rotation is missing from `tried`. */
  hasOther(tried: readonly Target[]): boolean {
    return this.#up.some((target) => !tried.includes(target))
  }

  /** Whether {@link Rotation.choose} would find a target that is not in `tried`, in any of the lists. */
  hasUntried(tried: readonly Target[]): boolean {
    return this.#lists.some((list) => list.some((target) => usable(target, tried)))
  }

  begin(target: Target): void {
    target.inflight++
    target.pending++
    this.#policy.loaded?.(target)
  }

  /** The outcome of what began is known, or there will be none. */
  settle(target: Target): void {
    target.pending--
  }

  end(target: Target): void {
    target.inflight--
    this.#policy.loaded?.(target)
  }

  #pick(list: readonly Target[], input: PickInput, tried: readonly Target[]): Target | undefined {
    for (let i = 0; i < picks; i++) {
      const target = this.#policy.pick(list, input)
      if (usable(target, tried) && this.#accepts(target)) return target
    }
    const offset = Math.floor(Math.random() * list.length)
    for (let i = 0; i < list.length; i++) {
      const target = list[(i + offset) % list.length] as Target
      if (usable(target, tried)) return target
    }
    return undefined
  }

  /**
   * Slow start, for any policy: a warming target declines a shrinking share of its picks. Policies with affinity are
   * exempt, because a client would lose its target.
   */
  #accepts(target: Target): boolean {
    if (target.warmFrom === undefined || this.#policy.affinity) return true
    const share = (performance.now() - target.warmFrom) / this.#options.slowStartMs
    if (share >= 1) target.warmFrom = undefined
    return Math.random() < Math.max(0.1, share)
  }

  #refresh(): void {
    const used = this.#targets.filter((target) => !target.canary || this.#canaryPercent > 0)
    const inState = (...states: TargetState[]): Target[] => used.filter((t) => states.includes(t.state))
    const up = inState('up').filter((target) => target.weight > 0)
    const all = inState('up', 'unproven', 'ejected', 'down')
    const weighted = all.filter((target) => target.weight > 0)
    const panic = up.length < this.#options.panicThreshold * weighted.length
    const stable = up.filter((target) => !target.canary)
    const canaries = up.filter((target) => target.canary)
    const calm = [stable.filter((target) => !target.backup), stable.filter((target) => target.backup), canaries]
    const lists =
      up.length === 0
        ? [inState('draining'), weighted, all.filter((target) => target.weight === 0)]
        : panic
          ? [weighted]
          : calm
    this.#lists = lists.filter((list) => list.length > 0)
    this.#canaries = panic ? [] : canaries
    this.#up = up
    this.#lostAt = up.length > 0 ? undefined : (this.#lostAt ?? performance.now())
  }
}

/** Testers choose a side; other clients always get the same one. Without a client, requests are split at random. */
function isCanaryClient({ client, headers }: PickInput, percent: number): boolean {
  const [choice] = cookieValues(headers.cookie, 'fleet_canary')
  if (choice === 'always' || choice === 'never') return choice === 'always'
  const position = client === '' ? Math.random() : hashText(addressKey(client, 64)) / 2 ** 32
  return position * 100 < percent
}

const usable = (target: Target, tried: readonly Target[]): boolean =>
  !target.full && (tried.length === 0 || !tried.includes(target))
