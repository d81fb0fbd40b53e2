import type { RedisOptions as ClientOptions, Redis } from 'ioredis'
import type { RedisClient } from './index.ts'

/** How long cached data is valid after a reply of the server, ms. No change can go unnoticed for longer. */
const maxAgeMs = 1000
const pingMs = 250
const channel = '__redis__:invalidate'

export interface ChangeListener {
  /** A key with the prefix was written, deleted or has expired, whichever client and command did it. */
  changed(key: string): void
  /** Changes may have been missed: everything that was read before now may be outdated. */
  missed(): void
  /** The server rejects tracking, so {@link Tracking.isCurrent} stays false. */
  rejected(reason: string): void
}

/** Time until a server that rejected tracking is asked again, ms. */
const rejectedMs = 5000

/** A separate connection, in RESP2 because ioredis drops the push messages of RESP3. It does not reconnect by itself. */
const options: ClientOptions = {
  protocol: 2,
  lazyConnect: false,
  readOnly: false,
  enableAutoPipelining: false,
  autoResubscribe: false,
  retryStrategy: null,
  connectTimeout: maxAgeMs,
  commandTimeout: maxAgeMs,
  socketTimeout: maxAgeMs,
}

/**
 * Receives the changes of one node (client-side caching in broadcasting mode). A connection preserves the order of messages:
 * once the reply to a PING has arrived, so have all changes from before the PING.
 */
class NodeTracker {
  /** Until when every earlier change has been received, in ms of `performance.now()`. */
  currentUntil = 0
  readonly #node: Redis
  readonly #isSingle: boolean
  readonly #prefix: string
  readonly #listener: ChangeListener
  #connection: Redis | undefined
  #timer: NodeJS.Timeout | undefined
  #isRejected = false
  #closed = false

  /** @param isSingle whether there are no other nodes; in a Cluster, the address identifies a server */
  constructor(node: Redis, isSingle: boolean, prefix: string, listener: ChangeListener) {
    this.#node = node
    this.#isSingle = isSingle
    this.#prefix = prefix
    this.#listener = listener
    // After a reconnect the name may stand for another server.
    if (isSingle) node.on('ready', this.#restart)
    this.#open()
  }

  close(): void {
    this.#closed = true
    this.#node.off('ready', this.#restart)
    clearTimeout(this.#timer)
    this.#connection?.disconnect()
  }

  readonly #restart = (): void => {
    this.#connection?.disconnect()
  }

  #open(): void {
    const connection = this.#node.duplicate(options)
    this.#connection = connection
    // Every error ends this connection. The node's own connection reports the outage.
    connection.on('error', () => {})
    connection.on('ready', () => this.#start(connection).catch((error: Error) => this.#giveUp(connection, error)))
    connection.on('messageBuffer', (_channel: Buffer, keys: Buffer[] | Buffer | null) => {
      if (keys === null) this.#listener.missed()
      // Messages that are not a list were published by a client.
      else if (Array.isArray(keys)) for (const key of keys) this.#listener.changed(String(key))
    })
    connection.on('end', () => {
      this.#disconnected()
      const waitMs = this.#isRejected ? rejectedMs : 50 + Math.random() * 200
      if (!this.#closed) this.#timer = setTimeout(() => this.#open(), waitMs).unref()
    })
  }

  async #start(connection: Redis): Promise<void> {
    const [tracked, used] = this.#isSingle ? await Promise.all([serverOf(connection), serverOf(this.#node)]) : []
    if (tracked !== used) throw new Error('connected to another server')
    const id = await connection.client('ID')
    await connection.call('CLIENT', 'TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', this.#prefix)
    const sentAt = performance.now()
    await connection.subscribe(channel)
    this.#isRejected = false
    // Data that was read earlier may have changed before the subscription.
    this.#listener.missed()
    this.currentUntil = sentAt + maxAgeMs
    const timer = setInterval(() => this.#ping(connection), pingMs).unref()
    connection.once('end', () => clearInterval(timer))
  }

  #giveUp(connection: Redis, { name, message }: Error): void {
    if (name === 'ReplyError' && !this.#isRejected) this.#listener.rejected(message)
    this.#isRejected = name === 'ReplyError'
    connection.disconnect()
  }

  #ping(connection: Redis): void {
    const sentAt = performance.now()
    connection.ping().then(
      () => {
        if (connection.status === 'ready') this.currentUntil = sentAt + maxAgeMs
      },
      () => connection.disconnect(),
    )
  }

  #disconnected(): void {
    this.currentUntil = 0
    this.#listener.missed()
  }
}

/** Identifies the server process; `undefined` if the user may not run INFO. */
async function serverOf(connection: Redis): Promise<string | undefined> {
  const info = await connection.info('server').catch((error: Error) => {
    if (error.message.startsWith('NOPERM')) return ''
    throw error
  })
  return /^run_id:(\w+)/m.exec(info)?.[1]
}

/**
 * Announces changes of the keys with a prefix. It tracks every node, because a replica may become a primary. That costs each
 * node one connection and four `PING` per second, however many keys there are, and reads nothing extra.
 */
export class Tracking {
  readonly #nodes = new Map<Redis, NodeTracker>()
  readonly #unsubscribe: () => void

  constructor(client: RedisClient, prefix: string, listener: ChangeListener) {
    const { keyPrefix = '' } = client.options as { keyPrefix?: string }
    const unprefixed: ChangeListener = { ...listener, changed: (key) => listener.changed(key.slice(keyPrefix.length)) }
    const add = (node: Redis): void => {
      this.#nodes.set(node, new NodeTracker(node, !client.isCluster, keyPrefix + prefix, unprefixed))
    }
    const remove = (node: Redis): void => {
      this.#nodes.get(node)?.close()
      this.#nodes.delete(node)
      listener.missed()
    }
    const { nodes } = client as { nodes?: () => Redis[] }
    for (const node of nodes ? nodes.call(client) : [client as Redis]) add(node)
    client.on('+node', add).on('-node', remove)
    this.#unsubscribe = () => client.off('+node', add).off('-node', remove)
  }

  /** Whether every change from before one second ago has been announced. @param now `performance.now()` */
  isCurrent(now: number): boolean {
    for (const { currentUntil } of this.#nodes.values()) if (now >= currentUntil) return false
    return this.#nodes.size > 0
  }

  close(): void {
    this.#unsubscribe()
    for (const node of this.#nodes.values()) node.close()
    this.#nodes.clear()
  }
}
