import { Operators } from '../operators.ts'
import { plural } from '../output.ts'
import { member, Target } from '../target.ts'

/** An instance that does not respond must not delay its drain for longer, ms. On a busy machine one may take a second. */
const askTimeoutMs = 2_000

/** What a fleet did, for the summary at the end. Each instance is asked for its requests right before it drains. */
export class Tally {
  /** Processes that were started again after an exit that nobody asked for. */
  restarts = 0
  /** Reloads that replaced every instance. */
  reloads = 0
  #requests = 0
  #errors = 0
  #counted = 0
  #unknown = 0

  /** @param url of the operators' paths of an instance */
  async ask(url: string, token: string | undefined): Promise<void> {
    const metrics = await new Operators(new Target(url, { timeoutMs: askTimeoutMs }), token)
      .metrics()
      .catch(() => undefined)
    const totals = member(metrics, 'totals')
    const [requests, errors] = [member(totals, 'requests'), member(totals, 'errors')]
    if (typeof requests !== 'number' || typeof errors !== 'number') {
      this.miss()
      return
    }
    this.#counted++
    this.#requests += requests
    this.#errors += errors
  }

  /** A process ended before it could be asked. */
  miss(): void {
    this.#unknown++
  }

  /** One sentence. */
  toString(): string {
    const requests = `served ${plural(this.#requests, 'request')}, ${this.#errors} failed (5xx)`
    const missing =
      this.#unknown === 0 ? '' : `, without those of ${plural(this.#unknown, 'instance')} that did not report`
    const served = this.#counted === 0 ? 'no instance reported its requests' : requests + missing
    return `${served}; ${plural(this.restarts, 'restart')}, ${plural(this.reloads, 'reload')}`
  }
}
