import type { FastifyBaseLogger } from 'fastify'

/** Receives a message. Messages travel as JSON, in memory mode too. */
export type Listener<T = unknown> = (message: T) => void

export interface SubscriptionEvents {
  /** From now on messages may be missed. */
  onLost?: () => void
  /** The subscription is active, at first and after every loss. Earlier messages may have been missed. */
  onReconnect?: () => void
}

export interface Subscriber extends SubscriptionEvents {
  readonly listener: Listener<never>
}

export interface Channel {
  readonly name: string
  readonly subscribers: Set<Subscriber>
  live: boolean
}

/** Carries messages between instances. */
export interface Transport {
  publish(name: string, json: string): Promise<unknown>
  join(channel: Channel): void
  leave(channel: Channel): void
  close(): void
}

/** The subscribers of this process by channel. */
export class Subscriptions {
  readonly channels = new Map<string, Channel>()
  readonly #log: FastifyBaseLogger
  #change = Promise.withResolvers<void>()

  constructor(log: FastifyBaseLogger) {
    this.#log = log
  }

  deliver(name: string, json: string): void {
    for (const { listener } of this.channels.get(name)?.subscribers ?? [])
      this.#run(name, () => listener(JSON.parse(json) as never))
  }

  setLive(channel: Channel, live: boolean): void {
    if (channel.live === live) return
    channel.live = live
    for (const { onReconnect, onLost } of channel.subscribers) this.#run(channel.name, live ? onReconnect : onLost)
    this.#change.resolve()
    this.#change = Promise.withResolvers()
  }

  /** Resolves once every channel is live. */
  async live(): Promise<void> {
    while ([...this.channels.values()].some(({ live }) => !live)) await this.#change.promise
  }

  subscribe(transport: Transport, name: string, subscriber: Subscriber): () => void {
    const known = this.channels.get(name)
    const channel = known ?? { name, subscribers: new Set(), live: false }
    channel.subscribers.add(subscriber)
    if (!known) {
      this.channels.set(name, channel)
      transport.join(channel)
    } else if (known.live) queueMicrotask(() => this.#run(name, subscriber.onReconnect))
    return () => {
      if (!channel.subscribers.delete(subscriber) || channel.subscribers.size > 0) return
      this.channels.delete(name)
      transport.leave(channel)
    }
  }

  /** Isolates subscribers: a listener that throws, or a message that is not JSON, does not affect the others. */
  #run(name: string, fn: (() => void) | undefined): void {
    try {
      fn?.()
    } catch (err) {
      this.#log.error({ err, channel: name }, 'broadcast: a listener failed')
    }
  }
}

/** Delivers within this process, asynchronously like messages from other instances. */
export const memoryTransport = (subscriptions: Subscriptions): Transport => ({
  publish: async (name, json) => void setImmediate(() => subscriptions.deliver(name, json)),
  join: (channel) => queueMicrotask(() => subscriptions.setLive(channel, true)),
  leave: () => {},
  close: () => {},
})
