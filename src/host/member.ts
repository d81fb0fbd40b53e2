import cluster, { type Worker } from 'node:cluster'
import { releaseSockets } from '../base/internals/cluster-handles.ts'
import { type FromWorker, isFleetMessage, type ToWorker } from './messages.ts'

/** Exit status of a process. */
export interface Exit {
  readonly code: number | null
  readonly signal: string | null
}

/** Result of a start within its time limit: `listening` serves but did not report that it is ready. */
export type Start = 'ready' | 'listening' | 'silent' | 'ended'

export interface MemberHandlers {
  message(member: Member, message: Exclude<FromWorker, 'ready'>): void
  ended(member: Member, exit: Exit): void
}

/** One worker process, from fork to exit. */
export class Member {
  /** Number of its slot in the group, from 1; its replacement has the same number. */
  readonly number: number
  /** INSTANCE_ID: unique, because a worker and its replacement run side by side for a while. */
  readonly id: string
  readonly startedAt: number = performance.now()
  readonly ended: Promise<Exit>
  /** Time of its last message, by `performance.now()`. */
  lastBeat: number = performance.now()
  /** Resident set size in bytes, as last reported. */
  rss = 0
  state: 'starting' | 'listening' | 'ready' | 'stopping' | 'ended' = 'starting'
  /** Whether the app has the worker plugin, and so understands messages besides signals. */
  plugin = false
  readonly #worker: Worker
  /** Whether it has ever accepted connections. */
  #listened = false
  #watchers = new Set<() => void>()

  constructor(number: number, id: string, env: Readonly<Record<string, unknown>>, handlers: MemberHandlers) {
    this.number = number
    this.id = id
    this.#worker = cluster.fork({ ...env, FLEET_WORKER: number, INSTANCE_ID: id })
    this.#worker.on('listening', () => {
      this.#listened = true
      this.lastBeat = performance.now()
      // An app without the plugin cannot report more than that it listens.
      if (this.state === 'starting') this.#move(this.plugin ? 'listening' : 'ready')
    })
    this.#worker.on('message', (message: FromWorker) => {
      this.lastBeat = performance.now()
      if (message === 'ready') {
        if (this.state === 'starting' || this.state === 'listening') this.#move('ready')
      } else if (isFleetMessage<Exclude<FromWorker, 'ready'>>(message)) {
        if (message.fleet === 'hello') this.plugin = true
        else if (message.fleet === 'beat') this.rss = message.rss
        else handlers.message(this, message)
      }
    })
    this.#worker.on('error', () => {})
    this.ended = new Promise((resolve) => {
      // `close`, not `exit`: by then the last message was read too.
      this.#worker.process.once('close', (code, signal) => {
        this.#move('ended')
        handlers.ended(this, { code, signal })
        resolve({ code, signal })
      })
    })
  }

  get pid(): number {
    return this.#worker.process.pid ?? 0
  }

  /** Whether it should be responsive, so that the watchdog applies to it. */
  get up(): boolean {
    return this.state === 'listening' || this.state === 'ready'
  }

  /** Milliseconds since the fork. */
  get age(): number {
    return performance.now() - this.startedAt
  }

  /** Waits until the worker is ready or has ended, at most `timeoutMs`. */
  started(timeoutMs: number): Promise<Start> {
    return new Promise((resolve) => {
      const settle = (start: Start): void => {
        clearTimeout(timer)
        this.#watchers.delete(check)
        resolve(start)
      }
      const check = (): void => {
        if (this.state === 'ready') settle('ready')
        else if (this.state === 'ended' || this.state === 'stopping') settle('ended')
      }
      const timer = setTimeout(() => settle(this.state === 'listening' ? 'listening' : 'silent'), timeoutMs)
      this.#watchers.add(check)
      check()
    })
  }

  /**
   * Asks the worker to drain and exit, and kills it after `timeoutMs`.
   *
   * @param handover others keep listening on the same port: it need not wait for the load balancer to notice
   * @returns whether it ended by itself and lost nothing
   */
  async stop(handover: boolean, timeoutMs: number): Promise<boolean> {
    if (this.state !== 'ended') this.#move('stopping')
    // A worker without a successor is the last one to accept on its sockets.
    if (!handover && this.#worker.isConnected()) releaseSockets(this.#worker)
    // An app without the plugin, or before the plugin is loaded, understands SIGTERM only.
    if (!this.plugin || !this.send({ fleet: 'shutdown', handover })) this.kill('SIGTERM')
    const timer = setTimeout(() => this.kill('SIGKILL'), timeoutMs)
    const { code, signal } = await this.ended
    clearTimeout(timer)
    // A worker that is still starting may fail to listen, because this process has closed its sockets.
    return code === 0 || signal === 'SIGTERM' || (!this.#listened && signal === null)
  }

  kill(signal: NodeJS.Signals): void {
    this.#worker.process.kill(signal)
  }

  /** @returns whether there was a channel to send it on */
  send(message: ToWorker): boolean {
    if (!this.#worker.isConnected()) return false
    this.#worker.send(message, undefined, () => {})
    return true
  }

  collect(id: number): boolean {
    return this.send({ fleet: 'collect', id })
  }

  #move(state: Member['state']): void {
    this.state = state
    for (const watch of this.#watchers) watch()
  }
}
