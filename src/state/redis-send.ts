import type { Cluster, Command, Redis } from 'ioredis'
import { boundFairly, leavesBy } from './redis-late.ts'

/** A turn of the event loop that asks for more than this is sent in several writes, characters. */
const longest = 65_536

const closed = 'Connection is closed.'

/**
 * Collects what one connection is asked within a turn of the event loop, and sends it in one write. (The client's own
 * pipelining holds a command back while an earlier one waits for its answer: a server that stands still costs it the
 * bound twice.)
 */
class Batch {
  readonly #socket: Redis['stream']
  #text = ''

  constructor(socket: Redis['stream']) {
    this.#socket = socket
  }

  write(part: string | Buffer): boolean {
    if (typeof part !== 'string') {
      this.#flush()
      return this.#socket.write(part)
    }
    if (this.#text === '') setImmediate(() => this.#flush())
    this.#text += part
    if (this.#text.length > longest) this.#flush()
    return true
  }

  #flush(): void {
    const text = this.#text
    this.#text = ''
    if (text !== '' && this.#socket.writable) this.#socket.write(text)
  }
}

type Send = (command: Command, stream?: unknown, node?: unknown) => unknown

/** @param sent told of each command that is about to leave */
function batch(client: Redis, sent: (command: Command) => void = () => {}): void {
  const send = client.sendCommand.bind(client) as Send
  let current: { socket: Redis['stream']; batch: Batch } | undefined
  client.sendCommand = ((command: Command, stream?: unknown) => {
    // Nobody waits for it any more: its time was up while it had no connection.
    if (command.isSettled) return command.promise
    boundFairly(command)
    leavesBy(command, client.stream)
    if (client.status !== 'ready') return send(command, stream)
    sent(command)
    if (stream) return send(command, stream)
    if (current?.socket !== client.stream) current = { socket: client.stream, batch: new Batch(client.stream) }
    return send(command, current.batch)
  }) as Redis['sendCommand']
}

/** One node: a command that finds no connection fails at once, any other one within its `commandTimeout`. */
export function sendTo(client: Redis): void {
  batch(client)
}

/**
 * A Cluster: a command that has no node yet, or is sent from one to another, has one bound for all of that. One that was
 * on its way when its connection ended is not sent again, because it may have been carried out.
 *
 * @param boundMs the most that a command takes
 */
export function sendToCluster(cluster: Cluster, boundMs: number): void {
  const onTheirWay = new WeakSet<Command>()
  const bounded = new WeakSet<Command>()
  cluster.on('+node', (node: Redis) => batch(node, (command) => onTheirWay.add(command)))
  const send = cluster.sendCommand.bind(cluster) as Send
  cluster.sendCommand = ((command: Command, stream?: unknown, node?: unknown) => {
    if (bounded.has(command)) return send(command, stream, node)
    bounded.add(command)
    boundFairly(command)
    command.setTimeout(boundMs)
    const fail = command.reject
    const answer = send(command, stream, node)
    const retry = command.reject
    command.reject = (error) => {
      if (onTheirWay.has(command) && error.message === closed) fail(error)
      else retry(error)
    }
    return answer
  }) as Cluster['sendCommand']
}
