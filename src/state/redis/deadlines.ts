import type { Cluster, Command, Redis } from 'ioredis'

/** A turn of the event loop that asks for more than this is sent in several writes, characters. */
const longest = 65_536

const closed = 'Connection is closed.'

/**
 * Collects what one connection is asked within a turn of the event loop, and sends it in one write. (The client's own
 * pipelining holds a command back while an earlier one waits for its answer: a server that stands still costs it the
 * bound twice.)
 */
class Batch {
  readonly socket: Redis['stream']
  #text = ''

  constructor(socket: Redis['stream']) {
    this.socket = socket
  }

  write(part: string | Buffer): boolean {
    if (typeof part !== 'string') {
      this.#flush()
      return this.socket.write(part)
    }
    if (this.#text === '') setImmediate(() => this.#flush())
    this.#text += part
    if (this.#text.length > longest) this.#flush()
    return true
  }

  #flush(): void {
    const text = this.#text
    this.#text = ''
    if (text !== '' && this.socket.writable) this.socket.write(text)
  }
}

/** When a timer is later than this, the process stood still, ms. */
const noticeableMs = 20

interface Waiting {
  readonly command: Command
  readonly socket: Redis['stream']
  /** When it has waited long enough, ms of performance.now(). */
  due: number
  /** Time was added once, because this process stood still. */
  extended?: true
}

/**
 * Ends a connection whose oldest command got no answer within the bound: it fails, and so do all behind it. There is one
 * timer for all of them.
 *
 * Time for which this process stood still, for want of CPU or in a long computation, is not the server's: what has arrived
 * is read before anybody is given up (timers run before that), and what had not left by then gets its time. Once, so that
 * a process that is always late gives up, too.
 */
class Watch {
  readonly #boundMs: number
  readonly #waiting: Waiting[] = []
  #first = 0
  #timer: NodeJS.Timeout | undefined

  constructor(boundMs: number) {
    this.#boundMs = boundMs
  }

  sent(command: Command, socket: Redis['stream']): void {
    this.#forget()
    const now = performance.now()
    this.#waiting.push({ command, due: now + this.#boundMs, socket })
    if (!this.#timer) this.#lookAt(now + this.#boundMs, now)
  }

  #lookAt(time: number, now: number): void {
    const look = (): void => {
      const lateMs = performance.now() - time
      setImmediate(() => this.#judge(lateMs))
    }
    // The connection keeps the process alive, as long as there is one.
    this.#timer = setTimeout(look, Math.max(1, time - now)).unref()
  }

  #judge(lateMs: number): void {
    this.#timer = undefined
    this.#forget()
    const oldest = this.#waiting[this.#first]
    if (!oldest) return
    const now = performance.now()
    if (lateMs > noticeableMs && !oldest.extended) {
      oldest.extended = true
      oldest.due = Math.max(oldest.due, now + Math.min(lateMs, this.#boundMs))
    }
    if (oldest.due > now) {
      this.#lookAt(oldest.due, now)
    } else {
      this.#waiting.length = this.#first = 0
      oldest.socket.destroy(new Error(`no answer within ${this.#boundMs} ms`))
    }
  }

  #forget(): void {
    while (this.#waiting[this.#first]?.command.isSettled) this.#first++
    if (this.#first === this.#waiting.length) this.#waiting.length = this.#first = 0
    if (this.#first < 1000) return
    this.#waiting.splice(0, this.#first)
    this.#first = 0
  }
}

type Send = (command: Command, stream?: unknown, node?: unknown) => unknown

/**
 * One node: a command that finds no connection fails at once, any other one within the bound.
 *
 * @param boundMs the most that a command takes
 * @param sent told of each command that is about to leave
 */
export function sendTo(client: Redis, boundMs: number, sent: (command: Command) => void = () => {}): void {
  const send = client.sendCommand.bind(client) as Send
  const watch = new Watch(boundMs)
  let batch: Batch | undefined
  client.sendCommand = ((command: Command, stream?: unknown) => {
    // Nobody waits for it any more: its time was up while it had no connection.
    if (command.isSettled) return command.promise
    const { status, stream: socket } = client
    if (status === 'ready' || status === 'connect') watch.sent(command, socket)
    if (status !== 'ready') return send(command, stream)
    sent(command)
    if (stream) return send(command, stream)
    if (batch?.socket !== socket) batch = new Batch(socket)
    return send(command, batch)
  }) as Redis['sendCommand']
}

/**
 * A Cluster: a command that has no node yet, or is sent from one to another, has one bound for all of that. One that was
 * on its way when its connection ended is not sent again, because it may have been carried out.
 */
export function sendToCluster(cluster: Cluster, boundMs: number): void {
  const onTheirWay = new WeakSet<Command>()
  const begun = new WeakSet<Command>()
  cluster.on('+node', (node: Redis) => sendTo(node, boundMs, (command) => onTheirWay.add(command)))
  const send = cluster.sendCommand.bind(cluster) as Send
  cluster.sendCommand = ((command: Command, stream?: unknown, node?: unknown) => {
    if (begun.has(command)) return send(command, stream, node)
    begun.add(command)
    const due = performance.now() + boundMs
    const fail = command.reject
    const answer = send(command, stream, node)
    const retry = command.reject
    command.reject = (error) => {
      if (onTheirWay.has(command) && error.message === closed) return fail(error)
      command.setTimeout(Math.max(1, due - performance.now()))
      retry(error)
    }
    if (!onTheirWay.has(command)) command.setTimeout(boundMs)
    return answer
  }) as Cluster['sendCommand']
}
