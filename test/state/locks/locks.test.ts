import assert from 'node:assert/strict'
import { afterEach, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import identity from '../../../src/instance/identity.ts'
import lifecycle from '../../../src/instance/lifecycle/index.ts'
import locks, { type LocksOptions } from '../../../src/state/locks/index.ts'
import { LocalMutex } from '../../../src/state/locks/lock.ts'
import { MemoryLockStore } from '../../../src/state/locks/memory-store.ts'
import { RedisLockStore } from '../../../src/state/locks/redis-store.ts'
import redis from '../../../src/state/redis/index.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp } from '../redis/patience.ts'
import { aborted, code, contract, gate } from './contract.ts'

const apps: FastifyInstance[] = []
afterEach(() => Promise.all(apps.splice(0).map((app) => app.close())))

let fleets = 0
async function start(url: string | null, options: LocksOptions = {}, name = `fleet${++fleets}`, listen = true) {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(identity, { name })
  await app.register(lifecycle, { signals: false })
  await app.register(redis, url === null ? { client: null } : { url, ...patient })
  await app.register(locks, { closeGraceMs: 500, ...options })
  if (listen) await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}

contract('memory', (listen) => start(null, {}, undefined, listen))

test('in memory a lock without renewal expires, and its former owner cannot release it', async () => {
  const store = new MemoryLockStore()
  assert.ok('token' in (await store.acquire('a', 'one', 20)))
  assert.ok('heldForMs' in (await store.acquire('a', 'two', 20)))
  await until(async () => 'token' in (await store.acquire('a', 'two', 10_000)))
  assert.equal(await store.renew('a', 'one', 20), false)
  assert.equal(await store.release('a', 'one'), false)
  assert.equal(await store.release('a', 'two'), true)
})

test('in memory a lock ends when its time is over, not later', async (t) => {
  let now = 1_000
  t.mock.method(performance, 'now', () => now)
  const store = new MemoryLockStore()
  for (const [ms, isHeld] of [
    [19, true],
    [20, false],
  ] as const) {
    await store.acquire('a', 'one', 20)
    now += ms
    assert.equal(await store.release('a', 'one'), isHeld)
  }
})

test('LocalMutex grants in order and skips a caller that timed out', async () => {
  const mutex = new LocalMutex()
  const first = await mutex.acquire('a', 0)
  const second = mutex.acquire('a', 1000)
  assert.equal(await mutex.acquire('a', 1), undefined)
  const fourth = mutex.acquire('a', 1000)
  assert.ok(await mutex.acquire('b', 0))
  first?.()
  const release = await second
  assert.equal(await Promise.race([fourth, 'waiting']), 'waiting')
  release?.()
  const last = await fourth
  assert.ok(last)
  last()
  assert.ok(await mutex.acquire('a', 0))
})

describe('with Redis', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedis()
  })

  contract('Redis', (listen) => start(server.url, {}, undefined, listen))

  const pair = async (options: LocksOptions = {}): Promise<[FastifyInstance, FastifyInstance]> => {
    const name = `pair${++fleets}`
    return [await start(server.url, options, name), await start(server.url, options, name)]
  }

  test('allows one holder at a time in the whole fleet, with rising tokens', async () => {
    const both = await pair()
    const tokens: number[] = []
    let inside = 0
    const work = async (token: number): Promise<void> => {
      assert.equal(++inside, 1)
      tokens.push(token)
      await new Promise((resolve) => setImmediate(resolve))
      inside--
    }
    await Promise.all(Array.from({ length: 20 }, (_, i) => both[i % 2]?.fleet.lock('a', work)))
    assert.equal(tokens.length, 20)
    assert.ok(tokens.every((token, i) => token > (tokens[i - 1] ?? 0)))
  })

  test('tokens rise even if Redis loses its data or its clock is set back', async () => {
    const [a] = await pair()
    const first = await a.fleet.lock('a', (token) => token)
    await a.redis?.del(a.redisKey('lock-token', 'lock%20a'))
    const second = await a.fleet.lock('a', (token) => token)
    assert.ok(second > first)
    await a.redis?.set(a.redisKey('lock-token', 'lock%20a'), String(second + 60e6))
    assert.equal(await a.fleet.lock('a', (token) => token), second + 60e6 + 1)
  })

  test('callers of one process send commands to Redis one after the other', async (t) => {
    const [a] = await pair()
    const { promise, resolve } = gate()
    const inside = gate()
    const holder = a.fleet.lock('a', () => {
      inside.resolve()
      return promise
    })
    await inside.promise
    const sent = t.mock.method(a.redis as Redis, 'sendCommand')
    const waiting = Array.from({ length: 50 }, () => a.fleet.lock('a', () => 1))
    resolve()
    await Promise.all([holder, ...waiting])
    const scripts = sent.mock.calls.filter((call) => call.arguments[0].name.startsWith('eval'))
    assert.equal(scripts.length, 1 + 50 * 2)
  })

  test('a lock that another holder could take is lost at the next renewal', async () => {
    const [a, b] = await pair()
    const inside = gate()
    const held = a.fleet.lock(
      'a',
      async (_, signal) => {
        inside.resolve()
        await aborted(signal)
        assert.equal((signal.reason as { code: string }).code, 'FLEET_ERR_LOCK_LOST')
        return 'late'
      },
      { ttlMs: 200 },
    )
    const lost = assert.rejects(held, code('FLEET_ERR_LOCK_LOST'))
    await inside.promise
    await a.redis?.del(a.redisKey('lock', 'lock%20a'))
    assert.equal(await b.fleet.lock('a', () => 2, { ttlMs: 60_000 }), 2)
    await lost
  })

  test('rejects at the end if the lock was lost unnoticed', async () => {
    const [a] = await pair()
    const steal = (): Promise<unknown> | undefined => a.redis?.set(a.redisKey('lock', 'lock%20a'), 'another')
    await assert.rejects(a.fleet.lock('a', steal), code('FLEET_ERR_LOCK_LOST'))
    assert.equal(await a.redis?.get(a.redisKey('lock', 'lock%20a')), 'another')
    await a.redis?.del(a.redisKey('lock', 'lock%20a'))
    const failing = a.fleet.lock('a', async () => {
      await steal()
      throw new RangeError('mine')
    })
    await assert.rejects(
      failing,
      (error: Error) => code('FLEET_ERR_LOCK_LOST')(error) && error.cause instanceof RangeError,
    )
  })

  test('exactly one instance leads', async () => {
    const all = await Promise.all(Array.from({ length: 4 }, () => start(server.url, {}, 'one-leader')))
    let running = 0
    const jobs = all.map((app) =>
      app.fleet.leader('job', async (signal) => {
        assert.equal(++running, 1)
        await aborted(signal)
        running--
      }),
    )
    const leading = (): number[] => jobs.flatMap((job, i) => (job.leading ? [i] : []))
    for (let left = 4; left > 0; left--) {
      const [first] = await until(() => (leading().length === 1 && running === 1 ? leading() : undefined))
      // Handed over at once, although the lease is ten seconds.
      if (left % 2) all[first as number]?.fleet.drain()
      else await all[first as number]?.close()
    }
    await until(() => running === 0)
  })

  test('instances whose job fails pause, and do not pass it back and forth', async () => {
    const all = await Promise.all([start(server.url, {}, 'failing'), start(server.url, {}, 'failing')])
    const at: number[][] = [[], []]
    for (const [i, app] of all.entries())
      app.fleet.leader('job', () => {
        at[i]?.push(performance.now())
        throw new Error('not yet')
      })
    await until(() => at.every((runs) => runs.length >= 2))
    for (const [first = 0, second = 0] of at) assert.ok(second - first >= 499)
  })
})

