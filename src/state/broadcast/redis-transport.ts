import type { Redis, RedisOptions } from 'ioredis'
import { guarded, type RedisClient } from '../redis/index.ts'
import type { MessageRejection, SignedMessages } from './signed-messages.ts'
import type { Channel, Subscriptions, Transport } from './subscriptions.ts'

interface RedisTransportParts {
  readonly client: RedisClient
  readonly subscriptions: Subscriptions
  readonly prefix: string
  readonly heartbeatMs: number
  readonly messages: SignedMessages
  readonly onRejected: (reason: MessageRejection, channel: string) => void
}

/** One connection for all channels. It opens with the first subscription and reopens whenever it is lost. */
export class RedisTransport implements Transport {
  readonly #parts: RedisTransportParts
  readonly #options: RedisOptions
  #connection: Redis | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor(parts: RedisTransportParts) {
    this.#parts = parts
    this.#options = {
      lazyConnect: false,
      readOnly: false,
      enableAutoPipelining: false,
      autoResubscribe: false,
      retryStrategy: null,
      commandTimeout: parts.heartbeatMs,
      socketTimeout: parts.heartbeatMs,
    }
    // The name may stand for another server now. In a Cluster, any node will do.
    if (!parts.client.isCluster) parts.client.on('close', this.#reopen)
  }

  readonly #reopen = (): void => this.#connection?.disconnect()

  publish(name: string, json: string): Promise<unknown> {
    return guarded(this.#parts.client.publish(this.#parts.prefix + name, this.#parts.messages.seal(name, json)))
  }

  join(channel: Channel): void {
    if (!this.#connection && !this.#timer) this.#open()
    else if (this.#connection?.status === 'ready') this.#subscribe(this.#connection, [channel])
  }

  leave(channel: Channel): void {
    if (this.#connection?.status === 'ready')
      this.#connection.unsubscribe(this.#parts.prefix + channel.name).catch(() => {})
  }

  close(): void {
    this.#closed = true
    this.#parts.client.off('close', this.#reopen)
    clearTimeout(this.#timer)
    this.#connection?.disconnect()
  }

  #open(): void {
    this.#timer = undefined
    // In a Cluster every node receives all messages.
    const { nodes } = this.#parts.client as { nodes?: () => Redis[] }
    const node = nodes ? pick(nodes.call(this.#parts.client)) : (this.#parts.client as Redis)
    if (node) this.#use(node.duplicate(this.#options))
    else this.#openLater()
  }

  #use(connection: Redis): void {
    this.#connection = connection
    const pings = setInterval(() => connection.ping().catch(() => {}), this.#parts.heartbeatMs).unref()
    // The main connection to the same server logs the outage.
    connection.on('error', () => {})
    connection.on('message', (channel: string, text: string) =>
      this.#receive(channel.slice(this.#parts.prefix.length), text),
    )
    connection.on('ready', () => this.#subscribe(connection, [...this.#parts.subscriptions.channels.values()]))
    connection.on('end', () => {
      clearInterval(pings)
      this.#connection = undefined
      for (const channel of this.#parts.subscriptions.channels.values())
        this.#parts.subscriptions.setLive(channel, false)
      this.#openLater()
    })
  }

  #receive(name: string, text: string): void {
    const opened = this.#parts.messages.open(name, text)
    if ('json' in opened) this.#parts.subscriptions.deliver(name, opened.json)
    else this.#parts.onRejected(opened.rejected, name)
  }

  #openLater(): void {
    if (!this.#closed) this.#timer = setTimeout(() => this.#open(), 50 + Math.random() * 200).unref()
  }

  #subscribe(connection: Redis, channels: Channel[]): void {
    if (channels.length === 0) return
    connection.subscribe(...channels.map(({ name }) => this.#parts.prefix + name)).then(
      () => {
        if (connection !== this.#connection) return
        for (const channel of channels) this.#parts.subscriptions.setLive(channel, true)
      },
      () => connection.disconnect(),
    )
  }
}

const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(Math.random() * from.length)]
