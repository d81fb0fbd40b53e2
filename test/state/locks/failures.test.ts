import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import identity from '../../../src/instance/identity.ts'
import lifecycle from '../../../src/instance/lifecycle/index.ts'
import locks from '../../../src/state/locks/index.ts'
import redis, { type RedisOptions } from '../../../src/state/redis/index.ts'
import { type App, forkApp } from '../../helpers/fork-app.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp } from '../redis/patience.ts'
import { type RedisSentinel, replicated, startSentinel } from '../topologies.ts'
import { code, gate } from './contract.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

async function start(where: RedisOptions, name: string): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { name })
  await app.register(lifecycle, { signals: false })
  await app.register(redis, { ...patient, ...where })
  await app.register(locks, { closeGraceMs: 500 })
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}
const lockKey = (app: FastifyInstance, name: string): string => app.redisKey('lock', encodeURIComponent(name))

describe('a holder in another process', { concurrency: true }, () => {
  // A holder loses its lock when it, or Redis, is suspended for two thirds of this.
  const ttl = 4000
  const hour = 3_600_000
  let server: RedisServer
  before(async () => {
    server = await startRedis()
  })
  const fork = (name: string, what: 'lock' | 'leader', clock = 0): App =>
    forkApp(new URL('holder.fixture.ts', import.meta.url), {
      env: { FLEET_NAME: name, REDIS_URL: server.url, WHAT: what, TTL: ttl, CLOCK: clock },
      ipc: true,
    })
  const tokenOf = async (child: App): Promise<number> => Number((await child.waitFor(/held (\d+)/, 60_000))[1])
  /** Remaining lease of the dead holder, by Redis's clock. */
  async function remains(app: FastifyInstance, name: string): Promise<number> {
    const ms = Number(await app.redis?.pttl(lockKey(app, name)))
    assert.ok(ms <= ttl, `${ms} ms`)
    return ms
  }

  test('another holder gets the lock of a killed one within its ttlMs, with a greater token', async (t) => {
    const app = await start({ url: server.url }, 'killed')
    const child = fork('killed', 'lock')
    const token = await tokenOf(child)
    const busy = app.fleet.lock('shared', () => 1, { waitMs: 0 })
    await assert.rejects(busy, code('FLEET_ERR_LOCK_BUSY'))
    await child.kill('SIGKILL')
    const left = await remains(app, 'lock shared')
    const began = performance.now()
    const next = await app.fleet.lock('shared', (mine) => mine, { waitMs: 60_000 })
    t.diagnostic(
      `the dead one kept it for ${left} of ${ttl} ms, taken after ${Math.round(performance.now() - began)} ms`,
    )
    assert.ok(next > token)
  })

  test('another instance leads within ttlMs after the leader was killed', async (t) => {
    const child = fork('killed-leader', 'leader')
    await child.waitFor(/leading/, 60_000)
    const app = await start({ url: server.url }, 'killed-leader')
    const job = app.fleet.leader('job', () => {}, { ttlMs: ttl })
    await app.fleet.lock('asked after the job was', () => {})
    assert.equal(job.leading, false)
    await child.kill('SIGKILL')
    const left = await remains(app, 'leader job')
    const began = performance.now()
    await until(() => job.leading)
    t.diagnostic(
      `the dead one led for ${left} of ${ttl} ms, followed after ${Math.round(performance.now() - began)} ms`,
    )
  })

  for (const what of ['lock', 'leader'] as const)
    test(`a wrong or adjusted clock neither ends nor prolongs a ${what}`, async () => {
      const name = `clocks-${what}`
      const key = what === 'lock' ? 'lock shared' : 'leader job'
      const app = await start({ url: server.url }, name)
      const begins = what === 'lock' ? /held/ : /leading/
      const ahead = fork(name, what, hour)
      await ahead.waitFor(begins, 60_000)
      const holder = await app.redis?.get(lockKey(app, key))
      const behind = fork(name, what, -hour)
      for (const clock of [-24 * hour, 365 * 24 * hour]) {
        ahead.send(clock)
        await ahead.waitFor(new RegExp(`moved ${clock}`), 60_000)
        const since = performance.now()
        // Longer than ttlMs: the lock was renewed, and no other holder could take it.
        await until(() => performance.now() - since > ttl * 1.2)
        assert.equal(await app.redis?.get(lockKey(app, key)), holder)
        await remains(app, key)
      }
      assert.doesNotMatch(ahead.stdout, /lost/)
      assert.doesNotMatch(behind.stdout, begins)
      await ahead.kill('SIGKILL')
      await remains(app, key)
      await behind.waitFor(begins, 60_000)
      if (what === 'lock') assert.ok((await tokenOf(behind)) > (await tokenOf(ahead)))
      await behind.kill('SIGKILL')
    })
})

