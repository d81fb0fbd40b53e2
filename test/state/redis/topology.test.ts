import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { launch, temporaryFolder } from '../../../src/cli/up/child.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { type RedisOptions, redis } from '../../../src/state/redis/index.ts'
import { session } from '../../../src/state/session/index.ts'
import { freePort } from '../../helpers/free-port.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { Browser } from '../session/browser.ts'

/** Longer than a server on a busy machine may have to wait for its turn. A command to a dead node of a Cluster takes as long. */
const patience = { connectTimeoutMs: 5000, commandTimeoutMs: 3000 }
const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

async function build(where: RedisOptions): Promise<FastifyInstance> {
  const app = Fastify()
  apps.push(app)
  await app.register(redis, { ...patience, ...where })
  await app.register(broadcast, { heartbeatMs: 500 })
  await app.register(session, { secret: 'a secret of more than thirty-two bytes' })
  app.get('/', async ({ session }) => {
    session.visits = (session.visits ?? 0) + 1
    return { visits: session.visits }
  })
  app.post('/login', async (request) => {
    await request.session.regenerate(['visits'])
    request.session.userId = 'ann'
    return {}
  })
  return app
}

/** Visits twice, logs in, and logs out everywhere. */
async function useSessions(a: FastifyInstance, b: FastifyInstance): Promise<void> {
  const browser = new Browser()
  assert.deepEqual((await browser.get(a, '/')).json(), { visits: 1 })
  assert.deepEqual((await browser.get(b, '/')).json(), { visits: 2 })
  assert.equal((await browser.post(b, '/login')).statusCode, 200)
  assert.deepEqual((await browser.get(a, '/')).json(), { visits: 3 })
  assert.equal(await b.sessions.destroyAll('ann'), 1)
  assert.deepEqual((await browser.get(a, '/')).json(), { visits: 1 })
}

async function hear(from: FastifyInstance, to: FastifyInstance): Promise<void> {
  const heard: unknown[] = []
  const end = to.fleet.subscribe('chat', (message) => heard.push(message))
  await until(async () => {
    await from.fleet.publish('chat', 'hello')
    return heard.length > 0
  })
  end()
}

describe('Cluster', () => {
  async function startCluster(count: number): Promise<RedisServer[]> {
    const started = await Promise.all(
      Array.from({ length: count }, async () => {
        const bus = await freePort()
        const args = ['--cluster-enabled', 'yes', '--cluster-port', String(bus), '--cluster-node-timeout', '5000']
        return { bus, server: await startRedis({ args: [...args, '--cluster-require-full-coverage', 'no'] }) }
      }),
    )
    const servers = started.map(({ server }) => server)
    const nodes = servers.map(({ url }) => new Redis(url))
    for (const [i, node] of nodes.entries()) {
      const slot = Math.ceil((16_384 * i) / count)
      await node.call('CLUSTER', 'ADDSLOTSRANGE', slot, Math.ceil((16_384 * (i + 1)) / count) - 1)
      await node.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
      const [first] = started as [(typeof started)[0]]
      if (i > 0) await node.call('CLUSTER', 'MEET', '127.0.0.1', first.server.port, first.bus)
    }
    for (const node of nodes)
      await until(
        async () => {
          const info = String(await node.call('CLUSTER', 'INFO'))
          return info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${count}`)
        },
        { what: 'the cluster' },
      )
    await Promise.all(nodes.map((node) => node.quit()))
    return servers
  }

  test('shares sessions, users and messages across nodes, and loses a third of them with a node', async () => {
    const servers = await startCluster(3)
    const seeds = servers.map(({ port }) => `127.0.0.1:${port}`)
    const [a, b] = [await build({ cluster: seeds.slice(0, 1) }), await build({ cluster: seeds })]
    assert.equal(a.fleet.facts.redis, 'cluster')
    for (let i = 0; i < 12; i++) await useSessions(a, b)
    await hear(a, b)

    const browsers = Array.from({ length: 24 }, () => new Browser())
    for (const browser of browsers) await browser.get(a, '/')
    await servers[2]?.kill('SIGKILL')
    const after = async (): Promise<number[]> =>
      (await Promise.all(browsers.map((browser) => browser.get(b, '/')))).map(({ statusCode }) => statusCode)
    await until(async () => (await after()).filter((status) => status === 200).length >= 8)
    assert.ok((await after()).every((status) => status === 200 || status === 503))
    await until(() => hear(a, b).then(() => true), { what: 'messages through the nodes that are left' })

    await servers[2]?.restart()
    await until(async () => (await after()).every((status) => status === 200), { what: 'all sessions again' })
  })

  test('starts and closes without nodes, while commands fail', async () => {
    const app = await build({ cluster: [`127.0.0.1:${await freePort()}`], connectTimeoutMs: 50 })
    const browser = new Browser()
    assert.equal((await browser.get(app, '/')).statusCode, 503)
    await app.close()
  })
})

describe('Sentinel', () => {
  test('uses the sessions of the new primary after a failover', async () => {
    const primary = await startRedis()
    const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(primary.port)] })
    const at = new Redis(replica.url)
    await until(async () => (await at.info('replication')).includes('master_link_status:up'))
    await at.quit()
    const port = await freePort()
    const file = join(temporaryFolder('sentinel'), 'sentinel.conf')
    const monitor = [
      `port ${port}`,
      'bind 127.0.0.1',
      `sentinel monitor shop 127.0.0.1 ${primary.port} 1`,
      'sentinel down-after-milliseconds shop 3000',
      'sentinel failover-timeout shop 2000',
    ]
    writeFileSync(file, `${monitor.join('\n')}\n`)
    launch(primary.program, [file, '--sentinel'])
    const sentinel = new Redis(port)
    sentinel.on('error', () => {})
    await until(async () => String(await sentinel.call('SENTINEL', 'REPLICAS', 'shop')).includes(String(replica.port)))
    sentinel.disconnect()

    const sentinels = `shop@127.0.0.1:${port}`
    const [a, b] = [await build({ sentinels }), await build({ sentinels })]
    assert.equal(a.fleet.facts.redis, 'sentinel')
    await useSessions(a, b)
    await hear(a, b)
    const browser = new Browser()
    await browser.get(a, '/')
    assert.equal(await a.redis?.call('WAIT', 1, 5000), 1)

    await primary.kill('SIGKILL')
    await until(async () => (await browser.get(b, '/')).statusCode === 200, { what: 'the failover' })
    assert.ok((await browser.get(b, '/')).json().visits >= 3)
    await until(async () => (await browser.get(a, '/')).statusCode === 200)
    await useSessions(a, b)
    await hear(a, b)
  })
})
