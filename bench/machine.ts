import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { type Child, launch } from '../src/cli/up/child.ts'
import { freePort } from '../src/cli/up/port.ts'
import type { Job, Message, Result } from './generator.ts'
import { cpuTime, family, residentMemory } from './processes.ts'

/** The measured program runs on one core, the load generator on the other. */
type Side = 'server' | 'generator'
const cores: Readonly<Record<Side, string>> = { server: '0', generator: '1' }

export interface RunOptions {
  /** Added to the environment, in which `NODE_ENV` is `production`. */
  env?: Readonly<Record<string, string | undefined>>
  cwd?: string
  /** Which core. @default 'server' */
  side?: Side
}

/** A started program that listens. */
export interface Program {
  readonly port: number
  readonly pid: number
  readonly child: Child
  stop(): Promise<void>
}

/** Result of one measurement of servers, for `serverMetrics`. */
export interface Measured {
  /** CPU time per response, µs. */
  cpu: number
  rps: number
  p50: number
  p95: number
  p99: number
  /** MiB. */
  rss: number
  /** Requests without a response, or with a status outside 200 to 399. */
  failed: number
  /** All results of the load generator. */
  readonly result: Result
}

/** The machine: its cores, the programs on them, and the load generator. */
export class Machine {
  /** Whether programs are kept on a core each; without, the figures are those of a crowd. */
  readonly pinned: boolean =
    process.platform === 'linux' &&
    availableParallelism() >= 2 &&
    spawnSync('taskset', ['-c', `${cores.server},${cores.generator}`, 'true']).status === 0
  readonly #waiting = new Map<number, { resolve(result: Result): void; reject(error: Error): void }>()
  #generator: ChildProcess | undefined
  #awake: ChildProcess | undefined
  #id = 0

  /** Starts a command on a core. It ends with this process at the latest. */
  run(command: string, args: readonly string[], { env = {}, cwd, side = 'server' }: RunOptions = {}): Child {
    const [first = command, ...rest] = this.#pin(side, command, args)
    return launch(first, rest, { env: { NODE_ENV: 'production', NODE_CHANNEL_FD: undefined, ...env }, cwd })
  }

  /**
   * Starts a file of `programs/` with a free port in `PORT`, and waits until it prints `listening`.
   *
   * @param file e.g. `hello-bare.js`
   */
  async program(file: string, options: RunOptions & { args?: readonly string[] } = {}): Promise<Program> {
    const port = await freePort()
    const path = new URL(`programs/${file}`, import.meta.url).pathname
    const child = this.run(process.execPath, [path, ...(options.args ?? [])], {
      ...options,
      env: { PORT: String(port), ...options.env },
    })
    await child.waitFor(/listening/, 60_000)
    return { port, pid: child.pid, child, stop: () => child.stop(3_000) }
  }

  /** Puts load on a port. */
  load(job: Job): Promise<Result> {
    return this.#send((id) => ({ id, run: job }))
  }

  /** Opens connections, sends one request over each, and keeps them open until the returned function is called. */
  async hold(job: Omit<Job, 'seconds'>): Promise<() => Promise<void>> {
    let held = 0
    await this.#send((id) => {
      held = id
      return { id, hold: { ...job, seconds: 0 } }
    })
    return async () => void (await this.#send((id) => ({ id, release: held })))
  }

  /**
   * Load, with the CPU time and memory of the measured processes.
   *
   * @param pids of the measured processes, including their children
   */
  async measure(job: Job, pids: readonly number[]): Promise<Measured> {
    const all = pids.flatMap(family)
    const before = cpuTime(all)
    const result = await this.load(job)
    const cpu = cpuTime(all) - before
    const { p50, p95, p99 } = result.latency
    const unanswered = Object.values(result.errors).reduce((sum, count) => sum + count, 0)
    return {
      cpu: cpu / result.completed,
      rps: result.completed / result.seconds,
      p50,
      p95,
      p99,
      rss: residentMemory(all),
      failed: result.completed - result.succeeded + unanswered,
      result,
    }
  }

  close(): void {
    this.#generator?.kill()
    this.#awake?.kill()
  }

  #pin(side: Side, command: string, args: readonly string[]): string[] {
    return this.pinned ? ['taskset', '-c', cores[side], command, ...args] : [command, ...args]
  }

  #send(message: (id: number) => Message): Promise<Result> {
    this.#generator ??= this.#startGenerator()
    const id = ++this.#id
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.#generator?.send(message(id))
    })
  }

  /**
   * Keeps the generator's core awake, at a priority below all others (`SCHED_IDLE`). Waking a sleeping core costs the process
   * that does it, here the server when it responds: on a virtual machine up to as much as the response itself, and more
   * often the more time the generator has to fall asleep.
   */
  #keepAwake(): void {
    if (!this.pinned || spawnSync('chrt', ['--idle', '0', 'true']).status !== 0) return
    const file = new URL('awake.ts', import.meta.url).pathname
    const [command = '', ...args] = this.#pin('generator', 'chrt', ['--idle', '0', process.execPath, file])
    this.#awake ??= spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  }

  /** One process for the whole run, so that it is warm when it matters. It ends when this process does. */
  #startGenerator(): ChildProcess {
    this.#keepAwake()
    const file = new URL('generator.ts', import.meta.url).pathname
    const [command = '', ...args] = this.#pin('generator', process.execPath, ['--expose-gc', file])
    const generator = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    generator.on('message', ({ id, result, error }: { id: number; result: Result; error?: string }) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) waiting?.resolve(result)
      else waiting?.reject(new Error(error))
    })
    generator.once('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the load generator ended'))
      this.#waiting.clear()
      // The next call starts another.
      if (this.#generator === generator) this.#generator = undefined
    })
    return generator
  }
}
