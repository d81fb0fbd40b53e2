import { type App, forkApp } from '../helpers/fork-app.ts'
import { until } from '../helpers/until.ts'
import { get } from './front.ts'

const file = new URL('instance.fixture.ts', import.meta.url)
const methods = ['GET', 'POST', 'PUT', 'HEAD', 'PATCH', 'DELETE'] as const
let sent = 0

/** A real instance on a fixed port that can be replaced. */
export class Replaceable {
  readonly port: number
  readonly #env: Record<string, string | number>
  #app: App | undefined
  /** What its processes have written so far. */
  readonly #past: App[] = []

  constructor(port: number, env: Record<string, string | number>) {
    this.port = port
    this.#env = env
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  async start(): Promise<this> {
    this.#app = forkApp(file, { args: [String(this.port)], env: this.#env })
    await this.#app.waitFor(/listening/, 60_000)
    return this
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const app = this.#app as App
    await app.kill(signal)
    this.#past.push(app)
  }

  async replace(signal: NodeJS.Signals): Promise<void> {
    await this.kill(signal)
    await this.start()
  }

  /** `METHOD id` of each request that it has run. */
  get runs(): string[] {
    return [...this.#past, this.#app].flatMap((app) => app?.stdout.match(/(?<=ran )\w+ \d+/g) ?? [])
  }
}

/** Constant load on one path. */
export class Load {
  /** `METHOD id reason` of each request without a 200 from the expected pool. */
  readonly failures: string[] = []
  completed = 0
  readonly #clients: Promise<void>[]
  #running = true

  constructor(url: string, pool: string, clients = 4) {
    this.#clients = Array.from({ length: clients }, async () => {
      while (this.#running) await this.#send(url, pool)
    })
  }

  async #send(url: string, pool: string): Promise<void> {
    const id = sent++
    const method = methods[id % methods.length] as (typeof methods)[number]
    const failed = await get(`${url}/run/${id}`, { method }).then(
      ({ status, text }) => {
        if (status !== 200) return `${status} ${text}`
        return method === 'HEAD' || JSON.parse(text).pool === pool ? undefined : `from ${text}`
      },
      (error: Error) => String(error),
    )
    this.completed++
    if (failed) this.failures.push(`${method} ${id} ${failed}`)
  }

  /** Waits for further requests, so that what happened before has taken effect on some. */
  async more(count = 30): Promise<void> {
    const mark = this.completed
    await until(() => this.completed >= mark + count)
  }

  async stop(): Promise<void> {
    this.#running = false
    await Promise.all(this.#clients)
  }
}

/** Whether a line starts with a method that may change something. */
export const isUnsafe = (line: string): boolean => !/^(?:GET|HEAD)/.test(line)

/** Unsafe requests that ran twice. */
export function repeated(instances: readonly Replaceable[]): string[] {
  const runs = instances.flatMap((instance) => instance.runs).filter(isUnsafe)
  return runs.filter((run, i) => runs.indexOf(run) !== i)
}
