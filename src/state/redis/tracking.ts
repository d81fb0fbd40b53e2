import type { Redis, RedisOptions } from 'ioredis'
import type { RedisClient } from './index.ts'

/** How long a server's last answer vouches for what is in memory: no change can go unseen for longer, ms. */
const maxAgeMs = 1000
const beatMs = 250
const channel = '__redis__:invalidate'

export interface Changes {
  /** A key with the prefix was written, deleted, or is over: whoever did it, by whatever command. */
  changed(key: string): void
  /** Changes may have been missed: everything read before now may be old. */
  missed(): void
  /** The server will not tell, so {@link Tracking.isCurrent} never holds. */
  rejected(reason: string): void
}

/** When a server that refused is asked again, ms. */
const refusedMs = 5000

/** A connection of its own: in RESP2, because the client drops the pushes of RESP3. It is given up when it is lost. */
const options: RedisOptions = {
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
 * Hears from one node what changes (client-side caching in broadcasting mode). What a server sends on a connection arrives
 * in order: once it has answered a question, everything that changed before the question was asked has been heard.
 */
class Link {
  /** Everything that changes before this time is heard by then, `performance.now()`. */
  until = 0
  readonly #node: Redis
  readonly #isWhole: boolean
  readonly #prefix: string
  readonly #changes: Changes
  #connection: Redis | undefined
  #timer: NodeJS.Timeout | undefined
  #isRefused = false
  #closed = false

  /** @param isWhole whether the node is all there is; in a Cluster, its address says which server it is */
  constructor(node: Redis, isWhole: boolean, prefix: string, changes: Changes) {
    this.#node = node
    this.#isWhole = isWhole
    this.#prefix = prefix
    this.#changes = changes
    // A name may stand for another server from now on.
    if (isWhole) node.on('ready', this.#anew)
    this.#open()
  }

  close(): void {
    this.#closed = true
    this.#node.off('ready', this.#anew)
    clearTimeout(this.#timer)
    this.#connection?.disconnect()
  }

  readonly #anew = (): void => {
    this.#connection?.disconnect()
  }

  #open(): void {
    const connection = this.#node.duplicate(options)
    this.#connection = connection
    // Whatever happens to this connection ends it; the node's own one reports the outage.
    connection.on('error', () => {})
    connection.on('ready', () => this.#begin(connection).catch((error: Error) => this.#giveUp(connection, error)))
    connection.on('messageBuffer', (_channel: Buffer, keys: Buffer[] | Buffer | null) => {
      if (keys === null) this.#changes.missed()
      // Anything but a list was published by a client.
      else if (Array.isArray(keys)) for (const key of keys) this.#changes.changed(String(key))
    })
    connection.on('end', () => {
      this.#lapse()
      const waitMs = this.#isRefused ? refusedMs : 50 + Math.random() * 200
      if (!this.#closed) this.#timer = setTimeout(() => this.#open(), waitMs).unref()
    })
  }

  async #begin(connection: Redis): Promise<void> {
    const [here, there] = this.#isWhole ? await Promise.all([serverOf(connection), serverOf(this.#node)]) : []
    if (here !== there) throw new Error('connected to another server')
    const id = await connection.client('ID')
    await connection.call('CLIENT', 'TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', this.#prefix)
    const asked = performance.now()
    await connection.subscribe(channel)
    this.#isRefused = false
    // What was read before could have changed before anybody listened.
    this.#changes.missed()
    this.until = asked + maxAgeMs
    const beat = setInterval(() => this.#beat(connection), beatMs).unref()
    connection.once('end', () => clearInterval(beat))
  }

  #giveUp(connection: Redis, { name, message }: Error): void {
    if (name === 'ReplyError' && !this.#isRefused) this.#changes.rejected(message)
    this.#isRefused = name === 'ReplyError'
    connection.disconnect()
  }

  #beat(connection: Redis): void {
    const asked = performance.now()
    connection.ping().then(
      () => {
        if (connection.status === 'ready') this.until = asked + maxAgeMs
      },
      () => connection.disconnect(),
    )
  }

  #lapse(): void {
    this.until = 0
    this.#changes.missed()
  }
}

/** Which process answers; `undefined` where the user may not ask. */
async function serverOf(connection: Redis): Promise<string | undefined> {
  const info = await connection.info('server').catch((error: Error) => {
    if (error.message.startsWith('NOPERM')) return ''
    throw error
  })
  return /^run_id:(\w+)/m.exec(info)?.[1]
}

/**
 * Tells what happens to the keys with a prefix, on every node: after a failover, a replica is the one to ask. It costs each
 * node a connection and four `PING` per second, however many keys there are, and nothing where a key is read.
 */
export class Tracking {
  readonly #links = new Map<Redis, Link>()
  readonly #end: () => void

  constructor(client: RedisClient, prefix: string, changes: Changes) {
    const { keyPrefix = '' } = client.options as { keyPrefix?: string }
    const own: Changes = { ...changes, changed: (key) => changes.changed(key.slice(keyPrefix.length)) }
    const join = (node: Redis): void => {
      this.#links.set(node, new Link(node, !client.isCluster, keyPrefix + prefix, own))
    }
    const leave = (node: Redis): void => {
      this.#links.get(node)?.close()
      this.#links.delete(node)
      changes.missed()
    }
    const { nodes } = client as { nodes?: () => Redis[] }
    for (const node of nodes ? nodes.call(client) : [client as Redis]) join(node)
    client.on('+node', join).on('-node', leave)
    this.#end = () => client.off('+node', join).off('-node', leave)
  }

  /** Whether every change up to a second ago is known here. @param now `performance.now()` */
  isCurrent(now: number): boolean {
    for (const { until } of this.#links.values()) if (now >= until) return false
    return this.#links.size > 0
  }

  close(): void {
    this.#end()
    for (const link of this.#links.values()) link.close()
    this.#links.clear()
  }
}
