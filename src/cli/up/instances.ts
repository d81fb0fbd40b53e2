import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { FleetError } from '../../base/errors.ts'
import { Backoff } from '../../host/backoff.ts'
import { Target } from '../target.ts'
import { type Child, launch } from './child.ts'
import { lastLines, noOutput } from './server.ts'
import type { Tally } from './tally.ts'
import { whyEnded, whyUnready } from './unready.ts'

export interface LocalInstanceOptions {
  /** The program that each instance runs. */
  file: string
  /** Management port of the first instance; the others use the following ports. @default none */
  adminPort?: number
  /** Port for agent checks of the first instance; the others use the following ports. @default none */
  agentPort?: number
  /** Counts what the instances did. @default nothing is counted */
  tally?: Tally
  /** Added to the environment of every instance. */
  env: Readonly<Record<string, string | undefined>>
  /** Called when an instance ends by a signal or with an exit code other than 0, although nobody stopped it. */
  onKilled?(id: string, how: string): void
  /** Called with a message when an instance exits, restarts or is ready. */
  onEvent(line: string): void
  /** Called with each chunk of output of an instance, to keep it. */
  onLog?(id: string, text: string, stream: 'stdout' | 'stderr'): void
  /** The same, to show it. */
  onOutput?(id: string, text: string, stream: 'stdout' | 'stderr', group: string): void
}

/** Limit from the start of an instance until it is ready, ms. */
const readyTimeoutMs = 60_000
/** Time after which the reason of an instance that is not ready is reported, ms; at most three seconds with {@link probeTimeoutMs}. */
const explainAfterMs = 1_800
const probeTimeoutMs = 1_000
/** Time after which a program that does not listen yet is told how, ms. A slow start is no mistake. */
const adviseAfterMs = 15_000
/** Time for which a response must last before waiting counts as pointless, ms. */
const settleMs = 500
/** Interval of readiness checks during the start, ms. */
const pollMs = 50
/** Time between an instance's own shutdown deadline and SIGKILL, ms. */
export const killMarginMs = 2_000

/** A process of the program, which is restarted when it exits. */
export class LocalInstance {
  /** From 1; it decides the ports and is part of the id. */
  readonly number: number
  readonly port: number
  readonly #options: LocalInstanceOptions
  readonly #backoff = new Backoff({ capMs: 10_000 })
  readonly #stopping = new AbortController()
  #child: Child | undefined
  #id = ''
  #supervised: Promise<void> | undefined
  /** Why it is not ready, once that was reported. */
  #reason = ''

  constructor(number: number, port: number, options: LocalInstanceOptions) {
    this.number = number
    this.port = port
    this.#options = options
  }

  /** A new id for each start, so that stale records of the previous process do not apply to it. */
  get id(): string {
    return this.#id
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  /** URL of its operators' paths. */
  get operatorsUrl(): string {
    return `http://127.0.0.1:${this.#adminPort || this.port}`
  }

  get agentPort(): number | undefined {
    const { agentPort } = this.#options
    return agentPort && agentPort + this.number - 1
  }

  /** 0 would choose a different port for each start, so it counts as unset. */
  get #adminPort(): number | undefined {
    const { adminPort } = this.#options
    return adminPort ? adminPort + this.number - 1 : undefined
  }

  /**
   * Resolves when it is ready.
   *
   * @throws FLEET_ERR_SERVICE_FAILED with its last output if it exited or was not ready in time
   */
  async start(): Promise<void> {
    const child = this.#launch()
    if (!(await this.#untilReady(child, AbortSignal.timeout(readyTimeoutMs), true))) {
      // Its last output may not have been read yet.
      if (child.ended) await child.exit
      throw this.#notReady(child)
    }
    this.#supervised = this.#supervise(child)
  }

  #notReady(child: Child): FleetError {
    const { file } = this.#options
    const { ended } = child
    const how = ended ? `ended with ${ended.signal ?? ended.code}` : 'did not become ready'
    const why = ended ? whyEnded(ended.code, child.stderr + child.stdout, this.port) : this.#reason
    // Shown already if the output is.
    const output = this.#options.onOutput ? '' : lastLines(child, 20)
    const detail = [`${file} ${how}`, why, why && output === noOutput ? '' : output].filter(Boolean).join(': ')
    return new FleetError('FLEET_ERR_SERVICE_FAILED', detail)
  }

