import { connect, type Socket } from 'node:net'
import { type ResponseHead, ResponseReader } from './http-response.ts'
import { ownSeconds, scheduled } from './processes.ts'

/** Requests as they are written to the wire, in turn; those of one connection start at another place in the list. */
export interface Request {
  readonly method?: string
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export interface Job {
  readonly host?: string
  readonly port: number
  readonly connections: number
  readonly seconds: number
  readonly requests?: readonly Request[]
  /** Arrivals per second, whether or not responses come (an open loop); without it each connection sends after a response. */
  readonly rate?: number
  /** Arrivals at random (exponential) distances instead of equal ones. @default false */
  readonly poisson?: boolean
  /** A new connection for every request. @default false */
  readonly reconnect?: boolean
  /**
   * Send one request over each connection first, because proxies soon close connections without a request. @default false
   */
  readonly greet?: boolean
  /** Count responses by the value of this header. */
  readonly tally?: string
  /** Seconds before the counted ones, whose requests do not count. @default 0 */
  readonly lead?: number
  /** Seconds after the counted ones in which requests continue, so that the last counted ones get responses. @default 0 */
  readonly tail?: number
  /** The process of {@link Result.own}. */
  readonly pid?: number
  /** @default 10000 */
  readonly timeoutMs?: number
}

export interface Latency {
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

export interface Result {
  readonly seconds: number
  /** Seconds in which the process under load had its core, or wanted none; see `ownSeconds`. Without a `pid` all of them. */
  readonly own: number
  /** Responses of any status. */
  readonly completed: number
  /** Responses with 200 to 399. */
  readonly succeeded: number
  readonly statuses: Readonly<Record<string, number>>
  /** Requests without a response, by reason. */
  readonly errors: Readonly<Record<string, number>>
  /** Of what succeeded, in milliseconds. In an open loop from the moment the request was due. */
  readonly latency: Latency
  /** The same for the requests of the `lead`. */
  readonly leadLatency: Latency
  readonly tally: Readonly<Record<string, number>>
}

export type Message =
  | { readonly id: number; readonly run: Job }
  | { readonly id: number; readonly hold: Job }
  | { readonly id: number; readonly release: number }

/** One client connection: at most one request at a time. */
class Connection {
  readonly #load: Load
  readonly #reader: ResponseReader
  #socket: Socket | undefined
  #turn: number
  #begun = 0

  constructor(load: Load, turn: number) {
    this.#load = load
    this.#turn = turn
    this.#reader = new ResponseReader((response) => this.#onResponse(response))
  }

  open(): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect({ host: this.#load.host, port: this.#load.port, noDelay: true })
      this.#socket = socket
      this.#reader.reset()
      let reason = 'closed'
      socket.once('connect', resolve)
      socket.on('data', (chunk) => this.#reader.read(chunk))
      socket.on('error', (error: NodeJS.ErrnoException) => {
        reason = error.code ?? error.message
      })
      socket.once('close', () => {
        resolve()
        // One that was given up on purpose; another has taken its place.
        if (this.#socket !== socket) return
        this.#socket = undefined
        this.#reader.end()
        if (this.#begun > 0) this.#failed(reason)
      })
    })
  }

  /** @param due when the request should have been sent, `performance.now()` */
  send(due: number): void {
    this.#begun = due
    if (this.#socket === undefined) void this.open().then(() => this.#write())
    else this.#write()
  }

  /** Set while a request waits for its response. */
  get begun(): number {
    return this.#begun
  }

  close(): void {
    this.#begun = 0
    this.#socket?.destroy()
    this.#socket = undefined
  }

  giveUp(): void {
    this.#socket?.destroy()
    this.#socket = undefined
    this.#failed('timeout')
  }

  #write(): void {
    const { texts } = this.#load
    const text = texts[this.#turn++ % texts.length] as { bytes: string; head: boolean }
    this.#reader.head = text.head
    this.#socket?.write(text.bytes, 'latin1')
  }

  #onResponse(response: ResponseHead): void {
    const { begun } = this
    if (begun === 0) return
    this.#begun = 0
    if (!response.keepAlive || this.#load.reconnect) {
      this.#socket?.destroy()
      this.#socket = undefined
    }
    this.#load.onResponse(this, response, begun)
  }

  #failed(reason: string): void {
    const { begun } = this
    if (begun === 0) return
    this.#begun = 0
    this.#load.failed(this, reason, begun)
  }
}

class Load {
  readonly host: string
  readonly port: number
  readonly reconnect: boolean
  readonly texts: readonly { bytes: string; head: boolean }[]
  readonly #job: Job
  readonly #connections: Connection[]
  readonly #free: Connection[] = []
  /** When requests were due for which no connection is free. */
  readonly #late: number[] = []
  #lateAt = 0
  readonly #statuses: Record<string, number> = {}
  readonly #errors: Record<string, number> = {}
  readonly #tally: Record<string, number> = {}
  #times: number[] = []
  readonly #leadTimes: number[] = []
  #running = false
  /** Of what was due earlier nothing is counted, `performance.now()`. */
  #countedFrom = 0
  /** Nor of what was due later. */
  #countedTo = Number.POSITIVE_INFINITY

