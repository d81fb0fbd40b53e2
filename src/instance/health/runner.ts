import { FleetError } from '../../base/errors.ts'

/** Fails by throwing, by answering `false`, or by not answering in time; everything else passes. */
export type Check = (signal: AbortSignal) => unknown

export interface CheckOptions {
  /** Whether losing it makes the instance unready (`true`) or only degraded (`false`). @default true */
  critical?: boolean
  /** Time between two runs, 100 to 3,600,000 ms. @default 5000 */
  intervalMs?: number
  /** Bound of one run, 1 to 600,000 ms. @default 2000 */
  timeoutMs?: number
  /** Consecutive passes that bring a failed check back, 1 to 100. @default 2 */
  rise?: number
  /** Consecutive failures that make a check fail, 1 to 100. @default 3 */
  fall?: number
}

export const checkDefaults = {
  critical: true,
  intervalMs: 5_000,
  timeoutMs: 2_000,
  rise: 2,
  fall: 3,
} satisfies Required<CheckOptions>

export interface CheckReport {
  /** `pending` until the first run has ended. */
  status: 'up' | 'down' | 'pending'
  critical: boolean
  /** Duration of the last run in milliseconds. */
  latencyMs: number | null
  /** ISO 8601. */
  lastSuccess: string | null
  /** Text of the last failure; operators only. */
  lastError: string | null
  consecutiveFailures: number
}

/**
 * One check with its memory. The first result counts at once, so that an instance is neither ready before its database
 * nor late; after that it takes `fall` failures to go down and `rise` passes to come back, as in HAProxy.
 */
class Watched {
  readonly report: CheckReport
  readonly #check: Check
  readonly #options: Required<CheckOptions>
  readonly #changed: (report: CheckReport) => void
  #passes = 0
  #running: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(check: Check, options: Required<CheckOptions>, changed: (report: CheckReport) => void) {
    this.#check = check
    this.#options = options
    this.#changed = changed
    this.report = {
      status: 'pending',
      critical: options.critical,
      latencyMs: null,
      lastSuccess: null,
      lastError: null,
      consecutiveFailures: 0,
    }
  }

  start(): void {
    if (this.#timer) return
    const again = (): void => {
      // unref: watching must not keep a process alive that has nothing else to do.
      this.#timer = setTimeout(
        () => void this.run().then(() => this.#timer && again()),
        this.#options.intervalMs,
      ).unref()
    }
    again()
    void this.run()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Single flight: who asks while it runs gets the result of that run. */
  run(): Promise<void> {
    this.#running ??= this.#once().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  async #once(): Promise<void> {
    const started = performance.now()
    const signal = AbortSignal.timeout(this.#options.timeoutMs)
    let error: string | null = null
    try {
      // A check may ignore its signal: the race, not the check, is what ends it in time.
      const result = await Promise.race([this.#call(signal), timedOut(signal, this.#options.timeoutMs)])
      if (result === false) error = 'answered false'
    } catch (failure) {
      error = failure instanceof Error ? failure.message || failure.name : String(failure)
    }
    this.report.latencyMs = Math.round((performance.now() - started) * 10) / 10
    this.#record(error)
  }

  /** Async, so that a check that throws before it returns a promise is caught like any other. */
  async #call(signal: AbortSignal): Promise<unknown> {
    return await this.#check(signal)
  }

  #record(error: string | null): void {
    const { report } = this
    const before = report.status
    if (error === null) {
      report.lastSuccess = new Date().toISOString()
      report.consecutiveFailures = 0
      this.#passes++
      if (before !== 'down' || this.#passes >= this.#options.rise) report.status = 'up'
    } else {
      report.lastError = error
      report.consecutiveFailures++
      this.#passes = 0
      if (before !== 'up' || report.consecutiveFailures >= this.#options.fall) report.status = 'down'
    }
    if (report.status !== before && (before !== 'pending' || report.status === 'down')) this.#changed(report)
  }
}

function timedOut(signal: AbortSignal, timeoutMs: number): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new FleetError('FLEET_ERR_CHECK_TIMEOUT', `${timeoutMs} ms`)), {
      once: true,
    })
  })
}

/** Runs checks in the background and keeps their last results: whoever asks gets an answer without any I/O. */
export class CheckRunner {
  readonly #checks = new Map<string, Watched>()
  readonly #changed: (name: string, report: CheckReport) => void
  #started = false

  /** @param changed called when a check has gone down or come back */
  constructor(changed: (name: string, report: CheckReport) => void = () => undefined) {
    this.#changed = changed
  }

  /** @throws FLEET_ERR_CHECK_EXISTS */
  add(name: string, check: Check, options: Required<CheckOptions>): void {
    if (this.#checks.has(name)) throw new FleetError('FLEET_ERR_CHECK_EXISTS', JSON.stringify(name))
    const watched = new Watched(check, options, (report) => this.#changed(name, report))
    this.#checks.set(name, watched)
    if (this.#started) watched.start()
  }

  start(): void {
    this.#started = true
    for (const watched of this.#checks.values()) watched.start()
  }

  stop(): void {
    this.#started = false
    for (const watched of this.#checks.values()) watched.stop()
  }

  /** Runs every check now; bounded by the longest timeout. */
  async runAll(): Promise<void> {
    await Promise.all([...this.#checks.values()].map((watched) => watched.run()))
  }

  reports(): Record<string, CheckReport> {
    return Object.fromEntries([...this.#checks].map(([name, watched]) => [name, watched.report]))
  }

  /** Names of critical checks that are down, and of those whose first result is still to come. */
  unmet(): { down: string[]; pending: string[]; degraded: string[] } {
    const unmet = { down: [] as string[], pending: [] as string[], degraded: [] as string[] }
    for (const [name, { report }] of this.#checks) {
      if (report.status === 'down') (report.critical ? unmet.down : unmet.degraded).push(name)
      else if (report.status === 'pending' && report.critical) unmet.pending.push(name)
    }
    return unmet
  }
}
