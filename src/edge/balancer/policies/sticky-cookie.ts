import { createHmac } from 'node:crypto'
import { cookieValues } from '../../../base/cookies.ts'
import { FleetError } from '../../../base/errors.ts'
import { bool, int, type Resolved, text } from '../../../base/options.ts'
import type { Target } from '../target.ts'
import { perList } from './per-list.ts'
import type { PickInput, Policy } from './policy.ts'

export const stickyOptions = {
  /** Required; at least 32 bytes, the same on all balancers. An unsigned cookie would let clients aim at one target. */
  secret: text,
  /** Name of the cookie. */
  cookie: text.default('fleet_target'),
  /** Lifetime of the cookie; 0: until the browser is closed. */
  maxAge: int(0, 31_536_000, 'seconds').default(0),
  /** Adds `Secure`: sent over HTTPS only. */
  secure: bool.default(false),
}
export type StickyOptions = Resolved<typeof stickyOptions> & { readonly secret: string }

/**
 * A signed cookie binds a client to a target for as long as the target is in rotation. A client without a cookie, or whose
 * target is gone, gets a target from the fallback policy. O(1).
 */
export class StickyCookie implements Policy {
  readonly affinity = true
  readonly #options: StickyOptions
  readonly #fallback: Policy
  /**
   * Targets by signed cookie value. A map lookup compares a guess with a signature only if the hashes of the whole values
   * match, so a signature cannot be guessed byte by byte.
   */
  readonly #bySigned = perList((targets) => new Map(targets.map((target) => [this.#signed(target.id), target])))
  /** Signatures by target id, each computed once. Bounded by the number of targets. */
  readonly #signatures = new Map<string, string>()

  /** @throws FLEET_ERR_SECRET_WEAK */
  constructor(options: StickyOptions, fallback: Policy) {
    if (Buffer.byteLength(options.secret) < 32) {
      throw new FleetError('FLEET_ERR_SECRET_WEAK', '`balancer.sticky.secret` must be at least 32 bytes long')
    }
    this.#options = options
    this.#fallback = fallback
  }

  pick(targets: readonly Target[], input: PickInput): Target {
    const bound = this.#bound(targets, input.headers.cookie)
    if (bound) return bound
    const target = this.#fallback.pick(targets, input)
    const { cookie, maxAge, secure } = this.#options
    const age = maxAge > 0 ? `; Max-Age=${maxAge}` : ''
    input.setCookie = `${cookie}=${this.#signed(target.id)}; Path=/; HttpOnly; SameSite=Lax${age}${secure ? '; Secure' : ''}`
    return target
  }

  loaded(target: Target): void {
    this.#fallback.loaded?.(target)
  }

  close(): void {
    this.#fallback.close?.()
  }

  #bound(targets: readonly Target[], cookies: string | undefined): Target | undefined {
    for (const value of cookieValues(cookies, this.#options.cookie)) {
      const target = this.#bySigned(targets).get(value)
      if (target) return target
    }
    return undefined
  }

  #signed(id: string): string {
    let signature = this.#signatures.get(id)
    if (signature === undefined) {
      signature = createHmac('sha256', this.#options.secret).update(`fleet-sticky:${id}`).digest('base64url')
      this.#signatures.set(id, signature)
    }
    return `${id}.${signature}`
  }
}
