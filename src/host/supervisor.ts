// Several processes of one program on one port, as started by `fleet start`. In the parent process:
//   run.ts         signals, control socket and service manager around a Supervisor; the entry of the command
//   supervisor.ts  the group: which workers run; starts, reloads, replaces, drains and stops them
//   member.ts      one worker process, from fork to exit; backoff.ts delays its restart after a crash
//   watchdog.ts    finds stuck workers and workers that use too much memory
//   group-metrics.ts  one `/metrics` for all workers
// In each worker: worker.ts, a plugin, and ready.ts. Both sides exchange the messages of messages.ts.
import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import { FleetError } from '../base/errors.ts'
import { Backoff } from './backoff.ts'
import { GroupMetrics, workerMetrics } from './group-metrics.ts'
import { type Exit, Member } from './member.ts'
import type { FromWorker } from './messages.ts'
import type { SupervisorOptions } from './options.ts'
import type { Reason, Slot } from './slot.ts'
import { Watchdog } from './watchdog.ts'

/** An app shuts down within its timeout, and its plugins within one more second (see lifecycle). */
const killMarginMs = 2_000
/** How long a scrape waits for a worker, ms: well below the 10 s after which Prometheus gives up. */
const scrapeTimeoutMs = 1_000

/**
 * Runs one program in several processes that share its port. A process has one group, because it has one `node:cluster`.
 *
 * Scheduling is `SCHED_NONE`: all workers accept from one shared socket. Node's default, round robin, accepts in this
 * process and passes each connection on in a message. Measured with a connection per request (node:http, 2 workers on
 * 2 cores, Node 24, CPU of all processes, three interleaved rounds): round robin 59 to 61 µs per request, `SCHED_NONE`
 * 46 to 49; with a load generator on a separate core 235 and 75. With kept-alive connections there is no difference.
 * Under low load `SCHED_NONE` distributes connections unevenly. A busy worker does not accept, so the distribution evens
 * out under load, and a stuck worker receives no connections, whereas round robin keeps assigning them to it. `reusePort`
 * is as cheap, but the kernel resets the connections queued for a worker that closes. Here all workers share the queue,
 * so a stopping worker loses none of it.
 */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #slots: readonly Slot[]
  /** All running processes, including those that are stopping or not ready yet. */
  readonly #members = new Set<Member>()
  readonly #metrics = new GroupMetrics(scrapeTimeoutMs)
  readonly #watchdog: Watchdog
  readonly #starts: Record<Reason, number> = { crash: 0, stuck: 0, memory: 0, reload: 0 }
  readonly #stuck = new WeakSet<Member>()
  #phase: 'starting' | 'running' | 'stopping' = 'starting'
  #drained = false
  /** Why no worker can run. */
  #refusal: FleetError | undefined
  /** Settles after the last queued operation. */
  #queue: Promise<unknown> = Promise.resolve()
  #nextReload: Promise<void> | undefined

  constructor(options: SupervisorOptions) {
    this.#options = options
    this.#slots = Array.from({ length: options.workers }, (_, i) => ({ number: i + 1, backoff: new Backoff() }))
    const { stuckAfterMs, memoryLimit } = options
    this.#watchdog = new Watchdog({
      stuckAfterMs,
      memoryLimit,
      members: () => this.#slots.flatMap(({ member }) => member ?? []),
      onStuck: (member, silentMs) => this.#killStuck(member, silentMs),
      onMemoryLimit: (member) => this.#replaceOverLimit(member),
    })
    cluster.schedulingPolicy = cluster.SCHED_NONE
    cluster.setupPrimary({ exec: options.file, args: [...options.args] })
  }

  /** How many workers serve, and how many of those are ready. */
  get serving(): { up: number; ready: number; of: number } {
    const members = this.#slots.flatMap(({ member }) => member ?? [])
    const ready = members.filter(({ state }) => state === 'ready').length
    return { up: members.filter(({ up }) => up).length, ready, of: this.#slots.length }
  }

  /**
   * Starts all workers. Resolves when each one serves or its time is over. If at least one serves, the failed ones are
   * restarted.
   *
   * @throws FLEET_ERR_WORKER_NOT_READY when no worker serves, or the error with which the workers refused to run
   */
  start(): Promise<void> {
    // Queued, so that a concurrent reload follows.
    return this.#enqueue(() => this.#startAll())
  }

  async #startAll(): Promise<void> {
    for (const slot of this.#slots) slot.member = this.#fork(slot)
    await Promise.all(this.#slots.map((slot) => this.#settle(slot)))
    if (this.#phase === 'stopping') return
    if (this.serving.up === 0) {
      throw (
        this.#refusal ?? new FleetError('FLEET_ERR_WORKER_NOT_READY', 'no worker serves; their output has the reason')
      )
    }
    this.#phase = 'running'
    for (const slot of this.#slots) if (!slot.member) this.#restart(slot, 'crash', 0)
    this.#watchdog.start()
  }

  /**
   * Replaces all workers one at a time: a new one becomes ready, then the old one drains and exits. So there is at most one
   * extra worker, and never one too few. A reload requested during another one follows it.
   *
   * @throws FLEET_ERR_WORKER_NOT_READY when a new worker does not become ready; workers not replaced yet keep serving
   */
  reload(): Promise<void> {
    this.#nextReload ??= this.#enqueue(() => {
      this.#nextReload = undefined
      return this.#replaceAll()
    })
    return this.#nextReload
  }

  /** Drains and stops all workers. @returns the exit code: 0 when all exited by themselves, else 1 */
  async stop(): Promise<number> {
    this.#phase = 'stopping'
    this.#watchdog.stop()
    for (const slot of this.#slots) clearTimeout(slot.timer)
    const clean = await Promise.all([...this.#members].map((member) => this.#stopMember(member, false)))
    return clean.every(Boolean) ? 0 : 1
  }

  /** Kills all workers. */
  kill(): void {
    for (const member of this.#members) member.kill('SIGKILL')
  }

  async #replaceAll(): Promise<void> {
    const { log, workers } = this.#options
    log.info({ workers }, 'reloading')
    for (const [replaced, slot] of this.#slots.entries()) {
      try {
        await this.#replace(slot, 'reload')
      } catch (error) {
        log.error({ err: error, replaced, kept: workers - replaced }, 'reload abandoned')
        throw error
      }
    }
    log.info({ workers }, 'reloaded')
  }

  #fork(slot: Slot, env: Record<string, string> = {}): Member {
    const id = `${this.#options.id}-${slot.number}-${randomBytes(3).toString('hex')}`
    const member = new Member(
      slot.number,
      id,
      { FLEET_WORKERS: this.#options.workers, ...this.#options.env, ...env },
      {
        message: (from, message) => this.#onMessage(from, message),
        ended: (member, exit) => this.#onEnd(slot, member, exit),
      },
    )
    this.#members.add(member)
    return member
  }

  /** Waits for a worker that replaces none: one that listens without being ready is better than none. */
  async #settle(slot: Slot): Promise<void> {
    const { member } = slot
    const { log, readyTimeoutMs: afterMs } = this.#options
    if (!member) return
    const start = await member.started(afterMs)
    const worker = { worker: slot.number, workerPid: member.pid }
    if (start === 'ready') log.info(worker, 'worker ready')
    if (start === 'listening') log.warn({ ...worker, afterMs }, 'worker listens but is not ready; keeping it')
    if (start === 'silent') {
      log.error({ ...worker, afterMs }, 'worker did not listen in time: killed')
      member.kill('SIGKILL')
      await member.ended
    }
    this.#onStart(member)
  }

  /** Starts a replacement, waits until it is ready, and then stops the old worker. */
  async #replace(slot: Slot, reason: Reason): Promise<void> {
    const { log, readyTimeoutMs } = this.#options
    if (this.#phase !== 'running') throw new FleetError('FLEET_ERR_WORKER_NOT_READY', 'the group is not running')
    clearTimeout(slot.timer)
    // A worker receives requests as soon as it listens, so it listens only once it is ready. Its own timeout covers the
    // case that this process cannot kill it.
    const next = this.#fork(slot, { FLEET_READY_TIMEOUT: `${readyTimeoutMs + killMarginMs}` })
    slot.next = next
    const start = await next.started(readyTimeoutMs)
    slot.next = undefined
    if (start !== 'ready') {
      // It may have accepted connections by now, so it drains too.
      await this.#stopMember(next, true)
      if (!slot.member) this.#restart(slot, 'crash', 0)
      const what = start === 'ended' ? 'ended before it was ready' : `was not ready within ${readyTimeoutMs} ms`
      throw new FleetError('FLEET_ERR_WORKER_NOT_READY', `new worker ${slot.number} ${what}; the old one keeps serving`)
    }
    const old = slot.member
    slot.member = next
    this.#starts[reason]++
    log.info({ worker: slot.number, workerPid: next.pid, reason, replaces: old?.pid }, 'worker ready')
    this.#onStart(next)
    if (old && !(await this.#stopMember(old, true)))
      log.warn({ worker: slot.number, workerPid: old.pid }, 'old worker was killed before it had drained')
  }

  #stopMember(member: Member, handover: boolean): Promise<boolean> {
    return member.stop(handover, this.#options.shutdownTimeoutMs + killMarginMs)
  }

  #onStart(member: Member): void {
    if (this.#drained) member.send({ fleet: 'drain' })
    this.#options.onChange()
  }

  #onEnd(slot: Slot, member: Member, exit: Exit): void {
    this.#members.delete(member)
    this.#metrics.remove(member)
    if (slot.member !== member) return
    slot.member = undefined
    this.#options.onChange()
    if (this.#phase === 'stopping') return
    const uptimeMs = Math.round(member.age)
    this.#options.log.error({ worker: slot.number, workerPid: member.pid, ...exit, uptimeMs }, 'worker ended')
    this.#report(member, exit)
    if (!slot.next) this.#restart(slot, this.#stuck.has(member) ? 'stuck' : 'crash', uptimeMs)
  }

  /** Another worker records the end in the history of the fleet. */
  #report({ id }: Member, { code, signal }: Exit): void {
    if (code === 0) return
    const witness = [...this.#members].find(({ plugin, up }) => plugin && up)
    witness?.send({ fleet: 'ended', instance: id, how: signal ?? `exit code ${code}` })
  }

  #restart(slot: Slot, reason: Reason, uptimeMs: number): void {
    // Before the group runs, `start` handles workers that failed.
    if (this.#phase !== 'running') return
    const delayMs = slot.backoff.next(uptimeMs)
    this.#options.log.info({ worker: slot.number, delayMs }, 'restarting worker')
    slot.timer = setTimeout(() => {
      this.#starts[reason]++
      slot.member = this.#fork(slot)
      void this.#settle(slot)
    }, delayMs)
  }

  #killStuck(member: Member, silentMs: number): void {
    this.#options.log.error({ worker: member.number, workerPid: member.pid, silentMs }, 'worker stuck: killed')
    this.#stuck.add(member)
    // A blocked process handles no other signal.
    member.kill('SIGKILL')
  }

  #replaceOverLimit(member: Member): void {
    const { log, memoryLimit } = this.#options
    const slot = this.#slots[member.number - 1]
    const state = slot?.overLimit
    if (!slot || state === 'waiting' || (state && performance.now() < state.until)) return
    slot.overLimit = 'waiting'
    const worker = { worker: slot.number, workerPid: member.pid }
    log.warn({ ...worker, rss: member.rss, memoryLimit }, 'worker above its memory limit')
    void this.#enqueue(() => (slot.member === member ? this.#replace(slot, 'memory') : undefined))
      .catch((error) => log.error({ ...worker, err: error }, 'worker not replaced'))
      .finally(() => {
        // A program that always needs more than the limit must not be replaced in a loop.
        slot.overLimit = { until: performance.now() + slot.backoff.next(member.age) }
      })
  }

  #onMessage(member: Member, message: Exclude<FromWorker, 'ready'>): void {
    switch (message.fleet) {
      case 'figures':
        this.#metrics.receive(member, message.snapshots, message.id)
        break
      case 'scrape':
        void this.#scrape(member, message.id)
        break
      case 'refused':
        this.#refusal = new FleetError('FLEET_ERR_MEMORY_IN_WORKERS', message.detail)
        break
      case 'drain':
      case 'undrain':
        this.#drained = message.fleet === 'drain'
        for (const other of this.#members) if (other !== member) other.send({ fleet: message.fleet })
    }
  }

  async #scrape(member: Member, id: number): Promise<void> {
    const sources = [...this.#members].filter(({ plugin, state }) => plugin && state !== 'starting')
    const snapshots = await this.#metrics.gather(sources)
    member.send({ fleet: 'group', id, snapshots: [...snapshots, workerMetrics(this.serving, this.#starts)] })
  }

  /** Runs starts and replacements one at a time. */
  #enqueue<T>(run: () => T | Promise<T>): Promise<T> {
    const result = this.#queue.then(run)
    this.#queue = result.catch(() => {})
    return result
  }
}
