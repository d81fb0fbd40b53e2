import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { repeat } from './repeat.ts'

/** Response body of the app in `test/host/fixtures`. */
export interface AppResponse {
  version: string
  pid: number
  worker?: string
  id: string
}

/**
 * Sends one request, on a new connection unless an agent is given.
 *
 * @param onStale called when the agent's connection turns out to be closed; the request is then sent again on a new one.
 * Without it that is a failure
 */
export function sendRequest(
  port: number,
  method: 'GET' | 'POST',
  path: string,
  agent?: Agent,
  onStale?: () => void,
): Promise<AppResponse> {
  const headers = method === 'POST' ? { 'content-type': 'application/json', 'content-length': 2 } : {}
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, method, path, agent: agent ?? false, headers }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      response.once('error', reject)
      response.once('end', () => {
        try {
          assert.equal(response.statusCode, 200, body)
          resolve(JSON.parse(body) as AppResponse)
        } catch (error) {
          reject(error)
        }
      })
    })
    outgoing.once('error', (error: NodeJS.ErrnoException) => {
      if (!onStale || !outgoing.reusedSocket || error.code !== 'ECONNRESET') return reject(error)
      onStale()
      sendRequest(port, method, path).then(resolve, reject)
    })
    outgoing.end(method === 'POST' ? '{}' : undefined)
  })
}

/**
 * How clients use connections. `mixed`: half of them on kept-alive connections, half with a connection per request, and
 * nothing is repeated, so that every failure is seen. `browser`: a GET on a kept-alive connection that was closed is
 * sent once more on a new one (RFC 9112, section 9.3.1), and each POST uses a new connection. nginx before 1.27.4 closes
 * idle connections when it reloads, which no setting prevents.
 */
export type ClientKind = 'mixed' | 'browser'

/** Steady GET and POST requests until it is stopped. Every response and every POST is accounted for. */
export class Traffic {
  readonly failures: string[] = []
  /** When each failed request was sent, in ms since 1970. */
  readonly failedBegan: number[] = []
  readonly versions: Set<string> = new Set()
  requests = 0
  /** How many requests of a browser found their kept-alive connection closed. */
  repeated = 0
  readonly #port: number
  readonly #kind: ClientKind
  readonly #keepAlive = new Agent({ keepAlive: true })
  readonly #name = randomUUID()
  readonly #accepted = new Set<string>()
  readonly #stop: () => Promise<void>

  constructor(port: number, clients = 8, kind: ClientKind = 'mixed') {
    this.#port = port
    this.#kind = kind
    this.#stop = repeat(clients, (client, i) => this.#send(client, i))
  }

  /** Stops, and asserts that no request failed and every accepted order was carried out once. */
  async stop(orders: string): Promise<void> {
    await this.halt()
    assert.deepEqual(this.failures, [], `of ${this.requests} requests`)
    const mine = (id: string): boolean => id.startsWith(this.#name)
    const done = readFileSync(orders, 'utf8').split('\n').filter(mine)
    assert.equal(new Set(done).size, done.length, 'an order was carried out twice')
    assert.deepEqual(new Set(done), this.#accepted)
  }

  async halt(): Promise<void> {
    await this.#stop()
    this.#keepAlive.destroy()
  }

  async #send(client: number, i: number): Promise<void> {
    const id = `${this.#name}-${client}-${i}`
    const browser = this.#kind === 'browser'
    const order = (browser ? client + i : i) % 2 === 0
    const agent = (browser ? !order : client % 2 === 0) ? this.#keepAlive : undefined
    const onStale = browser ? () => void this.repeated++ : undefined
    this.requests++
    const began = Date.now()
    try {
      const { version } = order
        ? await sendRequest(this.#port, 'POST', `/orders?id=${id}`, agent)
        : await sendRequest(this.#port, 'GET', '/', agent, onStale)
      this.versions.add(version)
      if (order) this.#accepted.add(id)
    } catch (error) {
      this.failedBegan.push(began)
      this.failures.push(`${order ? 'POST' : 'GET'} ${agent ? 'kept alive' : 'new connection'}: ${error}`)
    }
  }
}
