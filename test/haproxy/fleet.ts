import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

const program = new URL('fixtures/app.ts', import.meta.url)

type Env = Record<string, string | number | undefined>

/** A slot in a fleet: an address, and the process that listens there now. */
export class Member {
  readonly id: string
  readonly host: string
  readonly port: number
  readonly agentPort: number
  readonly #env: Env
  #process: App | undefined

  constructor(id: string, address: { host: string; port: number; agentPort: number }, env: Env) {
    this.id = id
    this.host = address.host
    this.port = address.port
    this.agentPort = address.agentPort
    this.#env = env
  }

  get url(): string {
    return `http://${this.host}:${this.port}`
  }

  /** Whether a process of this slot runs. */
  get running(): boolean {
    return this.#process !== undefined && !this.#process.ended
  }

  /** Starts a process here, which may be a broken build. */
  launch(env: Env = {}): App {
    const here = { HOST: this.host, PORT: this.port, FLEET_AGENT_PORT: this.agentPort, INSTANCE_ID: this.id }
    this.#process = forkApp(program, { env: { NODE_ENV: undefined, ...here, ...this.#env, ...env } })
    return this.#process
  }

  /** Starts a process here and waits until it is ready. */
  async start(env: Env = {}): Promise<void> {
    const child = this.launch(env)
    const ready = async (): Promise<boolean> => {
      if (child.ended) throw new Error(`${this.id} ended: ${child.stdout}${child.stderr}`)
      return (await fetch(`${this.url}/ready`)).ok
    }
    await until(ready, { what: `${this.id} to be ready` })
  }

  /** Drains it and starts the next process here. */
  async replace(): Promise<void> {
    const code = await this.end('SIGTERM')
    if (code !== 0) throw new Error(`${this.id} ended with ${code}`)
    await this.start()
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    await this.#process?.kill(signal)
    return this.#process?.ended?.code ?? null
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#process) process.kill(this.#process.pid, signal)
  }

  /** As an operator on the instance's machine. */
  async command(command: 'drain' | 'undrain'): Promise<void> {
    const { status } = await fetch(`${this.url}/api/v1/load-balancer/${command}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
    })
    if (status !== 200) throw new Error(`${command}: ${status}`)
  }
}

/** Starts instances of a pool, whose orders are recorded in one file. */
export async function startPool(pool: string, count: number, env: Env): Promise<Member[]> {
  const first = await freePort(2 * count)
  const members = Array.from({ length: count }, (_, i) => {
    const address = { host: '127.0.0.1', port: first + i, agentPort: first + count + i }
    return new Member(`${pool}-${i + 1}`, address, { FLEET_NAME: `fleet-${first}`, FLEET_POOL: pool, ...env })
  })
  await Promise.all(members.map((member) => member.start()))
  return members
}

export interface Fleet {
  readonly members: readonly [Member, Member, Member]
  /** The file of executed orders. */
  readonly orders: string
  /** The variables with which haproxy.cfg finds it. */
  readonly env: Record<string, string>
  /** Releases all responses of `/wait` until these requests are complete. */
  release(requests: readonly Promise<unknown>[]): Promise<void>
}

/** Starts three instances and waits until they are ready. */
export async function startFleet(env: Env = {}, own: readonly Env[] = []): Promise<Fleet> {
  const orders = join(temporaryFolder('orders'), 'orders')
  const first = await freePort(6)
  const shared = { FLEET_NAME: randomUUID(), TRUST_PROXY: '127.0.0.1', DRAIN_DELAY: 800, ORDERS: orders, ...env }
  const [a, b, c] = [0, 1, 2].map((i) => {
    const address = { host: '127.0.0.1', port: first + i, agentPort: first + 3 + i }
    return new Member(`app-${i + 1}`, address, { ...shared, ...own[i] })
  }) as [Member, Member, Member]
  const members = [a, b, c] as const
  await Promise.all(members.map((member) => member.start()))
  const places = members.flatMap(({ host, port, agentPort }, i) => [
    [`LB_SERVER_${i + 1}`, `${host}:${port}`],
    [`LB_AGENT_${i + 1}`, `${agentPort}`],
  ])
  const release = async (requests: readonly Promise<unknown>[]): Promise<void> => {
    let open = true
    const all = Promise.allSettled(requests).then(() => {
      open = false
    })
    // Repeatedly, because some requests may still be in transit from HAProxy.
    while (open) await Promise.all(members.map(({ url }) => fetch(`${url}/release`, { method: 'POST' })))
    await all
  }
  return { members, orders, env: Object.fromEntries(places), release }
}
