import cluster from 'node:cluster'
import { EventEmitter } from 'node:events'
import type { TestContext } from 'node:test'
import type { FromWorker, ToWorker } from '../../src/host/messages.ts'
import type { SupervisorLog, SupervisorOptions } from '../../src/host/options.ts'
import { Supervisor } from '../../src/host/supervisor.ts'

const realTurn = setImmediate

/** Waits until everything that has been caused so far has happened. */
export const turn = (): Promise<void> => new Promise((resolve) => realTurn(() => realTurn(resolve)))

/** Stands in for a process that `node:cluster` has forked. The test decides what it does. */
export class FakeWorker extends EventEmitter {
  readonly env: Readonly<Record<string, unknown>>
  readonly sent: ToWorker[] = []
  readonly signals: string[] = []
  /** Whether the parent closed its copy of the listening sockets. */
  released = false
  connected = true
  readonly process: EventEmitter & { pid: number; kill(signal: string): void }

  constructor(env: Readonly<Record<string, unknown>>, pid: number) {
    super()
    this.env = env
    this.process = Object.assign(new EventEmitter(), { pid, kill: (signal: string) => void this.signals.push(signal) })
    this.process.on('disconnect', () => {
      this.released = true
    })
  }

  isConnected(): boolean {
    return this.connected
  }

  send(message: ToWorker): void {
    this.sent.push(message)
  }

  async tell(...messages: FromWorker[]): Promise<void> {
    for (const message of messages) this.emit('message', message)
    await turn()
  }

  async listen(): Promise<void> {
    this.emit('listening')
    await turn()
  }

  /** As an app with the worker plugin starts. */
  async serve(): Promise<void> {
    await this.tell({ fleet: 'hello' })
    await this.listen()
    await this.tell('ready')
  }

  async end(code: number | null, signal: string | null = null): Promise<void> {
    this.connected = false
    this.process.emit('close', code, signal)
    await turn()
  }
}

export interface Line {
  readonly level: string
  readonly msg: string
  readonly [field: string]: unknown
}

export interface FakeCluster {
  /** All workers that were forked so far. */
  readonly workers: FakeWorker[]
  readonly lines: Line[]
  readonly log: SupervisorLog
  /** Settings that `node:cluster` received. */
  readonly setUp: unknown[]
  /** The worker that was forked as the nth, from 0. */
  worker(index: number): FakeWorker
  logged(msg: string): Line[]
  /** Lets time pass. */
  pass(ms: number): Promise<void>
}

export interface FakeGroup extends Omit<FakeCluster, 'lines' | 'log'> {
  readonly supervisor: Supervisor
  readonly log: Line[]
  /** Number of calls of `onChange`. */
  changes(): number
}

export const readyTimeoutMs = 5_000
export const shutdownTimeoutMs = 30_000
export const killMarginMs = 2_000
/** Delay of each restart with the smallest chance. */
export const restartMs = 100

/** Options of the groups here, apart from the log. */
export const groupOptions = {
  ...{ file: 'app.js', args: ['--color', 'green'], workers: 2, id: 'app', env: {} },
  ...{ readyTimeoutMs, shutdownTimeoutMs, stuckAfterMs: 10_000, memoryLimit: 0 },
} as const

/**
 * Replaces `node:cluster` and the clock by ones that the test controls.
 *
 * @param chance what `Math.random` returns: with 1, delays of restarts are 300, 900, 2,700 ms, …
 */
export function fakeCluster(t: TestContext, chance = 0): FakeCluster {
  const workers: FakeWorker[] = []
  const lines: Line[] = []
  let now = 1_000
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.mock.method(performance, 'now', () => now)
  t.mock.method(Math, 'random', () => chance)
  const setUp: unknown[] = []
  t.mock.method(cluster, 'setupPrimary', (settings: unknown) => void setUp.push(settings))
  t.mock.method(cluster, 'fork', ((env: Record<string, unknown>) => {
    const worker = new FakeWorker(env, 101 + workers.length)
    workers.push(worker)
    return worker
  }) as never)
  const at = (level: string) => (fields: object, msg: string) => void lines.push({ level, msg, ...fields })
  return {
    workers,
    lines,
    log: { info: at('info'), warn: at('warn'), error: at('error') },
    setUp,
    worker: (index) => workers[index] as FakeWorker,
    logged: (msg) => lines.filter((line) => line.msg === msg),
    async pass(ms) {
      for (let rest = ms; rest > 0; rest -= 100) {
        const step = Math.min(100, rest)
        now += step
        t.mock.timers.tick(step)
        await turn()
      }
    },
  }
}

/** A supervisor on a {@link fakeCluster}. */
export function fakeGroup(t: TestContext, options: Partial<SupervisorOptions> = {}, chance = 0): FakeGroup {
  const { lines, log, ...fake } = fakeCluster(t, chance)
  let changes = 0
  const supervisor = new Supervisor({ ...groupOptions, log, onChange: () => void changes++, ...options })
  return { ...fake, supervisor, log: lines, changes: () => changes }
}

/** A group whose workers all serve. */
export async function servingGroup(
  t: TestContext,
  options: Partial<SupervisorOptions> = {},
  chance = 0,
): Promise<FakeGroup> {
  const group = fakeGroup(t, options, chance)
  const started = group.supervisor.start()
  await turn()
  for (const worker of group.workers) await worker.serve()
  await started
  return group
}

/** The counts of replaced workers, by reason, that a scrape of this worker returns. The others do not respond. */
export async function replaced(group: FakeGroup, index: number): Promise<Record<string, number>> {
  const worker = group.worker(index)
  await worker.tell({ fleet: 'scrape', id: 1 })
  await group.pass(1_000)
  const { snapshots } = worker.sent.at(-1) as Extract<ToWorker, { fleet: 'group' }>
  const metric = snapshots.flat().find(({ name }) => name === 'fleet_worker_starts_total')
  return Object.fromEntries(metric?.values.map(({ labels, value }) => [labels.reason, value]) ?? [])
}

export interface Outcome {
  value?: unknown
  error?: { code: string; message: string }
}

/** What a promise has become so far. */
export function outcome(promise: Promise<unknown>): Outcome {
  const outcome: Outcome = {}
  promise.then(
    (value) => Object.assign(outcome, { value: value ?? 'done' }),
    (error) => Object.assign(outcome, { error }),
  )
  return outcome
}
