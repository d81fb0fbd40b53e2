import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { setImmediate as polled } from 'node:timers/promises'
import type { Counts } from '../prove/outcome.ts'
import { executions } from './ledger.ts'
import { repeat } from './repeat.ts'
import { until } from './until.ts'

export const methods = ['GET', 'POST', 'HEAD', 'PUT', 'PATCH', 'DELETE'] as const
export type Method = (typeof methods)[number]

/** Whether a request with this method may change something, so that no load balancer may repeat it. */
export const isUnsafe = (method: Method): boolean => method !== 'GET' && method !== 'HEAD'

/** Response body of the app in `test/host/fixtures`. */
export interface AppResponse {
  version: string
  pid: number
  worker?: string
  id: string
}

interface Response {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

interface SendOptions {
  /** Keeps connections alive. @default a new connection */
  agent?: Agent | undefined
  /**
   * Called when the agent's connection turns out to be closed; the request is then sent again on a new one. Without it
   * that is a failure.
   */
  onStale?: (() => void) | undefined
  /** @default 127.0.0.1 */
  host?: string | undefined
  /** A request without any byte for so long has failed; ms. @default 60,000 */
  silenceMs?: number | undefined
}

function exchange(port: number, method: Method, path: string, options: SendOptions = {}): Promise<Response> {
  const { agent, onStale, host = '127.0.0.1', silenceMs = 60_000 } = options
  const body = isUnsafe(method) && method !== 'DELETE' ? '{}' : undefined
  const headers = body ? { 'content-type': 'application/json', 'content-length': body.length } : {}
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port, method, path, agent: agent ?? false, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      response.once('error', reject)
      response.once('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }))
    })
    outgoing.setTimeout(silenceMs, () => outgoing.destroy(new Error(`no response within ${silenceMs} ms`)))
    outgoing.once('error', (error: NodeJS.ErrnoException) => {
      if (!onStale || !outgoing.reusedSocket || error.code !== 'ECONNRESET') return reject(error)
      onStale()
      exchange(port, method, path, { host, silenceMs }).then(resolve, reject)
    })
    outgoing.end(body)
  })
}

/** Sends one request, on a new connection unless an agent is given. */
export async function sendRequest(port: number, method: Method, path: string, agent?: Agent): Promise<AppResponse> {
  const { status, body } = await exchange(port, method, path, { agent })
  assert.equal(status, 200, body)
  return JSON.parse(body) as AppResponse
}

/**
 * How clients use connections. `mixed`: half of them on kept-alive connections, half with a connection per request, and
 * nothing is repeated, so that every failure is seen. `browser`: a GET on a kept-alive connection that was closed is
 * sent once more on a new one (RFC 9112, section 9.3.1), and each unsafe request uses a new connection. nginx before
 * 1.27.4 closes idle connections when it reloads, which no setting prevents.
 */
export type ClientKind = 'mixed' | 'browser'

export interface TrafficOptions {
  /** Before the paths, e.g. `/api/v2`. */
  prefix?: string
  /** @default all, in turn */
  methods?: readonly Method[]
  /** @default 127.0.0.1 */
  host?: string
  /** Unsafe requests of the first four clients are executed at once and get their response so much later, in ms. @default 0 */
  slowMs?: number
  /** Unsafe methods that the load balancer sends again when an instance crashes. nginx does so with PUT and DELETE. */
  repeats?: readonly Method[]
  /** The load balancer sends nothing again: it is on layer 4. @default false */
  layer4?: boolean
  /** Pause of a client after a response, in ms. @default 12 */
  pauseMs?: number
  /** A request without any byte for so long has failed; ms. @default 60,000 */
  silenceMs?: number
}

/** A request without a 200. */
export interface Failure {
  id: string
  client: number
  method: Method
  keptAlive: boolean
  /** When it was sent and when it failed, in ms since 1970. */
  began: number
  ended: number
  /** Of the response, if there was one. */
  status?: number
  /** Of the error, e.g. `ECONNRESET`. */
  code?: string
  reason: string
}

const describe = ({ method, keptAlive, reason }: Failure): string =>
  `${method} ${keptAlive ? 'kept alive' : 'new connection'}: ${reason}`

/** When something with requests in flight was killed: from the signal until it was gone, or back. */
export interface Kill {
  from: number
  to: number
}

/**
 * Steady requests of every method until it is stopped, each with its own id: `GET` and `HEAD` of `/`, the others of
 * `/orders?id=`, which `serveOrders()` serves. Every response and every execution is accounted for.
 */
export class Traffic {
  readonly failed: Failure[] = []
  readonly versions: Set<string> = new Set()
  /** Number of 200 responses by the id of the instance: of X-Instance-Id, or in the body. */
  readonly byInstance: Map<string, number> = new Map()
  requests = 0
  completed = 0
  /** How many requests of a browser found their kept-alive connection closed. */
  repeated = 0
  readonly #port: number
  readonly #kind: ClientKind
  readonly #options: TrafficOptions
  readonly #keepAlive = new Agent({ keepAlive: true })
  readonly #name = randomUUID()
  readonly #clients: number
  /** Completed requests of each client. */
  readonly #turns: number[]
  /** Unsafe requests with a 200. */
  readonly #accepted = new Set<string>()
  readonly #stop: () => Promise<void>

  constructor(port: number, clients = 8, kind: ClientKind = 'mixed', options: TrafficOptions = {}) {
    this.#port = port
    this.#kind = kind
    this.#clients = clients
    this.#turns = Array(clients).fill(0)
    this.#options = options
    this.#stop = repeat(clients, (client, i) => this.#send(client, i), options.pauseMs)
  }

