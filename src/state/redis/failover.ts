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
 * @param sentinels a connection to each
 * @returns closes these connections. A client that is disconnected while it waits to reconnect emits no event
 */
export function followFailovers(client: Redis, name: string, sentinels: readonly Redis[]): () => void {
  /** Reported while the client was not connected. */
  let reported: string | undefined
  const follow = (report: string): void => {
    const [of, _oldHost, _oldPort, host = '', port] = report.split(' ')
    if (of !== name || isConnectedTo(client, host, Number(port))) return
    // ioredis ends for ever if it is disconnected while it asks a sentinel, which may still name the old primary.
    if (client.status === 'ready') client.disconnect(true)
    else reported = report
  }
  client.on('ready', () => {
    const report = reported
    reported = undefined
    if (report) follow(report)
  })
  for (const sentinel of sentinels) {
    // A sentinel that is down is noticed by the client when it needs one.
    sentinel.on('error', () => {})
    sentinel.on('ready', () => void sentinel.subscribe('+switch-master').catch(() => {}))
    sentinel.on('message', (_channel, report: string) => follow(report))
  }
  return () => {
    for (const sentinel of sentinels) sentinel.disconnect()
  }
}