describe('a failover of Redis while a lock is held', () => {
  let sentinel: RedisSentinel
  let a: FastifyInstance
  let b: FastifyInstance
  before(async () => {
    sentinel = await startSentinel()
    const where = { sentinels: sentinel.sentinels }
    ;[a, b] = await Promise.all([start(where, 'failover'), start(where, 'failover')])
  })

  /** A protected resource: it rejects a writer whose token is smaller than one it has seen. */
  const store = { value: '', token: 0, rejected: 0 }
  const write = (value: string, token: number): void => {
    if (token < store.token) store.rejected++
    else Object.assign(store, { value, token })
  }
  /** Holds a lock until `later` is resolved. */
  function hold(name: string, ttl: number) {
    const [inside, later] = [Promise.withResolvers<number>(), gate()]
    const held = a.fleet.lock(
      name,
      async (token, signal) => {
        inside.resolve(token)
        await later.promise
        write(name, token)
        return signal.aborted
      },
      { ttlMs: ttl },
    )
    held.catch(() => {})
    return { token: inside.promise, later, held }
  }

  test('keeps a replicated lock; the fencing token rejects the late holder of one that was not replicated', async (t) => {
    const before = await a.fleet.lock('tokens', (token) => token)
    const kept = hold('kept', 30_000)
    const gone = hold('gone', 60_000)
    const [keptToken, goneToken] = await Promise.all([kept.token, gone.token])
    await replicated(sentinel.primary)
    for (const { url } of sentinel.replicas) {
      // As if this lock had not been replicated when the primary died.
      const replica = new Redis(url)
      await replica.config('SET', 'replica-read-only', 'no')
      assert.equal(await replica.del(lockKey(a, 'lock gone'), a.redisKey('lock-token', 'lock%20gone')), 2)
      await replica.config('SET', 'replica-read-only', 'yes')
      replica.disconnect()
    }
    await sentinel.primary.kill('SIGKILL')
    for (const app of [a, b]) await until(() => app.redis?.set('alive', 1), { what: 'the new primary' })

    const busy = b.fleet.lock('kept', () => 1, { waitMs: 0 })
    await assert.rejects(busy, code('FLEET_ERR_LOCK_BUSY'))
    const left = Number(await b.redis?.pttl(lockKey(b, 'lock kept')))
    await until(async () => Number(await b.redis?.pttl(lockKey(b, 'lock kept'))) > left, { what: 'its renewal' })
    kept.later.resolve()
    assert.equal(await kept.held, false)

    const second = await b.fleet.lock('gone', (token) => {
      write('new', token)
      return token
    })
    assert.ok(second > goneToken, 'two holders, and the later one has the greater token')
    gone.later.resolve()
    await assert.rejects(gone.held, code('FLEET_ERR_LOCK_LOST'))
    assert.deepEqual([store.value, store.rejected], ['new', 1])

    const after = await b.fleet.lock('tokens', (token) => token)
    assert.ok(after > before && (await b.fleet.lock('kept', (token) => token)) > keptToken)
    t.diagnostic(`fencing tokens: ${goneToken} before, ${second} after the failover`)
  })
})
