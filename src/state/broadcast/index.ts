import type { FastifyBaseLogger, FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { Redis, RedisOptions } from 'ioredis'
import { FleetError } from '../../base/errors.ts'
import { either, int, list, resolveOptions, type Shapes, text } from '../../base/options.ts'
import { expose } from '../metrics.ts'
import redis, { guarded, type RedisClient } from '../redis/index.ts'
import { FleetKeys, fleetSecrets } from '../registry/fleet-keys.ts'
import { seldom } from '../seldom.ts'
import { type Rejection, rejections, SignedMessages } from './signed-messages.ts'

export interface BroadcastOptions {
  /** How often the subscribed connection is asked whether it lives, 100 to 60 000 ms; silence ends it. @default 1000 */
  heartbeatMs?: number
  /** Largest message as JSON, 1 to 67,108,864 bytes; larger ones are neither sent nor taken. @default 1048576 */
  maxMessageBytes?: number
  /**
   * Signs messages and registry entries on Redis, where others may write too: 32 bytes or more, the first of a list signs, all
   * verify. The same on every instance. @default FLEET_SECRET, else SESSION_SECRET, else JWT_SECRET; outside production one
   * that the instances share in Redis
   */
  secret?: string | string[]
}

const defaults = { heartbeatMs: 1000, maxMessageBytes: 1_048_576 } satisfies BroadcastOptions
type Resolved = BroadcastOptions & typeof defaults
const shapes: Shapes = {
  heartbeatMs: int(100, 60_000, 'milliseconds'),
  maxMessageBytes: int(1, 67_108_864, 'bytes'),
  secret: either(text, list(text)),
}

/** What a message may be: it travels as JSON, in memory mode too. */
export type Listener<T = unknown> = (message: T) => void

export interface SubscriptionEvents {
  /** From now on messages may be missed. */
  onLost?: () => void
  /** The subscription is in force, at first and again after every loss; what came before may have been missed. */
  onReconnect?: () => void
}

declare module 'fastify' {
  interface FastifyFleet {
    /**
     * Sends a message to the subscribers on every instance, this one included. At most once: who is not connected
     * now misses it.
     *
     * @throws FLEET_ERR_STATE_UNAVAILABLE, FLEET_ERR_MESSAGE_TOO_LARGE
     */
    publish(channel: string, message: unknown): Promise<void>
    /** @returns a function that ends the subscription */
    subscribe<T = unknown>(channel: string, listener: Listener<T>, events?: SubscriptionEvents): () => void
  }
}

interface Subscriber extends SubscriptionEvents {
  readonly listener: Listener<never>
}

interface Channel {
  readonly name: string
  readonly subscribers: Set<Subscriber>
  live: boolean
}

/** What carries messages between processes. */
interface Wire {
  publish(name: string, json: string): Promise<unknown>
  join(channel: Channel): void
  leave(channel: Channel): void
  close(): void
}

/** Who in this process listens to what. */
class Listeners {
  readonly channels = new Map<string, Channel>()
  readonly #log: FastifyBaseLogger

  constructor(log: FastifyBaseLogger) {
    this.#log = log
  }

  deliver(name: string, json: string): void {
    for (const { listener } of this.channels.get(name)?.subscribers ?? [])
      this.#run(name, () => listener(JSON.parse(json) as never))
  }

  turn(channel: Channel, live: boolean): void {
    if (channel.live === live) return
    channel.live = live
    for (const { onReconnect, onLost } of channel.subscribers) this.#run(channel.name, live ? onReconnect : onLost)
  }

  subscribe(wire: Wire, name: string, subscriber: Subscriber): () => void {
    const known = this.channels.get(name)
    const channel = known ?? { name, subscribers: new Set(), live: false }
    channel.subscribers.add(subscriber)
    if (!known) {
      this.channels.set(name, channel)
      wire.join(channel)
    } else if (known.live) queueMicrotask(() => this.#run(name, subscriber.onReconnect))
    return () => {
      if (!channel.subscribers.delete(subscriber) || channel.subscribers.size > 0) return
      this.channels.delete(name)
      wire.leave(channel)
    }
  }

  /** One listener's mistake, or a message that is no JSON, is nobody else's trouble. */
  #run(name: string, fn: (() => void) | undefined): void {
    try {
      fn?.()
    } catch (err) {
      this.#log.error({ err, channel: name }, 'broadcast: a listener failed')
    }
  }
}

/** Within this process, and as late as a message from another one would come. */
const memoryWire = (listeners: Listeners): Wire => ({
  publish: async (name, json) => void setImmediate(() => listeners.deliver(name, json)),
  join: (channel) => queueMicrotask(() => listeners.turn(channel, true)),
  leave: () => {},
  close: () => {},
})

interface RedisWireParts {
  readonly client: RedisClient
  readonly listeners: Listeners
  readonly prefix: string
  readonly heartbeatMs: number
  readonly messages: SignedMessages
  readonly onRejected: (reason: Rejection, channel: string) => void
}

/** One connection for all channels, opened for the first one and opened anew whenever it is lost. */
class RedisWire implements Wire {
  readonly #client: RedisClient
  readonly #listeners: Listeners
  readonly #prefix: string
  readonly #heartbeatMs: number
  readonly #messages: SignedMessages
  readonly #onRejected: (reason: Rejection, channel: string) => void
  readonly #options: RedisOptions
  #connection: Redis | undefined
  #timer: NodeJS.Timeout | undefined
  #closed = false

  constructor({ client, listeners, prefix, heartbeatMs, messages, onRejected }: RedisWireParts) {
    this.#client = client
    this.#listeners = listeners
    this.#prefix = prefix
    this.#heartbeatMs = heartbeatMs
    this.#messages = messages
    this.#onRejected = onRejected
    this.#options = {
      lazyConnect: false,
      readOnly: false,
      enableAutoPipelining: false,
      autoResubscribe: false,
      retryStrategy: null,
      commandTimeout: heartbeatMs,
      socketTimeout: heartbeatMs,
    }
  }

  publish(name: string, json: string): Promise<unknown> {
    return guarded(this.#client.publish(this.#prefix + name, this.#messages.seal(name, json)))
  }

  join(channel: Channel): void {
    if (!this.#connection && !this.#timer) this.#open()
    else if (this.#connection?.status === 'ready') this.#subscribe(this.#connection, [channel])
  }

  leave(channel: Channel): void {
    if (this.#connection?.status === 'ready') this.#connection.unsubscribe(this.#prefix + channel.name).catch(() => {})
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#connection?.disconnect()
  }

  #open(): void {
    this.#timer = undefined
    // In a Cluster any node will do: messages go to all of them.
    const { nodes } = this.#client as { nodes?: () => Redis[] }
    const node = nodes ? pick(nodes.call(this.#client)) : (this.#client as Redis)
    if (node) this.#use(node.duplicate(this.#options))
    else this.#openLater()
  }

  #use(connection: Redis): void {
    this.#connection = connection
    const heartbeat = setInterval(() => connection.ping().catch(() => {}), this.#heartbeatMs).unref()
    // The other connection to the same server reports the outage.
    connection.on('error', () => {})
    connection.on('message', (channel: string, text: string) => this.#receive(channel.slice(this.#prefix.length), text))
    connection.on('ready', () => this.#subscribe(connection, [...this.#listeners.channels.values()]))
    connection.on('end', () => {
      clearInterval(heartbeat)
      this.#connection = undefined
      for (const channel of this.#listeners.channels.values()) this.#listeners.turn(channel, false)
      this.#openLater()
    })
  }

  #receive(name: string, text: string): void {
    const opened = this.#messages.open(name, text)
    if ('json' in opened) this.#listeners.deliver(name, opened.json)
    else this.#onRejected(opened.rejected, name)
  }

  #openLater(): void {
    if (!this.#closed) this.#timer = setTimeout(() => this.#open(), 50 + Math.random() * 200).unref()
  }

  #subscribe(connection: Redis, channels: Channel[]): void {
    if (channels.length === 0) return
    connection.subscribe(...channels.map(({ name }) => this.#prefix + name)).then(
      () => {
        if (connection !== this.#connection) return
        for (const channel of channels) this.#listeners.turn(channel, true)
      },
      () => connection.disconnect(),
    )
  }
}

const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(Math.random() * from.length)]

/** What carries the messages of this app. */
async function wireOf(app: FastifyInstance, listeners: Listeners, options: Resolved): Promise<Wire> {
  const { redis: client, fleet } = app
  const { secret, heartbeatMs, maxMessageBytes } = options
  if (!client) return memoryWire(listeners)
  const secrets = await fleetSecrets(app, secret === undefined ? undefined : ['`broadcast.secret`', secret])
  const counts = Object.fromEntries(rejections.map((reason) => [reason, 0])) as Record<Rejection, number>
  expose(app, 'fleet_broadcast_rejected_total', 'Messages on Redis that were ignored', 'reason', counts)
  const warn = seldom((reason: Rejection, channel: string) =>
    app.log.warn({ reason, channel }, 'broadcast: ignoring a message that no instance of this fleet has just sent'),
  )
  return new RedisWire({
    client,
    listeners,
    prefix: `${fleet.name}:broadcast:`,
    heartbeatMs,
    messages: new SignedMessages(new FleetKeys(secrets, 'broadcast', fleet.name), maxMessageBytes),
    onRejected: (reason, channel) => {
      counts[reason]++
      warn(reason, channel)
    },
  })
}

const plugin: FastifyPluginAsync<BroadcastOptions> = async (app, given) => {
  const options = resolveOptions<Resolved>('broadcast', shapes, defaults, given)
  if (!app.hasDecorator('redis')) await app.register(redis)
  const { fleet } = app
  fleet.configure('broadcast', options)
  const listeners = new Listeners(app.log)
  const wire = await wireOf(app, listeners, options)
  fleet.publish = async (channel, message) => {
    const json = JSON.stringify(message ?? null)
    const bytes = Buffer.byteLength(json)
    if (bytes > options.maxMessageBytes)
      throw new FleetError(
        'FLEET_ERR_MESSAGE_TOO_LARGE',
        `it has ${bytes} bytes as JSON, and \`broadcast.maxMessageBytes\` is ${options.maxMessageBytes}`,
      )
    await wire.publish(channel, json)
  }
  fleet.subscribe = (channel, listener, events) => listeners.subscribe(wire, channel, { ...events, listener })
  app.addHook('onClose', async () => wire.close())
}

/** Adds `app.fleet.publish()` and `app.fleet.subscribe()`: fan-out to every instance of the fleet. */
export const broadcast: FastifyPluginAsync<BroadcastOptions> = fp(plugin, { name: 'fleet-broadcast', fastify: '5.x' })
export default broadcast
