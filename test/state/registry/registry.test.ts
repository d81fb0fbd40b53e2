import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import { FleetError } from '../../../src/base/errors.ts'
import identity, { type IdentityOptions, type Peer } from '../../../src/instance/identity.ts'
import lifecycle from '../../../src/instance/lifecycle/index.ts'
import redis, { type RedisOptions } from '../../../src/state/redis/index.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'
import { Heartbeat } from '../../../src/state/registry/heartbeat.ts'
import registry, { type RegistryOptions } from '../../../src/state/registry/index.ts'
import { Peers } from '../../../src/state/registry/peers.ts'
import { RedisDirectory } from '../../../src/state/registry/redis-directory.ts'
import { SignedEntries } from '../../../src/state/registry/signed-entries.ts'
import { forkApp } from '../../helpers/fork-app.ts'
import { liveObjects } from '../../helpers/live-objects.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp, within } from '../redis/patience.ts'

const apps: FastifyInstance[] = []
const closeAll = (): Promise<unknown> => Promise.all(apps.splice(0).map((app) => app.close()))
after(closeAll)
const code = (expected: string) => (error: unknown) => error instanceof FleetError && error.code === expected

type Log = { level: number; msg: string }[]
type Started = FastifyInstance & { lines: Log }
interface Options extends RegistryOptions {
  redis?: RedisOptions
  identity?: IdentityOptions
  figures?: () => Partial<Peer>
  listen?: boolean
}

async function start(
  url: string | null,
  { identity: identityOptions = {}, redis: where = {}, figures, listen = true, ...options }: Options = {},
): Promise<Started> {
  const lines: Log = []
  const app: FastifyInstance = Fastify({
    ...patientApp,
    logger: { stream: { write: (line: string) => lines.push(JSON.parse(line)) } },
  })
  apps.push(app)
  await app.register(identity, identityOptions)
  await app.register(lifecycle, { signals: false, drainDelayMs: 0 })
  await app.register(redis, url === null ? { client: null } : { url, ...patient, ...where })
  await app.register(registry, options)
  if (figures) app.fleet.contribute(figures)
  if (listen) await app.listen({ host: '127.0.0.1', port: 0 })
  else await app.ready()
  return Object.assign(app, { lines })
}

const ids = (app: FastifyInstance): string =>
  app.fleet
    .peers()
    .map(({ id }) => id)
    .join()
const stateOf = ({ fleet }: FastifyInstance, id: string): string | undefined =>
  fleet.peers().find((peer) => peer.id === id)?.state

test('in memory an instance lists itself only and executes its own commands', async () => {
  const app = await start(null, { identity: { id: 'a' } })
  assert.ok(app.hasPlugin('fleet-registry'))
  assert.equal(ids(app), 'a')
  assert.equal(app.fleet.facts.registry, 'memory')
  await app.fleet.command('a', 'drain')
  assert.equal(stateOf(app, 'a'), 'draining')
  await app.fleet.command('a', 'undrain')
  assert.equal(stateOf(app, 'a'), 'serving')
  await assert.rejects(app.fleet.command('b', 'drain'), code('FLEET_ERR_INSTANCE_UNKNOWN'))
  await assert.rejects(app.fleet.command('a', 'explode' as never), code('FLEET_ERR_OPTION_INVALID'))
})