describe('while Redis is unavailable', () => {
  test('rejects new locks, and a lock that cannot be renewed is lost', async () => {
    const server = await startRedis()
    const app = await start(server.url)
    const inside = gate()
    const held = app.fleet.lock(
      'a',
      async (_, signal) => {
        inside.resolve()
        await aborted(signal)
      },
      { ttlMs: 400 },
    )
    const lost = assert.rejects(held, code('FLEET_ERR_LOCK_LOST'))
    await inside.promise
    await server.kill('SIGKILL')
    await lost
    await assert.rejects(
      app.fleet.lock('b', () => 1),
      code('FLEET_ERR_STATE_UNAVAILABLE'),
    )
    await server.restart()
    await until(() => app.fleet.lock('a', () => true, { waitMs: 0 }))
  })

  test('a lock survives a short outage', async (t) => {
    const server = await startRedis({ appendonly: true })
    const app = await start(server.url)
    const renew = t.mock.method(RedisLockStore.prototype, 'renew')
    const ended = async (how: 'fulfilled' | 'rejected'): Promise<boolean> =>
      (await Promise.allSettled(renew.mock.calls.map(({ result }) => result))).some(({ status }) => status === how)
    const { promise, resolve } = gate()
    const held = app.fleet.lock('a', (_, signal) => promise.then(() => signal.aborted), { ttlMs: 9000 })
    await until(async () => (await app.redis?.exists(app.redisKey('lock', 'lock%20a'))) === 1)
    await server.kill('SIGKILL')
    await until(() => ended('rejected'), { what: 'a renewal that fails' })
    await server.restart()
    await until(() => ended('fulfilled'), { what: 'a renewal that does not' })
    resolve()
    assert.equal(await held, false)
  })

  test('a leader that cannot renew stops, and one instance leads again when Redis is back', async () => {
    const server = await startRedis()
    const all = await Promise.all([start(server.url, {}, 'away'), start(server.url, {}, 'away')])
    let running = 0
    const jobs = all.map((app) =>
      app.fleet.leader(
        'job',
        async (signal) => {
          assert.equal(++running, 1)
          await aborted(signal)
          running--
        },
        { ttlMs: 2000 },
      ),
    )
    await until(() => running === 1)
    await server.kill('SIGKILL')
    await until(() => running === 0 && jobs.every((job) => !job.leading))
    await server.restart()
    await until(() => running === 1)
  })
})
