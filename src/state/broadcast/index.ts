// Broadcast: `app.fleet.publish()` and `app.fleet.subscribe()`, at-most-once messages to all instances of a fleet. Concepts:
//   Subscriptions (subscriptions.ts)     the subscribers of this process; the Transport interface, and one in memory
//   RedisTransport (redis-transport.ts)  Pub/Sub over one connection, with a heartbeat
//   SignedMessages (signed-messages.ts)  signatures and replay protection

import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { ensure } from '../../base/ensure.ts'
import { FleetError } from '../../base/errors.ts'
import { either, int, list, type OptionsOf, type Resolved, resolveOptions, text } from '../../base/options.ts'
import { within } from '../../base/within.ts'
import { extendFleet, fleetPlugin } from '../../instance/compat/index.ts'
import { expose } from '../../instance/metrics/expose.ts'
import redis, { redisOf } from '../redis/index.ts'
import { FleetKeys, fleetSecrets } from '../registry/fleet-keys.ts'
import { throttle } from '../throttle.ts'
import { RedisTransport } from './redis-transport.ts'
import { type MessageRejection, messageRejections, SignedMessages } from './signed-messages.ts'
import {
  type Listener,
  memoryTransport,
  type SubscriptionEvents,
  Subscriptions,
  type Transport,
} from './subscriptions.ts'

export type { Listener, SubscriptionEvents } from './subscriptions.ts'

/** @internal */
export const broadcastOptions = {
  /** Interval and timeout of pings on the subscribed connection. */
  heartbeatMs: int(100, 60_000, 'milliseconds').default(1000),
  /** Maximum size of a message as JSON. Larger ones are rejected on both sides. */
  maxMessageBytes: int(1, 67_108_864, 'bytes').default(1_048_576),
  /**
   * Signs messages and registry entries, because other applications may write to this Redis. 32 bytes or more; the first of a
   * list signs, all verify. Use the same on every instance. @default `FLEET_SECRET`, else `SESSION_SECRET`, else `JWT_SECRET`;
   * outside production a generated one that the instances share in Redis
   */
  secret: either(text, list(text)),
}
export type BroadcastOptions = OptionsOf<typeof broadcastOptions>

/** How long a boot waits for its subscriptions, ms: two attempts at connecting by the default heartbeat. */
const startMs = 2_500

declare module 'fastify' {
  interface FastifyFleet {
    /**
     * Sends a message to the subscribers on every instance, including this one. At most once: a subscriber that is not
     * connected misses it.
     *
     * @throws FLEET_ERR_STATE_UNAVAILABLE, FLEET_ERR_MESSAGE_TOO_LARGE
     */
    publish(channel: string, message: unknown): Promise<void>
    /** @returns a function that ends the subscription */
    subscribe<T = unknown>(channel: string, listener: Listener<T>, events?: SubscriptionEvents): () => void
  }
}

async function transportOf(
  app: FastifyInstance,
  subscriptions: Subscriptions,
  { secret, heartbeatMs, maxMessageBytes }: Resolved<typeof broadcastOptions>,
): Promise<Transport> {
  const { fleet } = app
  const client = redisOf(app)
  if (!client) return memoryTransport(subscriptions)
  const secrets = await fleetSecrets(app, secret === undefined ? undefined : ['`broadcast.secret`', secret])
  const counts = Object.fromEntries(messageRejections.map((reason) => [reason, 0])) as Record<MessageRejection, number>
  expose(app, 'fleet_broadcast_rejected_total', 'Messages from Redis that were ignored, by reason', 'reason', counts)
  const warn = throttle((reason: MessageRejection, channel: string) =>
    app.log.warn({ reason, channel }, 'broadcast: ignoring a message without a valid, fresh signature of this fleet'),
  )
  return new RedisTransport({
    client,
    subscriptions,
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
  const options = resolveOptions('broadcast', broadcastOptions, given)
  await ensure(app, redis)
  const { fleet } = app
  fleet.configure('broadcast', options)
  const subscriptions = new Subscriptions(app.log)
  const transport = await transportOf(app, subscriptions, options)
  extendFleet(app, {
    async publish(channel, message) {
      const json = JSON.stringify(message ?? null)
      const bytes = Buffer.byteLength(json)
      if (bytes > options.maxMessageBytes)
        throw new FleetError(
          'FLEET_ERR_MESSAGE_TOO_LARGE',
          `the message has ${bytes} bytes as JSON; \`broadcast.maxMessageBytes\` is ${options.maxMessageBytes}`,
        )
      await transport.publish(channel, json)
    },
    subscribe: (channel, listener, events) =>
      subscriptions.subscribe(transport, channel, { ...events, listener: listener as (message: unknown) => void }),
  })
  // So that an instance which serves misses nothing. Without Redis it serves all the same.
  app.addHook('onReady', async () => {
    const client = redisOf(app)
    if (client && client.status !== 'ready') return
    if ((await within(startMs, subscriptions.live())) !== 'late') return
    app.log.warn({ limitMs: startMs }, 'broadcast: Redis is slow; serving before all subscriptions are active')
  })
  app.addHook('onClose', async () => transport.close())
}

/** Adds `app.fleet.publish()` and `app.fleet.subscribe()`: messages to every instance of the fleet. */
export const broadcast: FastifyPluginAsync<BroadcastOptions> = fleetPlugin('broadcast', plugin)
export default broadcast