describe('with Redis', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedis()
  })
  afterEach(closeAll)
  let fleets = 0
  /** Instances of a new fleet. */
  const fleet = (names: string[], options: Options = {}, name = `fleet${++fleets}`) =>
    Promise.all(names.map((id) => start(server.url, { ...options, identity: { ...options.identity, id, name } })))
  const settle = (all: FastifyInstance[], expected: string): Promise<unknown> =>
    until(() => all.every((app) => ids(app) === expected), {
      what: `${expected} on all, but ${all.map(ids).join(' | ')}`,
    })

  test('every instance lists all of them, sorted by id, with all facts', async () => {
    const begun = Date.now()
    const all = await fleet(['c', 'a', 'b'], {
      identity: { version: '1.2.3', color: 'blue', pool: 'v2', region: 'eu', zone: 'z1', weight: 50 },
      figures: () => ({ rps: 12.5, p95: 40, failing: ['database'] }),
    })
    await settle(all, 'a,b,c')
    const [c, a] = all as [Started, Started]
    const seen = await until(() => c.fleet.peers().find((peer) => peer.id === 'a' && peer.memory > 0))
    const { lastSeen, memory, eventLoopUtilization, ...rest } = seen
    const { lastSeen: _1, memory: _2, eventLoopUtilization: _3, ...expected } = a.fleet.self()
    assert.deepEqual(rest, expected)
    assert.equal(rest.state, 'serving')
    assert.equal(rest.port, a.fleet.instance.port)
    assert.ok(Date.parse(lastSeen) >= begun && Date.parse(lastSeen) <= Date.now())
    assert.ok(memory > 1e6 && eventLoopUtilization >= 0)
    assert.equal(c.fleet.facts.registry, 'live')
  })

  test('an instance that does not serve yet sees the others without being listed', async () => {
    const [a] = await fleet(['a'], {}, 'early')
    const early = await start(server.url, { identity: { id: 'b', name: 'early' }, listen: false })
    assert.ok(a)
    assert.equal(ids(early), 'a,b')
    assert.equal(stateOf(early, 'b'), 'starting')
    assert.equal(ids(a), 'a')
    await early.listen({ host: '127.0.0.1', port: 0 })
    await settle([a, early], 'a,b')
  })

  test('pushes a change of state at once', async () => {
    const all = await fleet(['a', 'b'], { leaseMs: 600_000 })
    const [a, b] = all as [Started, Started]
    await settle(all, 'a,b')
    a.fleet.drain()
    assert.equal(stateOf(a, 'a'), 'draining')
    await until(() => stateOf(b, 'a') === 'draining')
    a.fleet.undrain()
    await until(() => stateOf(b, 'a') === 'serving')
    await a.close()
    await until(() => ids(b) === 'b')
  })

  test('reads the list again whenever it could have missed a change', async (t) => {
    const restart = t.mock.method(Heartbeat.prototype, 'restart')
    const [a] = await fleet(['a'], { leaseMs: 600_000 })
    assert.ok(a)
    await until(() => restart.mock.callCount() > 0, { what: 'the first subscription' })
    const before = restart.mock.callCount()
    await (a.redis as Redis).call('CLIENT', 'KILL', 'TYPE', 'PUBSUB')
    await until(() => restart.mock.callCount() > before, { what: 'the new subscription' })
  })

  test('pushes an announced change at once', async () => {
    let failing: string[] = []
    const all = await fleet(['a', 'b'], { leaseMs: 600_000, figures: () => ({ failing }) })
    const [a, b] = all as [Started, Started]
    await settle(all, 'a,b')
    failing = ['database']
    a.fleet.announce()
    await until(() => b.fleet.peers().find(({ id }) => id === 'a')?.failing[0] === 'database')
  })

  test('updates the figures of peers', async () => {
    let rps = 1
    const all = await fleet(['a', 'b'], { leaseMs: 500, figures: () => ({ rps }) })
    const rpsOf = (): (number | undefined)[] =>
      all.map(({ fleet: { peers } }) => peers().find(({ id }) => id === 'a')?.rps)
    await until(() => rpsOf().join() === '1,1')
    rps = 2
    await until(() => rpsOf().join() === '2,2')
  })

  test('an instance killed with SIGKILL disappears within one lease', async () => {
    const leaseMs = 2000
    const name = `fleet${++fleets}`
    const [a] = await fleet(['a'], { leaseMs }, name)
    assert.ok(a)
    const child = forkApp(new URL('instance.fixture.ts', import.meta.url), {
      env: { FLEET_NAME: name, INSTANCE_ID: 'victim', REDIS_URL: server.url, LEASE_MS: leaseMs },
    })
    await until(() => ids(a) === 'a,victim')
    await child.kill('SIGKILL')
    await within(leaseMs, 'gone', () => ids(a) === 'a', [server.pid])
  })

  test('a suspended process is removed and comes back by itself', async () => {
    const name = `fleet${++fleets}`
    const [a] = await fleet(['a'], { leaseMs: 1000 }, name)
    assert.ok(a)
    const child = forkApp(new URL('instance.fixture.ts', import.meta.url), {
      env: { FLEET_NAME: name, INSTANCE_ID: 'frozen', REDIS_URL: server.url, LEASE_MS: 1000 },
    })
    await until(() => ids(a) === 'a,frozen')
    process.kill(child.pid, 'SIGSTOP')
    await until(() => ids(a) === 'a')
    process.kill(child.pid, 'SIGCONT')
    await until(() => ids(a) === 'a,frozen')
    await child.kill('SIGTERM')
    await until(() => ids(a) === 'a')
  })

  test('sends commands to the addressed instance and confirms them', async (t) => {
    const all = await fleet(['a', 'b', 'c'], { commandTimeoutMs: 5000 })
    const [a, b, c] = all as [Started, Started, Started]
    await settle(all, 'a,b,c')
    await a.fleet.command('b', 'drain')
    assert.deepEqual(
      [a, b, c].map(({ fleet }) => fleet.state),
      ['serving', 'draining', 'serving'],
    )
    await until(() => [a, b, c].every((app) => stateOf(app, 'b') === 'draining'))
    await c.fleet.command('b', 'undrain')
    assert.equal(b.fleet.state, 'serving')
    const sent: object[] = []
    a.fleet.subscribe('fleet:registry', (message: { kind: string }) => {
      if (message.kind === 'command') sent.push(message)
    })
    const confirmedIn: unknown[] = []
    const publish = b.fleet.publish
    t.mock.method(b.fleet, 'publish', (channel: string, message: { kind: string }) => {
      if (message.kind === 'done') confirmedIn.push(b.fleet.state)
      return publish(channel, message)
    })
    for (const command of ['undrain', 'drain'] as const) await a.fleet.command('b', command)
    assert.deepEqual(confirmedIn, ['serving', 'draining'], 'after it was executed')
    await until(() => sent.length === 2)
    const states: string[] = []
    b.fleet.onState((state) => void states.push(state))
    for (const other of [{ boot: 'an earlier process' }, { command: 'restart' }])
      await a.fleet.publish('fleet:registry', { ...sent[0], ...other })
    await a.fleet.command('b', 'drain')
    assert.deepEqual(states, [], 'neither was for this process to execute')
    await a.fleet.command('a', 'drain')
    assert.equal(a.fleet.state, 'draining')
    await assert.rejects(a.fleet.command('nobody', 'drain'), code('FLEET_ERR_INSTANCE_UNKNOWN'))
    await assert.rejects(a.fleet.command('b', '' as never), code('FLEET_ERR_OPTION_INVALID'))
  })

  test('rejects a command that is not confirmed in time', async () => {
    const name = `fleet${++fleets}`
    const [a] = await fleet(['a'], { commandTimeoutMs: 300 }, name)
    assert.ok(a)
    const child = forkApp(new URL('instance.fixture.ts', import.meta.url), {
      env: { FLEET_NAME: name, INSTANCE_ID: 'mute', REDIS_URL: server.url, LEASE_MS: 6000 },
    })
    await until(() => ids(a) === 'a,mute')
    process.kill(child.pid, 'SIGSTOP')
    const rejected = assert.rejects(a.fleet.command('mute', 'drain'), code('FLEET_ERR_COMMAND_TIMEOUT'))
    await a.fleet.publish('fleet:registry', { kind: 'done', ticket: 'of another command' })
    await rejected
    process.kill(child.pid, 'SIGCONT')
    await child.kill('SIGKILL')
  })

  test('keeps nothing in memory of a command that was not confirmed', async () => {
    const all = await fleet(['a', 'b'], { commandTimeoutMs: 1 })
    const [a, b] = all as [Started, Started]
    await settle(all, 'a,b')
    b.fleet.publish = async () => {}
    const before = liveObjects(FleetError)
    const timesOut = (): Promise<boolean> =>
      a.fleet.command('b', 'undrain').then(() => false, code('FLEET_ERR_COMMAND_TIMEOUT'))
    const outcomes = await Promise.all(Array.from({ length: 50 }, timesOut))
    assert.deepEqual(new Set(outcomes), new Set([true]))
    await until(() => liveObjects(FleetError) <= before + 5, { what: 'the errors to be free' })
  })

  test('lists the later of two processes with one id, logs both, and lists the other when the id is free', async () => {
    const name = `fleet${++fleets}`
    const [a, old] = await fleet(['a', 'twin'], { identity: { color: 'old' } }, name)
    assert.ok(a && old)
    await settle([a, old], 'a,twin')
    const [late] = await fleet(['twin'], { identity: { color: 'late' } }, name)
    assert.ok(late)
    const colour = (): string | undefined => a.fleet.peers().find(({ id }) => id === 'twin')?.color
    await until(() => old.fleet.facts.registry === 'displaced')
    await until(() => colour() === 'late')
    assert.ok(late.lines.some(({ level, msg }) => level === 40 && /another process had this id/.test(msg)))
    const errors = () => old.lines.filter(({ level, msg }) => level === 50 && /took this id/.test(msg))
    assert.equal(errors().length, 1)
    assert.equal(ids(old), 'a,twin')
    await late.close()
    await until(() => colour() === 'old')
    assert.equal(old.fleet.facts.registry, 'live')
    assert.equal(errors().length, 1)
  })

  test('a killed instance takes its own id again', async () => {
    const name = `fleet${++fleets}`
    const [a] = await fleet(['a'], {}, name)
    assert.ok(a)
    const again = () =>
      forkApp(new URL('instance.fixture.ts', import.meta.url), {
        env: { FLEET_NAME: name, INSTANCE_ID: 'same', REDIS_URL: server.url, LEASE_MS: 6000 },
      })
    const first = again()
    const pid = (): number | undefined => a.fleet.peers().find(({ id }) => id === 'same')?.pid
    await until(() => pid() === first.pid)
    await first.kill('SIGKILL')
    const second = again()
    await until(() => pid() === second.pid)
    await second.kill('SIGKILL')
  })

  test('restores lost data without any instance disappearing', async () => {
    const all = await fleet(['a', 'b', 'c'], { leaseMs: 3000 })
    await settle(all, 'a,b,c')
    const { redis } = all[0] as FastifyInstance
    assert.ok(redis)
    const seen = new Set<string>()
    const name = all[0]?.fleet.name
    const keys = await redis.keys(`${name}:registry-*`)
    assert.equal(keys.length, 5)
    await redis.del(...keys)
    await until(async () => {
      for (const app of all) seen.add(ids(app))
      return (await redis.hlen(keys.find((key) => key.includes('facts')) ?? '')) === 3
    })
    assert.deepEqual([...seen], ['a,b,c'])
    // An instance that does not come back disappears after its lease.
    await (redis as Redis).del(...keys)
    all[2]?.fleet.announce()
    await all[2]?.close()
    await settle(all.slice(0, 2), 'a,b')
  })

  test('a reader that is far behind reads all entries', async () => {
    const all = await fleet(['a', 'b'], { leaseMs: 500 })
    await settle(all, 'a,b')
    const { redis, redisKey } = all[0] as FastifyInstance
    await redis?.hincrby(redisKey('registry-meta', 'all'), 'version', 5000)
    const [c] = await fleet(['c'], {}, all[0]?.fleet.name)
    await settle([...all, c as FastifyInstance], 'a,b,c')
  })

  test('a heartbeat costs the same in a fleet of a thousand', async (t) => {
    const [a] = await fleet(['a'], { leaseMs: 600_000 })
    assert.ok(a)
    const { redis, redisKey } = a
    assert.ok(redis)
    const key = (part: string): string => redisKey(`registry-${part}`, 'all')
    const peer = { ...a.fleet.self(), rps: 1, p95: 2, eventLoopUtilization: 0.5, memory: 1000 }
    const entries = new SignedEntries(
      new FleetKeys([String(await redis.get(redisKey('secret', 'SESSION_SECRET')))], 'registry', a.fleet.name),
    )
    const [facts, lease, load, changes]: string[][] = [[], [], [], []]
    for (let i = 0; i < 1000; i++) {
      const sealed = entries.seal('boot', { ...peer, id: `p${i}` })
      facts?.push(`p${i}`, `boot ${sealed.facts}`)
      lease?.push(String(Date.now() + 500_000), `p${i}`)
      load?.push(`p${i}`, sealed.load)
      changes?.push(String(i + 10), `p${i}`)
    }
    await redis.hset(key('facts'), ...(facts as [string, string]))
    await redis.hset(key('load'), ...(load as [string, string]))
    await (redis as Redis).zadd(key('lease'), ...(lease as [string, string]))
    await (redis as Redis).zadd(key('changes'), ...(changes as [string, string]))
    await redis.hset(key('meta'), 'version', 1010)
    a.fleet.announce()
    await until(() => a.fleet.peers().length === 1001)

    const figured = (peers: readonly Peer[]): number => peers.filter(({ id, rps }) => id !== 'a' && rps === 1).length
    // Of eight peers with each of the pages in which it read the entries.
    assert.ok(figured(a.fleet.peers()) <= 200)
    assert.equal(figured(await a.fleet.survey()), 1000)
    const sent = t.mock.method(redis as Redis, 'sendCommand')
    const read = t.mock.method(RedisDirectory.prototype, 'beat')
    for (let beats = 1; beats <= 50; beats++) {
      a.fleet.announce()
      await until(() => read.mock.callCount() >= beats)
    }
    assert.deepEqual(new Set(sent.mock.calls.map((call) => call.arguments[0].name)), new Set(['evalsha']))
    for (const { result } of read.mock.calls) {
      const { changes, loads } = (await result) ?? assert.fail()
      assert.deepEqual([changes.size, loads.size], [0, 8], JSON.stringify([...changes]))
    }
  })
})