  /** A description of each failure. */
  get failures(): string[] {
    return this.failed.map(describe)
  }

  /** Waits for responses to further requests, so that what happened before has taken effect on some. */
  async more(count = 50): Promise<void> {
    const before = this.completed
    await until(() => this.completed >= before + this.#clients + count, { what: `${count} more responses` })
  }

  /** Waits until the requests in flight are complete, and each client has got a further response. */
  async turn(): Promise<void> {
    const before = [...this.#turns]
    await until(() => this.#turns.every((turns, client) => turns >= (before[client] ?? 0) + 2), {
      what: 'a turn of all',
    })
  }

  /** Kills something, and returns when. */
  async kill(task: () => unknown): Promise<Kill> {
    const from = Date.now()
    await task()
    // Until this process has seen that the connections are closed, it may send another request on one of them.
    for (let i = 0; i < 3; i++) await polled()
    return { from, to: Date.now() }
  }

  /**
   * Stops, and asserts that no request failed and every accepted unsafe one was executed once.
   *
   * @param kills of instances. They may lose unsafe requests that were in flight, on layer 4 safe ones, too. A client may lose two: the
   * kernel closes the sockets of a killed process one after the other, so its next request may still reach the listener.
   * @param outages of the load balancer: any request at that time may fail, but none is executed twice
   */
  async stop(ledger: string, kills: readonly Kill[] = [], outages: readonly Kill[] = []): Promise<Counts> {
    await this.halt()
    const { repeats = [], layer4 = false } = this.#options
    const overlaps = ({ began, ended }: Failure, of: readonly Kill[]): boolean =>
      of.some(({ from, to }) => began <= to && ended >= from)
    const isLost = (failure: Failure): boolean =>
      (layer4 || isUnsafe(failure.method)) && !repeats.includes(failure.method) && overlaps(failure, kills)
    const out = this.failed.filter((failure) => overlaps(failure, outages))
    const lost = this.failed.filter((failure) => !out.includes(failure) && isLost(failure))
    const allowed = new Set([...out, ...lost])
    const others = this.failed.filter((failure) => !allowed.has(failure))
    assert.deepEqual(others.slice(0, 20).map(describe), [], `${others.length} of ${this.requests} requests failed`)
    for (const kill of kills) {
      const at = lost.filter((failure) => overlaps(failure, [kill]))
      for (const [client, own] of Map.groupBy(at, (failure) => failure.client))
        assert.ok(own.length <= 2, `client ${client} lost more than two in one kill: ${own.map(describe).join('; ')}`)
    }
    const executed = executions(ledger, this.#name)
    const again = [...executed].filter(([, count]) => count > 1)
    const isRepeated = (id: string): boolean => kills.length > 0 && repeats.some((method) => id.endsWith(`-${method}`))
    const twice = again.filter(([id]) => !isRepeated(id))
    assert.deepEqual(twice.slice(0, 20), [], 'an unsafe request was executed twice')
    // Some of those without a response were executed. No load balancer can tell which.
    const unanswered = new Set([...allowed].map(({ id }) => id))
    const done = new Set([...executed.keys()].filter((id) => !unanswered.has(id)))
    assert.deepEqual(done, this.#accepted, 'the accepted unsafe requests were executed')
    return {
      requests: this.requests,
      failed: others.length,
      inFlight: lost.length,
      twice: twice.length,
      ...(again.length > twice.length && { repeated: again.length - twice.length }),
      ...(outages.length > 0 && { outage: out.length }),
    }
  }

  async halt(): Promise<void> {
    await this.#stop()
    this.#keepAlive.destroy()
  }

  async #send(client: number, i: number): Promise<void> {
    const { prefix = '', methods: all = methods, host, slowMs = 0, silenceMs } = this.#options
    const method = all[(client + i) % all.length] as Method
    const unsafe = isUnsafe(method)
    const id = `${this.#name}-${client}-${i}-${method}`
    const browser = this.#kind === 'browser'
    const keptAlive = browser ? !unsafe : client % 2 === 0
    const agent = keptAlive ? this.#keepAlive : undefined
    const onStale = browser ? () => void this.repeated++ : undefined
    this.requests++
    const began = Date.now()
    const fail = (reason: string, more: Pick<Failure, 'status' | 'code'>): void =>
      void this.failed.push({ id, client, method, keptAlive, began, ended: Date.now(), ...more, reason })
    try {
      const slow = unsafe && slowMs > 0 && client < 4 ? `&ms=${slowMs}` : ''
      const path = `${prefix}${unsafe ? '/orders' : '/'}?id=${id}${slow}`
      const { status, headers, body } = await exchange(this.#port, method, path, { agent, onStale, host, silenceMs })
      if (status !== 200) return fail(`${status} ${body.slice(0, 300)}`, { status })
      if (unsafe) this.#accepted.add(id)
      const { version, id: own } = method === 'HEAD' ? {} : (JSON.parse(body) as Partial<AppResponse>)
      if (version !== undefined) this.versions.add(version)
      const by = headers['x-instance-id']?.toString() ?? own ?? 'unknown'
      this.byInstance.set(by, (this.byInstance.get(by) ?? 0) + 1)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      fail(String(error), code === undefined ? {} : { code })
    } finally {
      this.completed++
      this.#turns[client] = (this.#turns[client] ?? 0) + 1
    }
  }
}
