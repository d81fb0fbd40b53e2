import cluster from 'node:cluster'
import { randomBytes } from 'node:crypto'
import { FleetError } from '../base/errors.ts'
import { Backoff } from './backoff.ts'
import { GroupMetrics, workerFigures } from './group-metrics.ts'
import { type Exit, Member } from './member.ts'
import type { FromWorker } from './messages.ts'
import { Watchdog } from './watchdog.ts'

export interface SupervisorOptions {
  /** The program that each worker runs. Each worker reads it anew, so a reload takes a new build. */
  file: string
  /** The program's arguments. */
  args: readonly string[]
  /** Number of workers, 1 to 1024. */
  workers: number
  /** Workers are called `<id>-<number>-<random>`. */
  id: string
  /** How long a worker may take to become ready, 1 to 3,600,000 ms. */
  readyTimeoutMs: number
  /** How long a worker may take to drain and end before it is killed, 1 to 3,600,000 ms. */
  shutdownTimeoutMs: number
  /** A worker that is silent for longer is killed and started again, 1,000 to 3,600,000 ms. */
  stuckAfterMs: number
  /** A worker whose resident set stays above this is replaced, in bytes; 0: never. */
  memoryLimit: number
  /** Added to the environment of the workers; `undefined` takes a variable away. */
  env: Readonly<Record<string, string | undefined>>
  log: SupervisorLog
  /** Called when the number of workers that serve may have changed. */
  onChange: () => void
}

export type SupervisorLog = Readonly<Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>>

/** Why a worker was started in place of another. */
type Reason = 'crash' | 'stuck' | 'memory' | 'reload'

/** A worker's place in the group. */
interface Slot {
  readonly number: number
  readonly backoff: Backoff
  member?: Member
  /** A worker that is to take over, and is not ready yet. */
  next?: Member
  /** Runs out when a worker that ended is to be started again. */
  timer?: NodeJS.Timeout
  /** Waits for its replacement, or had one that did not become ready, and is left alone until this time. */
  tooBig?: 'waiting' | { until: number }
}

/** An app ends within its shutdown timeout, and its plugins within a second more (see lifecycle). */
const killMarginMs = 2_000
/** How long a scrape waits for a worker, ms: well below the 10 s after which Prometheus gives up. */
const scrapeTimeoutMs = 1_000

/**
 * Runs one program in several processes that share its port. There is one group in a process, as there is one
 * `node:cluster`.
 *
 * Scheduling is `SCHED_NONE`: all workers accept from one shared socket. Node's default, round robin, accepts in this
 * process and hands each connection over in a message. Measured with a connection per request (node:http, 2 workers on
 * 2 cores, Node 24, CPU of all processes, three interleaved rounds): round robin 59 to 61 µs per request, `SCHED_NONE`
 * 46 to 49; with a load generator on a core of its own 235 and 75. With kept-alive connections there is no difference.
 * While there is little to do `SCHED_NONE` shares connections unevenly, but a busy worker does not accept, so it evens
 * out when it matters; for the same reason a stuck worker gets no connections, where round robin goes on feeding it.
 * `reusePort` is as cheap, but the kernel resets the connections queued for a worker that closes. Here the queue is
 * everybody's: a worker that leaves loses none of it.
 */
