import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Answer {
  version: string
  pid: number
  worker?: string
  id: string
}

/** Asks once, on a connection of its own unless an agent is given. */
export function ask(port: number, method: 'GET' | 'POST', path: string, agent?: Agent): Promise<Answer> {
  const headers = method === 'POST' ? { 'content-type': 'application/json', 'content-length': 2 } : {}
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, method, path, agent: agent ?? false, headers }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      response.once('error', reject)
      response.once('end', () => {
        try {
          assert.equal(response.statusCode, 200, body)
          resolve(JSON.parse(body) as Answer)
        } catch (error) {
          reject(error)
        }
      })
    })
    asked.once('error', reject)
    asked.end(method === 'POST' ? '{}' : undefined)
  })
}

/**
 * Steady traffic of GET and POST until it is stopped, half of it on kept-alive connections and half with a connection
 * per request. It repeats nothing, so that each failure is seen.
 */
export class Traffic {
  readonly failures: string[] = []
  /** When each of those was sent, in ms since 1970. */
  readonly failedBegan: number[] = []
  readonly versions: Set<string> = new Set()
  requests = 0
  readonly #port: number
  readonly #keepAlive = new Agent({ keepAlive: true })
  readonly #clients: Promise<void>[]
  readonly #name = randomUUID()
  readonly #answered = new Set<string>()
  #stopped = false

  constructor(port: number, clients = 8) {
    this.#port = port
    this.#clients = Array.from({ length: clients }, (_, i) => this.#client(i))
  }

  /** Stops, and asserts that nothing failed and that every order was carried out once. */
  async stop(orders: string): Promise<void> {
    await this.halt()
    assert.deepEqual(this.failures, [], `of ${this.requests} requests`)
    const mine = (id: string): boolean => id.startsWith(this.#name)
    const done = readFileSync(orders, 'utf8').split('\n').filter(mine)
    assert.equal(new Set(done).size, done.length, 'an order was carried out twice')
    assert.deepEqual(new Set(done), this.#answered)
  }

  async halt(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#clients)
    this.#keepAlive.destroy()
  }

  async #client(number: number): Promise<void> {
    const agent = number % 2 === 0 ? this.#keepAlive : undefined
    for (let i = 0; !this.#stopped; i++) {
      const id = `${this.#name}-${number}-${i}`
      const order = i % 2 === 0
      this.requests++
      const began = Date.now()
      try {
        const { version } = order
          ? await ask(this.#port, 'POST', `/orders?id=${id}`, agent)
          : await ask(this.#port, 'GET', '/', agent)
        this.versions.add(version)
        if (order) this.#answered.add(id)
      } catch (error) {
        this.failedBegan.push(began)
        this.failures.push(`${order ? 'POST' : 'GET'} ${agent ? 'kept alive' : 'new connection'}: ${error}`)
      }
      await sleep(4)
    }
  }
}
