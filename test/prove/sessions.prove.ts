import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { Cluster, Redis } from 'ioredis'
import { RedisRecordStore } from '../../src/state/session/redis-store.ts'
import { Sessions } from '../../src/state/session/repository.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { startCluster } from '../state/topologies.ts'
import { bytesPerSession, loggedIn, ttlMs, writeSessions } from './many-sessions.ts'
import { prove } from './prove.ts'
import { redisFigures } from './redis-figures.ts'
import { Visitor } from './visits.ts'

const gib = 2 ** 30
const thousands = new Intl.NumberFormat('en')

/** Memory that this machine can give, bytes. */
const available = (): number => Number(/MemAvailable: +(\d+)/.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024

prove('ten million sessions need the documented memory', 'session-memory', async (proof) => {
  const sessions = proof.pick(100_000, 10_000_000)
  if (available() < sessions * 700 + 2 * gib) proof.skip('too little memory')
  const redis = await startRedis({ args: ['--maxmemory', String(sessions * 1000 + gib)] })
  const client = new Redis(redis.port)
  proof.t.after(() => client.disconnect())
  const store = new Sessions(new RedisRecordStore(client, 'fleet'), { ttlMs })

  // The first ones by the plugin's own code, all others in the same form by a faster one.
  const first = 1000
  for (let number = 0; number < first; number++) {
    const { id, data, cookie } = loggedIn(number)
    await store.create(id, data, cookie)
  }
  const sizes = async (user: string, id: string): Promise<unknown[]> =>
    Promise.all(
      [`fleet:session:{${id}}`, `fleet:user-sessions:{${user}}`].flatMap((key) => [
        client.type(key),
        client.object('ENCODING', key),
        client.memory('USAGE', key),
      ]),
    )
  const [own] = await store.list('user-00000000')
  const before = await redisFigures(client)
  const { some, lengths } = await writeSessions(client, first, sessions)
  let after = await redisFigures(client)
  await until(async () => {
    // A hash table that grows is moved in the background.
    const last = after.memory
    after = await redisFigures(client)
    return Math.abs(after.memory - last) < 10_000
  })
  assert.equal(after.keys, 2 * sessions)
  for (const [user, id] of [...some].slice(0, 1000)) {
    const [session, ...more] = await store.list(user)
    assert.deepEqual([session?.sessionId, session?.data, more.length], [id, { userId: user }, 0])
  }
  const [[user, id]] = [...some] as [[string, string]]
  assert.deepEqual(await sizes(user, id), await sizes('user-00000000', own?.sessionId ?? ''))

  const each = (after.memory - before.memory) / (sessions - first)
  const expected = bytesPerSession(lengths)
  proof.count({ sessions })
  proof.note(
    `${each.toFixed(0)} bytes per session; by the formula ${expected}; ${thousands.format(after.memory)} bytes in all`,
  )
  proof.note(JSON.stringify(lengths))
  assert.ok(each < expected * 1.05 && each > expected * 0.85, `${each} bytes, ${expected} by the formula`)
})

prove(
  'on a Redis Cluster keys spread evenly',
  'cluster-spread',
  async (proof) => {
    const cluster = await startCluster()
    const env = {
      REDIS_CLUSTER: cluster.nodes.join(),
      TTL_MS: 60_000,
      SESSION_SECRET: 's'.repeat(40),
      JWT_SECRET: 's'.repeat(40),
    }
    const app = forkApp(new URL('fixtures/everything.ts', import.meta.url), { env, ipc: true })
    const [, url = ''] = await app.waitFor(/url (\S+)/)
    // Every feature: a command with keys of two nodes would fail.
    const visitor = new Visitor(url)
    for (let visit = 0; visit < proof.pick(3, 100); visit++) await visitor.visit()
    proof.count({ requests: visitor.requests, failed: 0, twice: visitor.twice })
    assert.equal(visitor.twice, 0)
    await visitor.close()

    const [host, port] = (cluster.nodes[0] as string).split(':')
    const client = new Cluster([{ host, port: Number(port) }], { enableAutoPipelining: true })
    proof.t.after(() => client.disconnect())
    const store = new Sessions(new RedisRecordStore(client, 'fleet'), { ttlMs })
    const sessions = proof.pick(10_000, 300_000)
    for (let number = 0; number < sessions; )
      await Promise.all(
        Array.from({ length: 1000 }, () => loggedIn(number++)).map(({ id, data, cookie }) =>
          store.create(id, data, cookie),
        ),
      )
    const keys = await Promise.all(client.nodes('master').map((node) => node.dbsize()))
    const total = keys.reduce((sum, count) => sum + count, 0)
    proof.count({ sessions, keys: total })
    proof.note(`keys by node: ${keys.map((count) => thousands.format(count)).join(', ')}`)
    assert.equal(keys.length, 3)
    for (const count of keys) assert.ok(Math.abs((count * 3) / total - 1) < 0.05, `keys by node: ${keys}`)
  },
  { fullOnly: true },
)
