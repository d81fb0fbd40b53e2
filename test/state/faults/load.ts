import type { InjectOptions, LightMyRequestResponse } from 'fastify'
import { Browser } from '../session/browser.ts'
import type { Fleet } from './fleet.ts'

/** A client and its acknowledged writes. */
interface Client {
  readonly browser: Browser
  readonly name: string
  readonly written: string[]
  readonly ordered: string[]
}

/** Clients that send requests to alternating instances, each with its own session. */
export class Load {
  readonly #fleet: Fleet
  readonly #clients: readonly Client[]
  readonly #runs: Promise<unknown>
  #running = true
  /** Responses by status. */
  readonly statuses = new Map<number, number>()

  private constructor(fleet: Fleet, clients: readonly Client[]) {
    this.#fleet = fleet
    this.#clients = clients
    this.#runs = Promise.all(clients.map((client, offset) => this.#run(client, offset)))
  }

  static async start(fleet: Fleet, count: number): Promise<Load> {
    const clients = Array.from({ length: count }, (_, n) => {
      return { browser: new Browser(), name: `client${n}`, written: [], ordered: [] }
    })
    for (const { browser, name } of clients) await browser.post(fleet[0], '/session', { userId: name })
    return new Load(fleet, clients)
  }

  /** The writes acknowledged so far. */
  acknowledged(): { sessions: { browser: Browser; fields: string[] }[]; orders: string[] } {
    return {
      sessions: this.#clients.map(({ browser, written }) => ({ browser, fields: [...written] })),
      orders: this.#clients.flatMap(({ ordered }) => ordered),
    }
  }

  async stop(): Promise<void> {
    this.#running = false
    await this.#runs
  }

  async #run({ browser, name, written, ordered }: Client, offset: number): Promise<void> {
    for (let turn = 0; this.#running; turn++) {
      const app = this.#fleet[(turn + offset) % 2 === 0 ? 0 : 2]
      const sendRequest = async (request: InjectOptions): Promise<LightMyRequestResponse> => {
        const response = await browser.clone().send(app, request)
        this.statuses.set(response.statusCode, (this.statuses.get(response.statusCode) ?? 0) + 1)
        return response
      }
      const [field, key] = [`field${turn}`, `${name}-${turn}`]
      const payload = { [field]: turn }
      if ((await sendRequest({ method: 'POST', url: '/session', payload })).statusCode === 200) written.push(field)
      const headers = { 'idempotency-key': key }
      if ((await sendRequest({ method: 'POST', url: '/orders', payload: {}, headers })).statusCode === 200)
        ordered.push(key)
      await sendRequest({ method: 'GET', url: '/page' })
      await sendRequest({ method: 'GET', url: '/limited', remoteAddress: `10.1.${offset}.${turn % 250}` })
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}
