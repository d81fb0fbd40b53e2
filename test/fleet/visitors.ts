import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Steady traffic like that of browsers: a GET on a reused connection that turns out to be closed is repeated once on a
 * new one (RFC 9112, 9.3.1); a POST uses a new connection. nginx before 1.27.4 closes idle connections when it reloads,
 * which cannot be configured. Everything else is a failure.
 */
export class Visitors {
  readonly failures: string[] = []
  readonly versions: Set<string> = new Set()
  requests = 0
  /** Number of reused connections that were closed. */
  repeated = 0
  readonly #port: number
  readonly #agent = new Agent({ keepAlive: true })
  readonly #name = randomUUID()
  readonly #confirmed = new Set<string>()
  readonly #clients: Promise<void>[]
  #stopped = false

  constructor(port: number, clients: number) {
    this.#port = port
    this.#clients = Array.from({ length: clients }, (_, i) => this.#client(i))
  }

  /** Stops, and asserts that no request failed and every order was executed once. */
  async stop(orders: string): Promise<void> {
    await this.halt()
    assert.deepEqual(this.failures, [], `of ${this.requests} requests`)
    const done = readFileSync(orders, 'utf8')
      .split('\n')
      .filter((id) => id.startsWith(this.#name))
    assert.equal(new Set(done).size, done.length, 'an order was carried out twice')
    assert.deepEqual(new Set(done), this.#confirmed)
  }

  async halt(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#clients)
    this.#agent.destroy()
  }

  async #client(number: number): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      const id = `${this.#name}-${number}-${i}`
      this.requests++
      const order = (number + i) % 2 === 0
      try {
        this.versions.add(await (order ? this.#send('POST', `/orders?id=${id}`) : this.#send('GET', '/', this.#agent)))
        if (order) this.#confirmed.add(id)
      } catch (error) {
        this.failures.push(`${order ? 'POST' : 'GET'}: ${error}`)
      }
      await sleep(4)
    }
  }

  #send(method: string, path: string, agent?: Agent): Promise<string> {
    return new Promise((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port: this.#port, method, path, agent: agent ?? false }, (response) => {
        let body = ''
        response.setEncoding('utf8').on('data', (text: string) => {
          body += text
        })
        response.once('error', reject)
        response.once('end', () => {
          if (response.statusCode === 200) resolve(JSON.parse(body).version)
          else reject(new Error(`${response.statusCode} ${body}`))
        })
      })
      sent.once('error', (error: NodeJS.ErrnoException) => {
        if (!sent.reusedSocket || error.code !== 'ECONNRESET') return reject(error)
        this.repeated++
        this.#send(method, path).then(resolve, reject)
      })
      sent.end()
    })
  }
}