describe('while Redis is unavailable', { concurrency: true }, () => {
  test('keeps the last known peers, then finds all of them again', async () => {
    const server = await startRedis()
    const all = await Promise.all(
      ['a', 'b', 'c'].map((id) => start(server.url, { leaseMs: 2000, identity: { id, name: 'away' } })),
    )
    const [a, b] = all as [Started, Started]
    const settled = (expected: string): Promise<unknown> => until(() => all.every((app) => ids(app) === expected))
    await settled('a,b,c')
    await server.kill('SIGKILL')
    await until(() => all.every((app) => app.fleet.facts.registry === 'last-known'))
    const { lastSeen } = a.fleet.peers()[1] as Peer
    await assert.rejects(a.fleet.command('b', 'drain'), code('FLEET_ERR_STATE_UNAVAILABLE'))
    a.fleet.drain()
    assert.equal(stateOf(a, 'a'), 'draining')
    assert.equal(stateOf(b, 'a'), 'serving')
    const since = performance.now()
    await until(() => performance.now() - since > 2500)
    assert.equal(ids(a), 'a,b,c')
    assert.equal((a.fleet.peers()[1] as Peer).lastSeen, lastSeen)
    assert.equal(a.lines.filter(({ msg }) => /last known peers/.test(msg)).length, 1)

    const seen = new Set<string>()
    await server.restart()
    await until(() => {
      for (const app of all) seen.add(ids(app))
      return all.every((app) => app.fleet.facts.registry === 'live' && stateOf(app, 'a') === 'draining')
    })
    assert.deepEqual([...seen], ['a,b,c'])
  })

  test('after an outage without data loss, removes no instance before all could reconnect', async () => {
    const server = await startRedis({ appendonly: true })
    const all = await Promise.all(
      ['a', 'b', 'c'].map((id) =>
        start(server.url, { leaseMs: 2000, identity: { id, name: 'kept' }, redis: { commandTimeoutMs: 500 } }),
      ),
    )
    await until(() => all.every((app) => ids(app) === 'a,b,c'))
    process.kill(server.pid, 'SIGSTOP')
    const since = performance.now()
    await until(() => performance.now() - since > 3000)
    process.kill(server.pid, 'SIGCONT')
    const seen = new Set<string>()
    await until(() => {
      for (const app of all) seen.add(ids(app))
      return all.every((app) => app.fleet.facts.registry === 'live') && performance.now() - since > 7000
    })
    assert.deepEqual([...seen], ['a,b,c'])
  })
})