  /**
   * Drains it, and kills it if that takes longer than `shutdownTimeoutMs` plus two seconds.
   *
   * @returns whether it exited with 0
   */
  async stop(shutdownTimeoutMs: number): Promise<boolean> {
    this.#stopping.abort()
    const { tally, env } = this.#options
    if (this.#supervised && !this.#child?.ended) await tally?.ask(this.operatorsUrl, env.FLEET_ADMIN_TOKEN)
    await this.#child?.stop(shutdownTimeoutMs + killMarginMs)
    await this.#supervised
    return this.#child === undefined || this.#child.ended?.code === 0
  }

  #launch(): Child {
    const { file, env, onLog, onOutput } = this.#options
    const group = `app-${this.number}`
    const id = `${group}-${randomBytes(2).toString('hex')}`
    const child = launch(process.execPath, [...process.execArgv, file], {
      env: {
        ...env,
        PORT: String(this.port),
        HOST: '127.0.0.1',
        FLEET_ADMIN_PORT: this.#adminPort?.toString(),
        FLEET_ADMIN_HOST: '127.0.0.1',
        ...(this.agentPort && { FLEET_AGENT_PORT: String(this.agentPort) }),
        INSTANCE_ID: id,
      },
      onOutput(text, stream) {
        onLog?.(id, text, stream)
        onOutput?.(id, text, stream, group)
      },
    })
    this.#id = id
    this.#child = child
    return child
  }

  async #supervise(first: Child): Promise<void> {
    const { onEvent, onKilled, tally } = this.#options
    const { signal: stopping } = this.#stopping
    for (let child = first, since = performance.now(), ready = true; ; ) {
      const { code, signal } = await child.exit
      if (stopping.aborted) return
      // A clean exit of a ready instance was requested, e.g. by a signal: no backoff.
      if (code !== 0) onKilled?.(this.#id, signal ?? `exit code ${code}`)
      const waitMs = ready && code === 0 ? 0 : this.#backoff.next(performance.now() - since)
      const last = code === 0 || signal ? '' : `\n${lastLines(child)}`
      onEvent(`${this.#id} ended with ${signal ?? code}; it is started again in ${waitMs} ms${last}`)
      await sleep(waitMs, undefined, { signal: stopping }).catch(() => undefined)
      if (stopping.aborted) return
      if (tally) tally.restarts++
      tally?.miss()
      child = this.#launch()
      since = performance.now()
      ready = await this.#untilReady(child, AbortSignal.any([stopping, AbortSignal.timeout(readyTimeoutMs)]))
      if (!ready && !child.ended && !stopping.aborted) {
        onEvent(`${this.#id} runs, but ${this.url}/ready does not respond 200`)
        ready = await this.#untilReady(child, stopping)
      }
      if (ready) onEvent(`${this.#id} is ready, process ${child.pid}`)
    }
  }

  /**
   * @param giveUp return when waiting is pointless
   * @returns false when the process exited or `signal` was aborted first
   */
  async #untilReady(child: Child, signal: AbortSignal, giveUp = false): Promise<boolean> {
    const start = performance.now()
    let finalSince: number | undefined
    let isSlow = false
    this.#reason = ''
    while (!child.ended && !signal.aborted) {
      // A new connection each time, so that no idle one delays the exit of the instance.
      const response = await new Target(this.url, { timeoutMs: probeTimeoutMs }).request('/ready')
      if (response.status === 200) return !child.ended
      const { text, final, starting } = whyUnready(child.pid, this.port, response)
      const now = performance.now()
      finalSince = final ? (finalSince ?? now) : undefined
      const isDue = final && giveUp ? now - (finalSince ?? now) > settleMs : now - start > explainAfterMs
      if (isDue && starting && now - start < adviseAfterMs) {
        if (!isSlow && !child.ended) this.#options.onEvent(`${this.#id} is still starting`)
        isSlow = true
      } else if (isDue && !child.ended && text !== this.#reason) {
        this.#reason = text
        if (final && giveUp) return false
        this.#options.onEvent(`${this.#id} is not ready: ${text}`)
      }
      await sleep(pollMs)
    }
    return false
  }
}
