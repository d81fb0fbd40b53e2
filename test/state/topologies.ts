import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { launch, temporaryFolder } from '../../src/cli/services/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

export interface RedisCluster {
  /** `host:port` of each node, as `REDIS_CLUSTER` and the option `cluster` take them. */
  readonly nodes: string[]
  readonly servers: readonly RedisServer[]
}

const slots = 16_384

/** Three primaries that share the slots. */
export async function startCluster(): Promise<RedisCluster> {
  const servers: RedisServer[] = []
  const buses: number[] = []
  for (let i = 0; i < 3; i++) {
    const bus = await freePort()
    const args = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '2000']
    servers.push(await startRedis({ args }))
    buses.push(bus)
  }
  const clients = servers.map(({ port }) => new Redis(port, '127.0.0.1'))
  const bound = (i: number): number => Math.round((slots * i) / servers.length)
  for (const [i, client] of clients.entries()) {
    await client.call('CLUSTER', 'ADDSLOTSRANGE', bound(i), bound(i + 1) - 1)
    if (i > 0) await clients[0]?.call('CLUSTER', 'MEET', '127.0.0.1', servers[i]?.port ?? 0, buses[i] ?? 0)
  }
  const whole = async (client: Redis): Promise<boolean> => {
    const info = String(await client.call('CLUSTER', 'INFO'))
    return info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3')
  }
  await until(async () => (await Promise.all(clients.map(whole))).every(Boolean), {
    timeoutMs: 20_000,
    what: 'cluster',
  })
  for (const client of clients) client.disconnect()
  return { nodes: servers.map(({ port }) => `127.0.0.1:${port}`), servers }
}

export interface RedisSentinel {
  /** As `REDIS_SENTINELS` and the option `sentinels` take it. */
  readonly sentinels: string
  readonly primary: RedisServer
  readonly replica: RedisServer
}

/** A primary with one replica, which a sentinel makes the primary when the first one has been silent for 500 ms. */
export async function startSentinel(): Promise<RedisSentinel> {
  const primary = await startRedis({ args: ['--repl-diskless-sync-delay', '0'] })
  const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(primary.port)] })
  const port = await freePort()
  const file = join(temporaryFolder('sentinel'), 'sentinel.conf')
  writeFileSync(
    file,
    [
      `port ${port}`,
      'bind 127.0.0.1',
      `sentinel monitor fleet 127.0.0.1 ${primary.port} 1`,
      'sentinel down-after-milliseconds fleet 500',
      'sentinel failover-timeout fleet 3000',
    ].join('\n'),
  )
  launch(primary.program, [file, '--sentinel'])
  const client = new Redis(port, '127.0.0.1', { retryStrategy: () => 50 })
  client.on('error', () => {})
  await until(async () => String(await client.call('SENTINEL', 'MASTER', 'fleet')).includes('num-slaves,1'), {
    timeoutMs: 30_000,
    what: 'a sentinel that knows the replica',
  })
  client.disconnect()
  return { sentinels: `fleet@127.0.0.1:${port}`, primary, replica }
}

/** Waits until a server's replica has all that was written to it so far. */
export async function replicated({ port }: RedisServer): Promise<void> {
  const client = new Redis(port, '127.0.0.1')
  await client.set('written', 'last')
  await until(async () => Number(await client.call('WAIT', 1, 1000)) === 1, { what: 'replication' })
  client.disconnect()
}
