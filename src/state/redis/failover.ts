import type { Redis } from 'ioredis'
import { isConnectedTo } from '../../base/internals/ioredis.ts'

/**
 * Reconnects a client as soon as a sentinel reports another primary. The old one may still run: after `SENTINEL FAILOVER`,
 * a partition, or a full disk. It accepts writes for about ten more seconds, until it is made a replica, and these are lost.
 *
 * ioredis has a `failoverDetector`, which prints every failed connection to a sentinel, and subscribes anew with each
 * connection to a primary, so that it misses the sentinels that report later.
 *
 * Source: Redis, "Guidelines for Redis clients with support for Redis Sentinel", step 4 and the event `+switch-master`.
 *
 * @param name of the primary
 * @param sentinels a connection to each, which is closed with the client
 */
export function followFailovers(client: Redis, name: string, sentinels: readonly Redis[]): void {
  for (const sentinel of sentinels) {
    // A sentinel that is down is noticed by the client when it needs one.
    sentinel.on('error', () => {})
    sentinel.on('ready', () => void sentinel.subscribe('+switch-master').catch(() => {}))
    sentinel.on('message', (_channel, text: string) => {
      const [of, _oldHost, _oldPort, host = '', port] = text.split(' ')
      // A sentinel that reports later than others.
      if (of !== name || client.status === 'end' || isConnectedTo(client, host, Number(port))) return
      client.disconnect(true)
    })
    client.once('end', () => sentinel.disconnect())
  }
}