export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #slots: readonly Slot[]
  /** Every living process, those that leave or are not ready yet included. */
  readonly #members = new Set<Member>()
  readonly #metrics = new GroupMetrics(scrapeTimeoutMs)
  readonly #watchdog: Watchdog
  readonly #starts: Record<Reason, number> = { crash: 0, stuck: 0, memory: 0, reload: 0 }
  readonly #stuck = new WeakSet<Member>()
  #phase: 'starting' | 'running' | 'stopping' = 'starting'
  #drained = false
  #turn: Promise<unknown> = Promise.resolve()
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
      onTooBig: (member) => this.#replaceTooBig(member),
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
   * Starts all workers. Resolves when each one serves or has had its time; those that failed beside others that serve
   * are tried again.
   *
   * @throws FLEET_ERR_WORKER_NOT_READY when none serves: whoever started the group should hear of that at once
   */
  start(): Promise<void> {
    // In turn, so that a reload asked for meanwhile follows.
    return this.#inTurn(() => this.#startAll())
  }

  async #startAll(): Promise<void> {
    for (const slot of this.#slots) slot.member = this.#fork(slot)
    await Promise.all(this.#slots.map((slot) => this.#settle(slot)))
    if (this.#phase === 'stopping') return
    if (this.serving.up === 0) {
      throw new FleetError('FLEET_ERR_WORKER_NOT_READY', 'no worker serves; what they wrote says why')
    }
    this.#phase = 'running'
    for (const slot of this.#slots) if (!slot.member) this.#startAgain(slot, 'crash', 0)
    this.#watchdog.start()
  }

  /**
   * Replaces all workers, one after the other: a new one becomes ready, then an old one drains and ends. There is never
   * more than one worker too many, nor one too few. A reload asked for while one runs follows it.
   *
   * @throws FLEET_ERR_WORKER_NOT_READY when a new worker does not become ready; those not replaced yet serve on
   */
  reload(): Promise<void> {
    this.#nextReload ??= this.#inTurn(() => {
      this.#nextReload = undefined
      return this.#roll()
    })
    return this.#nextReload
  }

  /** Drains and ends all workers. @returns the exit code: 0 when all ended by themselves, 1 when something was cut */
  async stop(): Promise<number> {
    this.#phase = 'stopping'
    this.#watchdog.stop()
    for (const slot of this.#slots) clearTimeout(slot.timer)
    const clean = await Promise.all([...this.#members].map((member) => this.#leave(member, false)))
    return clean.every(Boolean) ? 0 : 1
  }

  /** Ends all workers at once. */
  kill(): void {
    for (const member of this.#members) member.kill('SIGKILL')
  }

  async #roll(): Promise<void> {
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
      { ...this.#options.env, ...env },
      {
        message: (from, message) => this.#heard(from, message),
        ended: (who, exit) => this.#ended(slot, who, exit),
      },
    )
    this.#members.add(member)
    return member
  }

  /** Sees a worker through its start when it takes over from nobody: one that only listens is better than none. */
  async #settle(slot: Slot): Promise<void> {
    const { member } = slot
    const { log, readyTimeoutMs: afterMs } = this.#options
    if (!member) return
    const start = await member.started(afterMs)
    const who = { worker: slot.number, workerPid: member.pid }
    if (start === 'ready') log.info(who, 'worker ready')
    if (start === 'listening') log.warn({ ...who, afterMs }, 'worker listens, but is not ready; it is kept')
    if (start === 'silent') {
      log.error({ ...who, afterMs }, 'worker did not listen in time: killed')
      member.kill('SIGKILL')
      await member.ended
    }
    this.#joined(member)
  }

  /** Start before stop. */
  async #replace(slot: Slot, reason: Reason): Promise<void> {
    const { log, readyTimeoutMs } = this.#options
    if (this.#phase !== 'running') throw new FleetError('FLEET_ERR_WORKER_NOT_READY', 'the group is not running')
    clearTimeout(slot.timer)
    // A worker shares the port from the moment it listens, and should not before it is ready. Its own timer is only
    // there for the case that this process cannot end it.
    const next = this.#fork(slot, { FLEET_READY_TIMEOUT: `${readyTimeoutMs + killMarginMs}` })
    slot.next = next
    const start = await next.started(readyTimeoutMs)
    slot.next = undefined
    if (start !== 'ready') {
      // It may have accepted connections meanwhile, so it leaves in good order too.
      await this.#leave(next, true)
      if (!slot.member) this.#startAgain(slot, 'crash', 0)
      const what = start === 'ended' ? 'ended before it was ready' : `was not ready within ${readyTimeoutMs} ms`
      throw new FleetError('FLEET_ERR_WORKER_NOT_READY', `new worker ${slot.number} ${what}; the old one serves on`)
    }
    const old = slot.member
    slot.member = next
    this.#starts[reason]++
    log.info({ worker: slot.number, workerPid: next.pid, reason, replaces: old?.pid }, 'worker ready')
    this.#joined(next)
    if (old && !(await this.#leave(old, true)))
      log.warn({ worker: slot.number, workerPid: old.pid }, 'old worker was cut')
  }

  #leave(member: Member, handover: boolean): Promise<boolean> {
    return member.leave(handover, this.#options.shutdownTimeoutMs + killMarginMs)
  }

  #joined(member: Member): void {
    if (this.#drained) member.send({ fleet: 'drain' })
    this.#options.onChange()
  }

  #ended(slot: Slot, member: Member, exit: Exit): void {
    this.#members.delete(member)
    this.#metrics.depart(member)
    if (slot.member !== member) return
    slot.member = undefined
    this.#options.onChange()
    if (this.#phase === 'stopping') return
    const livedMs = Math.round(member.age)
    this.#options.log.error({ worker: slot.number, workerPid: member.pid, ...exit, livedMs }, 'worker ended')
    if (!slot.next) this.#startAgain(slot, this.#stuck.has(member) ? 'stuck' : 'crash', livedMs)
  }

  #startAgain(slot: Slot, reason: Reason, livedMs: number): void {
    // Before the group runs, `start` decides what becomes of those that failed.
    if (this.#phase !== 'running') return
    const delayMs = slot.backoff.next(livedMs)
    this.#options.log.info({ worker: slot.number, delayMs }, 'worker will be started again')
    slot.timer = setTimeout(() => {
      this.#starts[reason]++
      slot.member = this.#fork(slot)
      void this.#settle(slot)
    }, delayMs)
  }

  #killStuck(member: Member, silentMs: number): void {
    this.#options.log.error({ worker: member.number, workerPid: member.pid, silentMs }, 'worker stuck: killed')
    this.#stuck.add(member)
    // It would not hear anything gentler.
    member.kill('SIGKILL')
  }

  #replaceTooBig(member: Member): void {
    const { log, memoryLimit } = this.#options
    const slot = this.#slots[member.number - 1]
    if (!slot || slot.tooBig === 'waiting' || (slot.tooBig && performance.now() < slot.tooBig.until)) return
    slot.tooBig = 'waiting'
    const who = { worker: slot.number, workerPid: member.pid }
    log.warn({ ...who, rss: member.rss, memoryLimit }, 'worker above its memory limit')
    void this.#inTurn(() => (slot.member === member ? this.#replace(slot, 'memory') : undefined))
      .catch((error) => log.error({ ...who, err: error }, 'worker not replaced'))
      .finally(() => {
        // A program that needs more than the limit from the start must not be replaced without end.
        slot.tooBig = { until: performance.now() + slot.backoff.next(member.age) }
      })
  }

  #heard(member: Member, message: Exclude<FromWorker, 'ready'>): void {
    switch (message.fleet) {
      case 'figures':
        this.#metrics.answer(member, message.snapshots, message.id)
        break
      case 'scrape':
        void this.#scrape(member, message.id)
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
    member.send({ fleet: 'group', id, snapshots: [...snapshots, workerFigures(this.serving, this.#starts)] })
  }

  /** One replacement at a time, whoever asks for it. */
  #inTurn<T>(run: () => T | Promise<T>): Promise<T> {
    const result = this.#turn.then(run)
    this.#turn = result.catch(() => {})
    return result
  }
}