  constructor(job: Job) {
    this.#job = job
    this.host = job.host ?? '127.0.0.1'
    this.port = job.port
    this.reconnect = job.reconnect ?? false
    this.texts = (job.requests ?? [{}]).map((request) => wire(request, `${this.host}:${this.port}`, this.reconnect))
    this.#connections = Array.from({ length: job.connections }, (_, turn) => new Connection(this, turn))
  }

  /** Opens all connections, a few hundred at a time, as an accept queue is short. */
  async open(): Promise<void> {
    for (let at = 0; at < this.#connections.length; at += 200) {
      await Promise.all(this.#connections.slice(at, at + 200).map((connection) => connection.open()))
    }
  }

  /** One request over each connection. */
  async once(): Promise<void> {
    this.#free.length = 0
    for (let at = 0; at < this.#connections.length; at += 200) {
      const batch = this.#connections.slice(at, at + 200)
      for (const connection of batch) connection.send(performance.now())
      while (batch.some((connection) => connection.begun > 0)) await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }

  async run(): Promise<Result> {
    const { rate, seconds, lead = 0, tail = 0, timeoutMs = 10_000 } = this.#job
    if (!this.reconnect) await this.open()
    if (this.#job.greet) await this.once()
    // Collecting ten thousand new connections would pause for tens of ms, in which responses wait to be read.
    globalThis.gc?.()
    this.#running = true
    const begin = performance.now()
    this.#countedFrom = begin + lead * 1000
    const end = this.#countedFrom + seconds * 1000
    const counted = this.#counted(end)
    const watch = setInterval(() => this.#giveUp(performance.now() - timeoutMs), 250)
    if (rate === undefined) for (const connection of this.#connections) connection.send(performance.now())
    else {
      this.#free.push(...this.#connections)
      await this.#arrivals(rate, begin, end + tail * 1000)
    }
    await until(end + tail * 1000)
    const times = await counted
    this.#running = false
    clearInterval(watch)
    // A request still in flight at the end counts neither as a response nor as a failure.
    this.close()
    return this.#result(times)
  }

  /** How long the time that counts lasts, and how much of it the process under load has for itself. */
  async #counted(end: number): Promise<Pick<Result, 'seconds' | 'own'>> {
    const { pid } = this.#job
    const look = (): ReturnType<typeof scheduled> => (pid === undefined ? undefined : scheduled(pid))
    await until(this.#countedFrom)
    const [from, began] = [look(), performance.now()]
    await until(end)
    this.#countedTo = performance.now()
    return {
      seconds: (this.#countedTo - this.#countedFrom) / 1000,
      own: ownSeconds(from, look(), (this.#countedTo - began) / 1000),
    }
  }

  close(): void {
    for (const connection of this.#connections) connection.close()
  }

  onResponse(connection: Connection, response: ResponseHead, begun: number): void {
    const now = performance.now()
    const { status } = response
    if (this.#running && begun < this.#countedFrom) {
      if (status >= 200 && status < 400) this.#leadTimes.push(now - begun)
    } else if (this.#running && begun < this.#countedTo) {
      this.#statuses[status] = (this.#statuses[status] ?? 0) + 1
      if (status >= 200 && status < 400) this.#times.push(now - begun)
      const { tally } = this.#job
      if (tally !== undefined) {
        const value = response.header(tally) ?? '-'
        this.#tally[value] = (this.#tally[value] ?? 0) + 1
      }
    }
    this.#next(connection, now)
  }

  failed(connection: Connection, reason: string, begun: number): void {
    if (!this.#running) return
    if (begun >= this.#countedFrom && begun < this.#countedTo) this.#errors[reason] = (this.#errors[reason] ?? 0) + 1
    // Not at once: a server that refuses connections would get a hundred thousand attempts per second.
    setTimeout(() => this.#next(connection, performance.now()), 10)
  }

  #next(connection: Connection, now: number): void {
    if (!this.#running) return
    if (this.#job.rate === undefined) connection.send(now)
    else if (this.#lateAt === this.#late.length) this.#free.push(connection)
    else connection.send(this.#late[this.#lateAt++] as number)
  }

  async #arrivals(rate: number, begin: number, end: number): Promise<void> {
    const gap = 1000 / rate
    let next = begin
    while (next < end) {
      const now = performance.now()
      for (; next <= now && next < end; next += this.#job.poisson ? -Math.log(1 - Math.random()) * gap : gap) {
        const pick = Math.floor(Math.random() * this.#free.length)
        const connection = this.#free[pick]
        if (connection === undefined) {
          this.#late.push(next)
          continue
        }
        this.#free[pick] = this.#free.at(-1) as Connection
        this.#free.pop()
        // A timer is up to a millisecond late, which is no fault of the server.
        connection.send(now)
      }
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }

  #giveUp(before: number): void {
    for (const connection of this.#connections) {
      if (connection.begun > 0 && connection.begun < before) connection.giveUp()
    }
  }

  #result({ seconds, own }: Pick<Result, 'seconds' | 'own'>): Result {
    const times = this.#times
    this.#times = []
    return {
      seconds,
      own,
      completed: Object.values(this.#statuses).reduce((sum, count) => sum + count, 0),
      succeeded: times.length,
      statuses: this.#statuses,
      errors: this.#errors,
      latency: percentiles(times),
      leadLatency: percentiles(this.#leadTimes),
      tally: this.#tally,
    }
  }
}

/** @param moment `performance.now()` */
const until = (moment: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, Math.max(0, moment - performance.now())))

function percentiles(unsorted: readonly number[]): Latency {
  const times = Float64Array.from(unsorted).sort()
  const rank = (share: number): number => times[Math.max(0, Math.ceil(times.length * share) - 1)] ?? Number.NaN
  return { p50: rank(0.5), p95: rank(0.95), p99: rank(0.99), max: rank(1) }
}

function wire(request: Request, host: string, reconnect: boolean): { bytes: string; head: boolean } {
  const { method = 'GET', path = '/', headers = {}, body } = request
  const lines = [`${method} ${path} HTTP/1.1`, `Host: ${host}`]
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`)
  if (reconnect) lines.push('Connection: close')
  if (body !== undefined) lines.push(`Content-Length: ${Buffer.byteLength(body)}`)
  const bytes = Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body ?? ''}`).toString('latin1')
  return { bytes, head: method === 'HEAD' }
}

/** A separate process on its own core. It runs one job after the other, as messages tell. */
const held = new Map<number, Load>()
process.on('message', async (message: Message) => {
  const { id } = message
  try {
    if ('run' in message) return process.send?.({ id, result: await new Load(message.run).run() })
    if ('hold' in message) {
      const load = new Load(message.hold)
      await load.open()
      await load.once()
      held.set(id, load)
    } else {
      held.get(message.release)?.close()
      held.delete(message.release)
    }
    process.send?.({ id, result: {} })
  } catch (error) {
    process.send?.({ id, error: (error as Error).message })
  }
})
process.once('disconnect', () => process.exit())
