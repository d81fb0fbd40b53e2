import { globSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Child, launch, temporaryFolder } from '../../../src/cli/up/child.ts'
import { type Program, provide } from '../../../src/cli/up/install.ts'
import { until } from '../../helpers/until.ts'
import type { Command } from './instance.fixture.ts'

const program = new URL('instance.fixture.ts', import.meta.url).pathname

/** A handler's run, with the statuses that it was about to send. */
export interface Run {
  readonly pid: number
  readonly statuses: number[]
  /** Its process was killed or ended by itself. */
  died: boolean
}

/** Runs of handlers of all instances, by the request's id. */
export class Runs {
  readonly #byId = new Map<string, Run[]>()

  of(id: string): readonly Run[] {
    return this.#byId.get(id) ?? []
  }

  /** @returns reads the output of one process */
  reader(pid: () => number): (text: string) => void {
    let rest = ''
    return (text) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const [verb, id = '', status] = line.split(' ')
        const runs = this.#byId.get(id) ?? []
        if (verb === 'ran') this.#byId.set(id, [...runs, { pid: pid(), statuses: [], died: false }])
        if (verb === 'sent') runs.findLast((run) => run.pid === pid())?.statuses.push(Number(status))
      }
    }
  }

  died(pid: number): void {
    for (const runs of this.#byId.values()) for (const run of runs) if (run.pid === pid) run.died = true
  }
}

const faketime: Program = { title: 'libfaketime', names: ['faketime'], apt: ['faketime'], brew: 'libfaketime' }

/** The library that changes the clock of a process, or why there is none. */
export async function clockLibrary(): Promise<{ path?: string; missing?: string }> {
  try {
    await provide(faketime)
    const [path] = globSync('/usr/lib/*/faketime/libfaketime.so.1')
    return path ? { path } : { missing: 'libfaketime.so.1 is not where Debian has it' }
  } catch (error) {
    return { missing: (error as Error).message }
  }
}

export interface InstanceOptions {
  port: number
  agentPort: number
  env: Record<string, string | undefined>
  runs: Runs
  /** A library of {@link clockLibrary}. */
  clock?: string | undefined
  /** A resolv.conf of its own; requires root. */
  resolver?: string | undefined
}

/** A process of the shop, at an address of its own. It is started again only by {@link Instance.start}. */
export class Instance {
  readonly port: number
  readonly #options: InstanceOptions
  readonly #clockFile = join(temporaryFolder('clock'), 'offset')
  child: Child | undefined

  constructor(options: InstanceOptions) {
    this.#options = options
    this.port = options.port
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  get pid(): number {
    return (this.child as Child).pid
  }

  /** Starts it and waits until it is ready. */
  async start(): Promise<void> {
    const child = this.launch()
    const isReady = async (): Promise<boolean> =>
      (await fetch(`${this.url}/ready`, { signal: AbortSignal.timeout(3000) })).ok
    await until(async () => child.ended || (await isReady()), { what: `the instance on port ${this.port}` })
    if (child.ended) throw new Error(`an instance ended: ${child.stderr}`)
  }

  launch(): Child {
    const { port, agentPort, env, runs, clock, resolver } = this.#options
    this.setClock(0)
    const node = [process.execPath, '--max-old-space-size=128', program]
    const plain = `exec env ${clock ? `LD_PRELOAD=${clock}` : ''} "$@"`
    // A mount namespace of its own ends with the process.
    const mounted = `mount --bind "$0" /etc/resolv.conf && ${plain}`
    const [command, args] = resolver
      ? (['unshare', ['-m', '/bin/sh', '-c', mounted, resolver, ...node]] as const)
      : (['/bin/sh', ['-c', plain, '-', ...node]] as const)
    const child: Child = launch(command, args, {
      env: {
        NODE_TEST_CONTEXT: undefined,
        NODE_ENV: undefined,
        FAKETIME_TIMESTAMP_FILE: clock && this.#clockFile,
        FAKETIME_CACHE_DURATION: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        PORT: String(port),
        FLEET_AGENT_PORT: String(agentPort),
        ...env,
      },
      ipc: true,
      stopSignal: 'SIGKILL',
      onOutput: runs.reader(() => child.pid),
    })
    this.child = child
    child.exit.then(() => runs.died(child.pid))
    return child
  }

  /** @param offset in seconds from the real time */
  setClock(offset: number): void {
    writeFileSync(this.#clockFile, `${offset < 0 ? '' : '+'}${offset}`)
  }

  send(command: Command): void {
    if (!this.child?.ended) this.child?.send(command)
  }

  /** Open descriptors. */
  get descriptors(): number {
    return globSync(`/proc/${this.pid}/fd/*`).length
  }
}
