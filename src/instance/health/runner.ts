import { once } from 'node:events'
import { FleetError } from '../../base/errors.ts'
import { bool, int, type OptionsOf } from '../../base/options.ts'

/** Fails if it throws, returns `false` or exceeds its timeout; passes otherwise. */
export type Check = (signal: AbortSignal) => unknown

/** @internal */
export const checkOptions = {
  /** Whether losing it makes the instance unready (`true`) or only degraded (`false`). */
  critical: bool,
  /** Time between two runs. */
  intervalMs: int(100, 3_600_000, 'milliseconds'),
  /** Timeout of one run. */
  timeoutMs: int(1, 600_000, 'milliseconds'),
  /** Consecutive passes after which a failed check is up again. */
  rise: int(1, 100),
  /** Consecutive failures after which a check is down. */
  fall: int(1, 100),
}
/** Options of one check. Those that are not given have the values of `checks` in the options of the plugin. */
export type CheckOptions = OptionsOf<typeof checkOptions>

export interface CheckReport {
  /** `pending` until the first run has ended. `degraded`: a run or a use of the dependency failed, fewer than `fall` runs. */
  status: 'up' | 'degraded' | 'down' | 'pending'
  critical: boolean
  /** Duration of the last run in milliseconds. */
  latencyMs: number | null
  /** ISO 8601. */
  lastSuccess: string | null
  /** Message of the last failure; shown to operators only. */
  lastError: string | null
  consecutiveFailures: number
}

/** Time between two runs while a check is degraded, and how long it stays so after a failed use, ms. */
const degradedMs = 1_000

/**
 * A check with its timer and report. The first result counts at once, so an instance becomes ready as soon as its
 * database is available and not before. After that, `fall` failures bring the check down and `rise` passes bring it up,
 * as in HAProxy. A failed run, or a failed use of the dependency, degrades it at once. It then runs every second.
 */
class ScheduledCheck {
  readonly report: CheckReport
  readonly #check: Check
  readonly #options: Required<CheckOptions>
  readonly #changed: (report: CheckReport) => void
  #passes = 0
  #running: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** Time of the last failed use, on the clock of `performance.now()`. */
  #failedAt = Number.NEGATIVE_INFINITY

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
    this.#schedule()
    void this.run()
  }

  /** A use of the dependency failed. Costs a timestamp, except for the first of many failures, which starts a run. */
  failed(error: string): void {
    this.#failedAt = performance.now()
    const { report } = this
    if (report.status !== 'up' || !this.#timer) return
    report.status = 'degraded'
    report.lastError = error
    this.#schedule()
    this.#changed(report)
    void this.run()
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    const { intervalMs } = this.#options
    const again = (): void => void this.run().then(() => this.#timer && this.#schedule())
    // unref: a check must not keep an otherwise finished process alive.
    const waitMs = this.report.status === 'degraded' ? Math.min(intervalMs, degradedMs) : intervalMs
    this.#timer = setTimeout(again, waitMs).unref()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Single-flight: concurrent calls share one run. */
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
      // The race enforces the timeout even if the check ignores its signal.
      const result = await Promise.race([this.#check(signal), timedOut(signal, this.#options.timeoutMs)])
      if (result === false) error = 'returned false'
    } catch (failure) {
      error = failure instanceof Error ? failure.message || failure.name : String(failure)
    }
    this.report.latencyMs = Math.round((performance.now() - started) * 10) / 10
    this.#record(error)
  }

  #record(error: string | null): void {
    const { report } = this
    const before = report.status
    if (error === null) {
      report.lastSuccess = new Date().toISOString()
      report.consecutiveFailures = 0
      this.#passes++
      const isFailing = before === 'degraded' && performance.now() - this.#failedAt < degradedMs
      if (!isFailing && (before !== 'down' || this.#passes >= this.#options.rise)) report.status = 'up'
    } else {
      report.lastError = error
      report.consecutiveFailures++
      this.#passes = 0
      const isDown = before === 'pending' || before === 'down' || report.consecutiveFailures >= this.#options.fall
      report.status = isDown ? 'down' : 'degraded'
      if (this.#timer && before === 'up') this.#schedule()
    }
    if (report.status !== before && (before !== 'pending' || report.status === 'down')) this.#changed(report)
  }
}

async function timedOut(signal: AbortSignal, timeoutMs: number): Promise<never> {
  await once(signal, 'abort')
  throw new FleetError('FLEET_ERR_CHECK_TIMEOUT', `${timeoutMs} ms`)
}

/** Runs checks in the background and keeps their last reports, which are read without I/O. */
export class CheckRunner {
  readonly #checks = new Map<string, ScheduledCheck>()
  readonly #changed: (name: string, report: CheckReport) => void
  #started = false

  /** @param changed called when a check degrades, goes down or comes up again */
  constructor(changed: (name: string, report: CheckReport) => void = () => undefined) {
    this.#changed = changed
  }

  /** @throws FLEET_ERR_CHECK_EXISTS */
  add(name: string, check: Check, options: Required<CheckOptions>): void {
    if (this.#checks.has(name)) throw new FleetError('FLEET_ERR_CHECK_EXISTS', JSON.stringify(name))
    const scheduled = new ScheduledCheck(check, options, (report) => this.#changed(name, report))
    this.#checks.set(name, scheduled)
    if (this.#started) scheduled.start()
  }

  start(): void {
    this.#started = true
    for (const scheduled of this.#checks.values()) scheduled.start()
  }

  stop(): void {
    this.#started = false
    for (const scheduled of this.#checks.values()) scheduled.stop()
  }

  /** A use of the dependency that this check is about failed. */
  failed(name: string, error: string): void {
    this.#checks.get(name)?.failed(error)
  }

  /** Runs every check now. Takes as long as the longest timeout at most. */
  async runAll(): Promise<void> {
    await Promise.all([...this.#checks.values()].map((scheduled) => scheduled.run()))
  }

  /** Names of the first checks, at most `maxLength` characters; those of critical ones end in `!`. */
  names(maxLength: number): string[] {
    const names = Array.from(this.#checks, ([name, { report }]) => (report.critical ? `${name}!` : name))
    let length = 0
    return names.filter((name) => {
      length += name.length
      return length <= maxLength
    })
  }

  reports(): Record<string, CheckReport> {
    return Object.fromEntries([...this.#checks].map(([name, scheduled]) => [name, scheduled.report]))
  }

  /** Names of checks that are not up: critical ones that are down or pending, and others that are down or degraded. */
  unmet(): { down: string[]; pending: string[]; degraded: string[] } {
    const unmet = { down: [] as string[], pending: [] as string[], degraded: [] as string[] }
    for (const [name, { report }] of this.#checks) {
      if (report.status === 'down') (report.critical ? unmet.down : unmet.degraded).push(name)
      else if (report.status === 'degraded') unmet.degraded.push(name)
      else if (report.status === 'pending' && report.critical) unmet.pending.push(name)
    }
    return unmet
  }
}
