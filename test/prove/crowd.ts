import { setTimeout as sleep } from 'node:timers/promises'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { until } from '../helpers/until.ts'
import type { Verbs } from './fixtures/crowd.ts'

const program = new URL('fixtures/crowd.ts', import.meta.url)

/** A process with many instances of a fleet. */
export class Crowd {
  readonly app: App
  readonly #tickets = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  #ticket = 0
  #read = 0

  constructor(prefix: string, env: Record<string, string | number>) {
    this.app = forkApp(program, { ipc: true, env: { ...env, CROWD: prefix } })
  }

  /** @throws when the process has ended, or the verb fails there */
  ask: <V extends keyof Verbs>(verb: V, argument?: number) => ReturnType<Verbs[V]> = (async (verb, argument) => {
    const ticket = ++this.#ticket
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    this.#tickets.set(ticket, { resolve, reject })
    this.app.send({ ticket, verb, argument })
    await until(() => this.app.ended || this.#settle(ticket), { timeoutMs: 600_000, what: `${verb} of ${argument}` })
    if (this.app.ended) throw new Error(`the process has ended: ${this.app.stderr.slice(-1000)}`)
    return promise
  }) as Crowd['ask']

  #settle(ticket: number): boolean {
    for (; this.#read < this.app.messages.length; this.#read++) {
      const { ticket, result, error } = this.app.messages[this.#read] as {
        ticket: number
        result?: unknown
        error?: string
      }
      const waiting = this.#tickets.get(ticket)
      this.#tickets.delete(ticket)
      if (error === undefined) waiting?.resolve(result)
      else waiting?.reject(new Error(error))
    }
    return !this.#tickets.has(ticket)
  }
}

/** A fleet of instances in several processes. */
export class CrowdedFleet {
  readonly crowds: Crowd[]

  constructor(processes: number, env: Record<string, string | number>) {
    this.crowds = Array.from({ length: processes }, (_, i) => new Crowd(`crowd-${i}`, env))
  }

  async all<V extends keyof Verbs>(verb: V, argument?: number): Promise<Awaited<ReturnType<Verbs[V]>>[]> {
    return Promise.all(this.crowds.map((crowd) => crowd.ask(verb, argument))) as never
  }

  async join(count: number): Promise<void> {
    await this.all('join', count / this.crowds.length)
  }

  /** Waits until every instance knows so many that serve. */
  async knows(count: number): Promise<void> {
    const known = async (): Promise<boolean> => {
      if ((await this.all('peers')).flat().every((size) => size === count)) return true
      // Each look makes every member list its peers anew, in the process that also has to read them.
      await sleep(1000)
      return false
    }
    await until(known, { timeoutMs: 600_000, what: `${count} instances that all know each other` })
  }
}
