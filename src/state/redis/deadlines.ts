import type { Cluster, Command, Redis } from 'ioredis'
import { interceptCommands, limitClusterCommands, type RedisSocket } from '../../base/internals/ioredis.ts'

/** A timer that fires later than this shows that the process was suspended or blocked, ms. */
const noticeableMs = 20

interface Waiting {
  readonly command: Command
  readonly socket: RedisSocket
  /** When the command times out, in ms of `performance.now()`. */
  due: number
  /** Whether the deadline was extended, because this process was suspended. */
  isExtended?: true
}

/**
 * Ends a connection whose oldest command has no reply within the time limit. That command and all behind it fail. One timer
 * serves all commands.
 *
 * Time for which this process was suspended or blocked does not count against the server. Replies that have arrived are
 * read before the connection is ended (timers run before that), and the oldest command gets extra time, once. So a
 * process that is always late still times out.
 */
class ReplyTimer {
  readonly #limitMs: number
  readonly #waiting: Waiting[] = []
  #first = 0
  #timer: NodeJS.Timeout | undefined

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  sent(command: Command, socket: RedisSocket): void {
    this.#removeSettled()
    const now = performance.now()
    this.#waiting.push({ command, due: now + this.#limitMs, socket })
    if (!this.#timer) this.#checkAt(now + this.#limitMs, now)
  }

  #checkAt(time: number, now: number): void {
    const check = (): void => {
      const lateMs = performance.now() - time
      setImmediate(() => this.#check(lateMs))
    }
    // The connection, if there is one, keeps the process alive.
    this.#timer = setTimeout(check, Math.max(1, time - now)).unref()
  }

  #check(lateMs: number): void {
    this.#timer = undefined
    this.#removeSettled()
    const oldest = this.#waiting[this.#first]
    if (!oldest) return
    const now = performance.now()
    if (lateMs > noticeableMs && !oldest.isExtended) {
      oldest.isExtended = true
      oldest.due = Math.max(oldest.due, now + Math.min(lateMs, this.#limitMs))
    }
    if (oldest.due > now) {
      this.#checkAt(oldest.due, now)
    } else {
      this.#waiting.length = this.#first = 0
      oldest.socket.destroy(new Error(`no reply within ${this.#limitMs} ms`))
    }
  }

  #removeSettled(): void {
    while (this.#waiting[this.#first]?.command.isSettled) this.#first++
    if (this.#first === this.#waiting.length) this.#waiting.length = this.#first = 0
    if (this.#first < 1000) return
    this.#waiting.splice(0, this.#first)
    this.#first = 0
  }
}

/**
 * Sends the commands of one event-loop turn in one write, which halves their CPU time. ioredis' own pipelining holds a
 * command back while an earlier one waits for its reply, so that a suspended server would cost it the time limit twice.
 */
class WriteBatch {
  #corked: RedisSocket | undefined

  add(socket: RedisSocket): void {
    if (this.#corked === socket) return
    this.#corked = socket
    socket.cork()
    setImmediate(() => {
      if (this.#corked === socket) this.#corked = undefined
      socket.uncork()
    })
  }
}

/**
 * Limits the time of a command: it fails at once without a connection, else within `limitMs`.
 *
 * @param sent called for each command that is written to a ready connection
 */
export function limitNode(client: Redis, limitMs: number, sent: (command: Command) => void = () => {}): void {
  const timer = new ReplyTimer(limitMs)
  const batch = new WriteBatch()
  interceptCommands(client, (command, socket, isReady) => {
    timer.sent(command, socket)
    if (!isReady) return
    batch.add(socket)
    sent(command)
  })
}

/** The same for a Cluster: one time limit for finding a node, all redirections and the reply. */
export function limitCluster(cluster: Cluster, limitMs: number): void {
  const sent = new WeakSet<Command>()
  cluster.on('+node', (node: Redis) => limitNode(node, limitMs, (command) => sent.add(command)))
  limitClusterCommands(cluster, limitMs, (command) => sent.has(command))
}
