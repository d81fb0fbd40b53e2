import { setTimeout as sleep } from 'node:timers/promises'
import { plural } from '../output.ts'
import { LocalInstance, type LocalInstanceOptions } from './instances.ts'
import { debounceMs } from './watch.ts'

export interface GroupOptions extends LocalInstanceOptions {
  /** One for each instance, consecutive. With `spare`, one more. */
  ports: readonly number[]
  /** Leave the last port free for {@link InstanceGroup.reload}. */
  spare: boolean
  /** How long an instance may take to drain, ms. */
  shutdownTimeoutMs: number
  /** How long the front takes to notice that an instance is ready, ms. */
  noticeMs: number
}

/**
 * The instances of a fleet, each on a port of its own. The workers of `fleet start` share one port, so a front would see one
 * target; therefore a reload differs, too. It always starts a new instance on the free port before it drains an old one, whose
 * port is the next free one. The last step frees the spare port again, so that addresses stay the same.
 */
export class InstanceGroup {
  readonly #options: GroupOptions
  /** By number, which follows the port. */
  #running: LocalInstance[] = []
  /** Starts and does not serve yet. */
  #next: LocalInstance | undefined
  #stopping = false
  /** What changed after the last reload began. */
  #change: string | undefined
  #reloading: Promise<void> | undefined
  #started = false
  #endWait: (() => void) | undefined

  constructor(options: GroupOptions) {
    this.#options = options
  }

  get all(): readonly LocalInstance[] {
    return this.#running
  }

  /**
   * Resolves when all are ready. With `spare`, a start that failed is repeated after each change.
   *
   * @throws FLEET_ERR_SERVICE_FAILED
   */
  async start(): Promise<void> {
    const { ports, spare, onEvent } = this.#options
    const count = spare ? ports.length - 1 : ports.length
    for (;;) {
      this.#running = ports.slice(0, count).map((_, index) => this.#create(index + 1))
      try {
        await Promise.all(this.#running.map((instance) => instance.start()))
        break
      } catch (error) {
        if (!spare || this.#stopping) throw error
        // The others may start well, or hang.
        await Promise.all(this.#running.map((instance) => instance.stop(0)))
        await this.#settle()
        if (!this.#isOver) onEvent(`not started, waiting for a change: ${(error as Error).message}`)
        await this.#untilChange()
        if (this.#stopping) throw error
        onEvent(`${this.#change} changed; starting ${plural(count, 'instance')}`)
        this.#change = undefined
      }
    }
    this.#started = true
    if (this.#change !== undefined) this.reload(this.#change)
  }

  /** Resolves at once if something changed meanwhile, and when the group stops. */
  async #untilChange(): Promise<void> {
    if (this.#change !== undefined || this.#stopping) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#endWait = resolve
    await promise
  }

  /**
   * Replaces all instances, one after the other; during the start it begins again. If a new one does not become ready, the reload ends and the old ones keep
   * serving. A call during a reload ends that one after its current step, and another one follows.
   *
   * @param change why, for the message
   */
  reload(change: string): void {
    this.#change = change
    this.#endWait?.()
    if (this.#stopping) return
    if (!this.#started) {
      // Ends the start of what is out of date, which then begins again.
      for (const instance of this.#running) void instance.stop(0)
      return
    }
    // What starts is out of date; it may even hang.
    void this.#next?.stop(0)
    this.#reloading ??= this.#reloadWhileChanged()
  }

  /** Drains all. @returns whether every instance exited with 0 */
  async stop(): Promise<boolean> {
    this.#stopping = true
    this.#endWait?.()
    const { shutdownTimeoutMs } = this.#options
    const clean = Promise.all(this.#running.map((instance) => instance.stop(shutdownTimeoutMs)))
    await Promise.all([this.#next?.stop(0), this.#reloading])
    return (await clean).every(Boolean)
  }

  async #reloadWhileChanged(): Promise<void> {
    const { onEvent, tally } = this.#options
    while (this.#change !== undefined && !this.#stopping) {
      onEvent(`${this.#change} changed; reloading ${plural(this.#running.length, 'instance')}`)
      this.#change = undefined
      try {
        await this.#replaceAll()
        if (this.#isOver) continue
        if (tally) tally.reloads++
        onEvent(`reloaded ${plural(this.#running.length, 'instance')}`)
      } catch (error) {
        await this.#settle()
        if (!this.#isOver) onEvent(`not reloaded, the old instances keep serving: ${(error as Error).message}`)
      }
    }
    this.#reloading = undefined
  }

  /** A build that failed may have read a file that was being written: then its change follows, and is what counts. */
  async #settle(): Promise<void> {
    if (!this.#isOver) await sleep(2 * debounceMs)
  }

  /** Whether there is no point in continuing the current reload. */
  get #isOver(): boolean {
    return this.#stopping || this.#change !== undefined
  }

  async #replaceAll(): Promise<void> {
    for (const old of [...this.#running]) if (!this.#isOver) await this.#replace(old)
    const { length } = this.#options.ports
    const last = this.#running.find(({ number }) => number === length)
    if (last && !this.#isOver) await this.#replace(last)
  }

  async #replace(old: LocalInstance): Promise<void> {
    const { ports, shutdownTimeoutMs, noticeMs, onEvent } = this.#options
    const taken = new Set(this.#running.map(({ number }) => number))
    const next = this.#create(ports.findIndex((_, index) => !taken.has(index + 1)) + 1)
    this.#next = next
    try {
      await next.start()
    } catch (error) {
      await next.stop(0)
      throw error
    } finally {
      this.#next = undefined
    }
    if (this.#stopping) return void (await next.stop(shutdownTimeoutMs))
    onEvent(`${next.id} is ready, process ${next.pid}; it replaces ${old.id}`)
    this.#running = [...this.#running, next].sort((a, b) => a.number - b.number)
    // Others serve until the front notices the new one, if there are any.
    if (this.#running.length === 2) await sleep(noticeMs)
    if (this.#stopping) return
    this.#running = this.#running.filter((each) => each !== old)
    if (!(await old.stop(shutdownTimeoutMs))) onEvent(`${old.id} did not exit cleanly`)
  }

  #create(number: number): LocalInstance {
    return new LocalInstance(number, this.#options.ports[number - 1] as number, this.#options)
  }
}
