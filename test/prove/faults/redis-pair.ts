import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { launch, temporaryFolder } from '../../../src/cli/up/child.ts'
import { provide } from '../../../src/cli/up/install.ts'
import { redisProgram } from '../../../src/cli/up/redis.ts'
import { freePort } from '../../helpers/free-port.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'

/** One of two servers. Everything reaches it through its relay, other servers and sentinels included. */
export interface Node {
  readonly server: RedisServer
  readonly relay: Relay
}

/** Two Redis servers, the primary and its replica, and three sentinels. */
export class RedisPair {
  readonly nodes: readonly [Node, Node]
  /** As `REDIS_SENTINELS` takes it. */
  readonly sentinels: string
  readonly #sentinel: Redis
  #primary: Node

  private constructor(nodes: readonly [Node, Node], ports: readonly number[], host: string) {
    this.nodes = nodes
    this.#primary = nodes[0]
    this.sentinels = `fleet@${ports.map((port) => `${host}:${port}`).join()}`
    this.#sentinel = new Redis(ports[0] as number, '127.0.0.1', { retryStrategy: () => 50, commandTimeout: 3000 })
    this.#sentinel.on('error', () => {})
  }

  /** @param host the name of this machine for the instances */
  static async start(host: string): Promise<RedisPair> {
    const nodes = [await startNode(), await startNode()] as const
    await direct(nodes[1], (client) => client.replicaof('127.0.0.1', nodes[0].relay.port))
    await until(() => direct(nodes[0], async (client) => (await client.info('replication')).includes('state=online')), {
      what: 'the replica',
    })
    const ports = [await freePort(), await freePort(), await freePort()]
    for (const port of ports) {
      const file = join(temporaryFolder('sentinel'), 'sentinel.conf')
      const lines = [
        `port ${port}`,
        'bind 127.0.0.1',
        `sentinel monitor fleet 127.0.0.1 ${nodes[0].relay.port} 2`,
        'sentinel down-after-milliseconds fleet 3000',
        'sentinel failover-timeout fleet 3000',
      ]
      writeFileSync(file, lines.join('\n'))
      launch(nodes[0].server.program, [file, '--sentinel'])
    }
    const pair = new RedisPair(nodes, ports, host)
    await until(() => pair.#isComplete(), { what: 'the sentinels' })
    return pair
  }

  /** The server that the sentinels name, or the last one that they named. */
  async primary(): Promise<Node> {
    const named = (await this.#sentinel
      .call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'fleet')
      .catch(() => [])) as string[]
    this.#primary = this.nodes.find(({ relay }) => relay.port === Number(named[1])) ?? this.#primary
    return this.#primary
  }

  /** Whether the replica has all writes so far, or gets them within half a second. */
  async replicated(): Promise<boolean> {
    const node = await this.primary()
    return direct(node, async (client) => Number(await client.call('WAIT', '1', '500')) === 1).catch(() => false)
  }

  /** After a death. */
  async restart(node: Node): Promise<void> {
    await node.server.restart()
    await this.follow(node)
  }

  /** Makes a server that is not the primary a replica of it: the sentinels take ten seconds for that. */
  async follow(node: Node): Promise<void> {
    const primary = await this.primary()
    if (node === primary) return
    await direct(node, (client) => client.replicaof('127.0.0.1', primary.relay.port)).catch(() => {})
  }

  /** Waits until the primary accepts writes and its replica follows. */
  async healthy(): Promise<void> {
    const began = performance.now()
    await until(
      async () => {
        // A failover may be in progress at first.
        if (performance.now() - began > 4000) for (const node of this.nodes) await this.follow(node)
        const info = await direct(await this.primary(), (client) => client.info('replication'))
        return info.includes('role:master') && info.includes('state=online') && (await this.#isComplete())
      },
      { what: 'a primary with a replica' },
    )
  }

  /** The failovers so far. On a machine that is too busy there is one without a fault. */
  async failovers(): Promise<number> {
    return Number((await this.#facts())('config-epoch'))
  }

  async #facts(): Promise<(name: string) => string | undefined> {
    const facts = (await this.#sentinel.call('SENTINEL', 'MASTER', 'fleet')) as string[]
    return (name) => facts[facts.indexOf(name) + 1]
  }

  async #isComplete(): Promise<boolean> {
    const fact = await this.#facts()
    return fact('num-slaves') === '1' && fact('num-other-sentinels') === '2' && fact('flags') === 'master'
  }

  close(): void {
    this.#sentinel.disconnect()
  }
}

/** Sends commands to a server itself, past its relay. */
export async function direct<T>({ server }: { server: RedisServer }, send: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(server.port, '127.0.0.1', {
    retryStrategy: () => null,
    connectTimeout: 2000,
  })
  client.on('error', () => {})
  const late = sleep(8000, undefined, { ref: false }).then(() => Promise.reject(new Error('Redis does not respond')))
  try {
    return await Promise.race([send(client), late])
  } finally {
    client.disconnect()
    late.catch(() => {})
  }
}

/** A server with an append-only file, so that a restart loses nothing. */
export async function startNode(): Promise<Node> {
  const port = await freePort()
  const relay = await Relay.open(port)
  const args = [
    // The default. With `always`, Redis ends as soon as its disk is full.
    ...['--appendfsync', 'everysec'],
    ...['--repl-diskless-sync-delay', '0', '--auto-aof-rewrite-min-size', '16mb'],
    ...['--replica-announce-ip', '127.0.0.1', '--replica-announce-port', String(relay.port)],
  ]
  return { server: await startRedis({ port, appendonly: true, args, program: await program() }), relay }
}

/** Redis, of which a write beyond the limit of a file's size fails as on a full disk. By default it would be killed. */
async function program(): Promise<string> {
  const file = join(temporaryFolder('redis'), 'redis-server')
  const redis = await provide(redisProgram)
  writeFileSync(file, `#!/bin/sh\ntrap '' XFSZ\nexec '${redis}' "$@"\n`, { mode: 0o755 })
  return file
}
