import { setTimeout as sleep } from 'node:timers/promises'
import { within } from '../base/within.ts'
import { maxText, type PostedKind } from '../state/history/events.ts'
import { Target } from './target.ts'

/** Time limit of one request, and of what is left when the command ends, ms. */
const [requestMs, lastMs] = [1_000, 2_000]
/** Largest number of dashboards that are tried for an event at once. */
const maxTries = 3
/** While no dashboard responds, e.g. that of the only instance, which was killed: the pause between tries, and the last one, ms. */
const [pauseMs, giveUpMs] = [500, 60_000]

export interface ReportedEvent {
  readonly kind: PostedKind
  readonly text: string
  readonly instance?: string
  readonly version?: string
}

export interface ReporterOptions {
  /** Addresses of dashboards, any of which records the events of the fleet. */
  readonly dashboards: () => readonly string[]
  /** FLEET_ADMIN_TOKEN. Without one nothing is reported. */
  readonly token: string | undefined
}

/** Reports events to the fleet's dashboard, in their order. Best effort: nothing waits for it, and it never fails. */
export class Reporter {
  readonly #options: ReporterOptions
  /** The dashboard that accepted the last event. */
  #last: string | undefined
  readonly #closing = new AbortController()
  #isClosed = false
  #queue: Promise<void> = Promise.resolve()

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  add(event: ReportedEvent): void {
    if (this.#options.token === undefined) return
    this.#queue = this.#queue.then(() => this.#post({ ...event, text: event.text.slice(0, maxText) }))
  }

  /** Resolves when all events are sent or were tried once more, or after two seconds, which drops the others. */
  async close(): Promise<void> {
    this.#closing.abort()
    await within(lastMs, this.#queue)
    this.#isClosed = true
  }

  async #post(event: ReportedEvent): Promise<void> {
    const since = performance.now()
    const { signal } = this.#closing
    while (!(await this.#tryPost(event)) && !signal.aborted && performance.now() - since < giveUpMs)
      await sleep(pauseMs, undefined, { ref: false, signal }).catch(() => {})
  }

  /** @returns whether a dashboard responded, even if it did not accept the event */
  async #tryPost(event: ReportedEvent): Promise<boolean> {
    const { dashboards, token } = this.#options
    let hasResponse = false
    const known = dashboards()
    const first = known.filter((url) => url === this.#last)
    const others = known.filter((url) => url !== this.#last)
    for (const url of [...first, ...others].slice(0, maxTries)) {
      if (this.#isClosed) break
      const target = new Target(url, { timeoutMs: requestMs })
      const headers = { authorization: `Bearer ${token}` }
      const { status } = await target.request('/events', { method: 'POST', headers, body: event })
      hasResponse ||= status !== 0
      if (status !== 202) continue
      this.#last = url
      break
    }
    return hasResponse
  }
}