const peer = (id: string): Peer => ({
  ...{
    id,
    host: 'host',
    pid: 1,
    port: 3000,
    version: '1.0.0',
    color: 'none',
    pool: 'default',
    weight: 100,
    state: 'serving',
  },
  ...{ startedAt: new Date().toISOString(), lastSeen: new Date().toISOString(), failing: [] },
  ...{ rps: 0, errorRate: 0, p95: 0, eventLoopUtilization: 0, memory: 0, degraded: [], checks: [] },
})

test('reads an entry of an earlier version as of the pool default, and ignores a pool with another name', () => {
  const entries = new SignedEntries(new FleetKeys(['s'.repeat(32)], 'registry', 'fleet'))
  const poolOf = (pool: string | undefined): string => {
    const opened = entries.open('a', `boot ${entries.seal('boot', { ...peer('a'), pool } as Peer, true).facts}`)
    return typeof opened === 'string' ? opened : opened.facts.pool
  }
  assert.deepEqual([undefined, 'v2', 'V 2'].map(poolOf), ['default', 'v2', 'malformed'])
})

test('samples a large fleet in rotation and a small one as a whole', () => {
  const entries = new SignedEntries(new FleetKeys(['s'.repeat(32)], 'registry', 'fleet'))
  const peers = new Peers('self', 1000, entries)
  const apply = (changes: [string, string | undefined][], more: object = {}) =>
    peers.apply({
      epoch: 'e',
      version: 1,
      cursor: '',
      more: false,
      full: false,
      changed: false,
      reset: false,
      changes: new Map(changes),
      removed: new Map(),
      loads: new Map(),
      ...more,
    })
  const self = peer('any')
  const facts = (id: string): [string, string] => [id, `boot ${entries.seal('boot', { ...self, id }).facts}`]
  apply(Array.from({ length: 50 }, (_, i) => facts(`p${i}`)))
  const rounds = Array.from({ length: 5 }, () => peers.sample(16))
  assert.ok(rounds.every((round) => round.length === 16 && new Set(round).size === 16))
  assert.equal(new Set(rounds.flat()).size, 50)
  apply(Array.from({ length: 45 }, (_, i) => [`p${i}`, undefined]))
  for (let i = 0; i < 3; i++) assert.deepEqual(peers.sample(16).sort(), ['p45', 'p46', 'p47', 'p48', 'p49'])
  apply(Array.from({ length: 50 }, (_, i) => [`p${i}`, undefined]))
  assert.deepEqual(peers.sample(16), [])
})
