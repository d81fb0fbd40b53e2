import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

export interface RedisCluster {
  /** `host:port` of each node, as `REDIS_CLUSTER` and the option `cluster` take them. */
  readonly nodes: string[]
  /** The three initial primaries. */
  readonly servers: readonly RedisServer[]
  /** Their replicas, in the same order. */
  readonly replicas: readonly RedisServer[]
}

const slots = 16_384

/** Three primaries that share the slots, each with a replica that takes over when its primary fails. */
export async function startCluster(): Promise<RedisCluster> {
  const started = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const bus = await freePort()
      const args = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '2000']
      return { bus, server: await startRedis({ args: [...args, '--repl-diskless-sync-delay', '0'] }) }
    }),
  )
  const clients = started.map(({ server }) => new Redis(server.port, '127.0.0.1'))
  const primaries = clients.slice(0, 3)
  const bound = (i: number): number => Math.round((slots * i) / primaries.length)
  for (const [i, client] of clients.entries()) {
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
    if (i < 3) await client.call('CLUSTER', 'ADDSLOTSRANGE', bound(i), bound(i + 1) - 1)
  }
  // Introduce every node to every other one: gossip would take longer.
  for (const [i, client] of clients.entries())
    for (const { server, bus } of started.slice(i + 1))
      await client.call('CLUSTER', 'MEET', '127.0.0.1', server.port, bus)
  const all = async (fact: string): Promise<boolean> => {
    const reported = await Promise.all(clients.map(async (client) => String(await client.call('CLUSTER', 'INFO'))))
    return reported.every((info) => info.includes(fact))
  }
  const patience = { what: 'the cluster' }
  await until(() => all('cluster_known_nodes:6'), patience)
  for (const [i, client] of clients.slice(3).entries()) {
    const primary = String(await primaries[i]?.call('CLUSTER', 'MYID'))
    await until(() => client.call('CLUSTER', 'REPLICATE', primary), patience)
  }
  await until(() => all('cluster_state:ok'), patience)
  for (const client of primaries)
    await until(async () => (await client.info('replication')).includes('state=online'), patience)
  for (const client of clients) client.disconnect()
  const servers = started.map(({ server }) => server)
  const nodes = servers.map(({ port }) => `127.0.0.1:${port}`)
  return { nodes, servers: servers.slice(0, 3), replicas: servers.slice(3) }
}

export interface RedisSentinel {
  /** As `REDIS_SENTINELS` and the option `sentinels` take it. */
  readonly sentinels: string
  readonly primary: RedisServer
  readonly replicas: readonly RedisServer[]
}

/**
 * A primary with two replicas, one of which takes over when two of three sentinels have heard nothing of the primary for
 * three seconds: longer than a server on a busy machine may have to wait for its turn.
 */
export async function startSentinel(): Promise<RedisSentinel> {
  const primary = await startRedis({ args: ['--repl-diskless-sync-delay', '0'] })
  const replica = (): Promise<RedisServer> => startRedis({ args: ['--replicaof', '127.0.0.1', String(primary.port)] })
  const replicas = await Promise.all([replica(), replica()])
  // Sentinels query a primary for its replicas at first contact and then every ten seconds.
  const client = new Redis(primary.port, '127.0.0.1')
  await until(async () => (await client.info('replication')).match(/state=online/g)?.length === 2, {
    what: 'the replicas',
  })
  client.disconnect()
  const ports = [await freePort(), await freePort(), await freePort()]
  for (const port of ports) {
    const file = join(temporaryFolder('sentinel'), 'sentinel.conf')
    writeFileSync(
      file,
      [
        `port ${port}`,
        'bind 127.0.0.1',
        `sentinel monitor fleet 127.0.0.1 ${primary.port} 2`,
        'sentinel down-after-milliseconds fleet 3000',
        'sentinel failover-timeout fleet 3000',
      ].join('\n'),
    )
    launch(primary.program, [file, '--sentinel'])
  }
  for (const port of ports) {
    const client = new Redis(port, '127.0.0.1', { retryStrategy: () => 50 })
    client.on('error', () => {})
    const knows = async (): Promise<boolean> => {
      const facts = String(await client.call('SENTINEL', 'MASTER', 'fleet'))
      const known = String(await client.call('SENTINEL', 'REPLICAS', 'fleet'))
      // A replica can be promoted once the sentinel has read this from it.
      return facts.includes('num-other-sentinels,2') && known.match(/master-link-status,ok/g)?.length === 2
    }
    await until(knows, { what: 'sentinels that know each other and the replicas' })
    client.disconnect()
  }
  return { sentinels: `fleet@${ports.map((port) => `127.0.0.1:${port}`).join()}`, primary, replicas }
}

/** Waits until every replica of a server has received all writes so far. */
export async function replicated({ port }: RedisServer): Promise<void> {
  const client = new Redis(port, '127.0.0.1')
  const [, replicas] = /connected_slaves:(\d+)/.exec(await client.info('replication')) ?? []
  await until(async () => Number(await client.call('WAIT', String(replicas), 1000)) === Number(replicas), {
    what: 'replication',
  })
  client.disconnect()
}
