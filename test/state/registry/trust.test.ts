import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import { type Found, fromRegistry } from '../../../src/edge/balancer/discovery.ts'
import identity, { type Peer } from '../../../src/instance/identity.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import redis from '../../../src/state/redis/index.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'
import registry from '../../../src/state/registry/index.ts'
import { SignedEntries } from '../../../src/state/registry/signed-entries.ts'
import { until } from '../../helpers/until.ts'
import { ownRedis } from '../own-redis.ts'
import { patient, patientApp } from '../redis/patience.ts'

const secret = 'the secret of this fleet, 32 bytes or more'
const leaseMs = 1500
const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

describe('a Redis that other applications may write to', { concurrency: true }, () => {
  const own = ownRedis()

  async function start(name: string, id: string, signedWith = secret): Promise<FastifyInstance> {
    const app = Fastify(patientApp)
    apps.push(app)
    await app.register(identity, { name, id })
    await app.register(metrics)
    await app.register(redis, { url: own.server.url, ...patient })
    await app.register(broadcast, { secret: signedWith })
    await app.register(registry, { leaseMs })
    await app.listen({ host: '127.0.0.1', port: 0 })
    return app
  }
  const ids = (app: FastifyInstance): string => String(app.fleet.peers().map(({ id }) => id))
  const keyOf = (name: string) => (part: string) => `${name}:registry-${part}:{all}`
  const count = async (app: FastifyInstance, reason: string): Promise<number> => {
    const { values } = (await app.metrics.getSingleMetric('fleet_registry_rejected_total')?.get()) ?? { values: [] }
    return values.find(({ labels }) => labels.reason === reason)?.value ?? 0
  }

  /** Writes an entry into the registry, as another application could. */
  async function plant(name: string, id: string, facts: string, leaseUntil = Date.now() + 60_000): Promise<void> {
    const { client } = own
    const key = keyOf(name)
    await client.hset(key('facts'), id, facts)
    if (leaseUntil > 0) await client.zadd(key('lease'), leaseUntil, id)
    await client.zadd(key('changes'), await client.hincrby(key('meta'), 'version', 1), id)
  }
  const peer = (app: FastifyInstance, id: string): Peer => ({ ...app.fleet.self(), id })

  test('ignores and counts entries without a signature of the fleet, in members and in new instances', async () => {
    const a = await start('unsigned', 'a')
    const other = new SignedEntries(new FleetKeys(['x'.repeat(32)], 'registry', 'unsigned'))
    const elsewhere = new SignedEntries(new FleetKeys([secret], 'registry', 'another'))
    const mine = new SignedEntries(new FleetKeys([secret], 'registry', 'unsigned'))
    const bad: [id: string, facts: string, reason: string][] = [
      ['no-json', 'boot not-json', 'unsigned'],
      ['sparse', 'boot {"id":"sparse","state":"serving"}', 'unsigned'],
      ['array', 'boot []', 'unsigned'],
      ['no-boot', '{}', 'unsigned'],
      ['__proto__', 'boot {"__proto__":{"polluted":1}}', 'unsigned'],
      ['other-secret', `boot ${other.seal('boot', peer(a, 'other-secret')).facts}`, 'signature'],
      ['other-fleet', `boot ${elsewhere.seal('boot', peer(a, 'other-fleet')).facts}`, 'signature'],
      ['other-id', `boot ${mine.seal('boot', peer(a, 'someone')).facts}`, 'signature'],
      ['other-boot', `boot ${mine.seal('another', peer(a, 'other-boot')).facts}`, 'signature'],
      ['no-host', `boot ${mine.seal('boot', { ...peer(a, 'no-host'), host: '' }).facts}`, 'malformed'],
      ['a-port', `boot ${mine.seal('boot', { ...peer(a, 'a-port'), port: 65_536 }).facts}`, 'malformed'],
    ]
    for (const [id, facts] of bad) await plant('unsigned', id, facts)
    const b = await start('unsigned', 'b')
    await until(() => [a, b].every((app) => ids(app) === 'a,b' && app.fleet.facts.registry === 'live'))
    for (const reason of ['unsigned', 'signature', 'malformed']) {
      const expected = bad.filter((entry) => entry[2] === reason).length
      await until(async () => (await count(a, reason)) >= expected && (await count(b, reason)) >= expected)
    }
    assert.equal(({} as { polluted?: number }).polluted, undefined)
    await b.close()
    await until(() => ids(a) === 'a')
  })

  test('ignores a signed entry without a lease', async () => {
    const a = await start('leaseless', 'a')
    const mine = new SignedEntries(new FleetKeys([secret], 'registry', 'leaseless'))
    await plant('leaseless', 'ghost', `boot ${mine.seal('boot', peer(a, 'ghost')).facts}`, 0)
    const b = await start('leaseless', 'b')
    await until(() => ids(a) === 'a,b' && ids(b) === 'a,b')
  })

  test('ignores an entry with an old signature', async (t) => {
    const a = await start('old', 'a')
    const mine = new SignedEntries(new FleetKeys([secret], 'registry', 'old'))
    const now = Date.now()
    const clock = t.mock.method(Date, 'now', () => now - 1_000_000)
    const { facts } = mine.seal('boot', peer(a, 'old'))
    clock.mock.restore()
    await plant('old', 'old', `boot ${facts}`)
    await until(async () => (await count(a, 'stale')) > 0)
    assert.equal(ids(a), 'a')
  })

  test('an instance restores its overwritten entry', async () => {
    const [a, b] = await Promise.all([start('taken', 'a'), start('taken', 'b')])
    await until(() => ids(a) === 'a,b' && ids(b) === 'a,b')
    const key = keyOf('taken')('facts')
    const genuine = String(await own.client.hget(key, 'b'))
    const port = b.fleet.instance.port
    for (const planted of ['evil {"id":"b","host":"evil"}', '', genuine.replace(/"port":\d+/, '"port":1')]) {
      await plant('taken', 'b', planted)
      await until(async () => (await own.client.hget(key, 'b'))?.includes(`"port":${port}`))
      await until(() => b.fleet.facts.registry === 'live')
      assert.equal(a.fleet.peers().find(({ id }) => id === 'b')?.port, port)
    }
  })

  test('removes keys of another type and values that are not numbers, and all instances come back', async () => {
    const a = await start('foreign', 'a')
    const { client } = own
    const key = keyOf('foreign')
    const corrupt: (() => Promise<unknown>)[] = [
      () => client.set(key('facts'), 'text'),
      () => client.set(key('lease'), 'text'),
      () => client.set(key('load'), 'text'),
      () => client.set(key('changes'), 'text'),
      () => client.set(key('meta'), 'text'),
      () => client.hset(key('meta'), 'version', 'many'),
      () => client.hset(key('meta'), 'version', '9223372036854775807'),
      () => client.hset(key('meta'), 'version', 'nan'),
      () => client.hset(key('meta'), 'version', '1.5'),
      () => client.hset(key('meta'), 'spare', 'inf'),
      () => client.hset(key('meta'), 'spare', 'nan'),
      () => client.hset(key('meta'), 'beat', 'x'),
    ]
    for (const [i, spoil] of corrupt.entries()) {
      await spoil()
      const b = await start('foreign', `b${i}`)
      await until(() => ids(a) === `a,b${i}` && ids(b) === `a,b${i}`, { what: `the fleet after ${spoil}` })
      await b.close()
      await until(() => ids(a) === 'a' && a.fleet.facts.registry === 'live', { what: `b to leave after ${spoil}` })
    }
    assert.ok((await count(a, 'foreign')) > 0)
  })

  test('changes ahead of the version hide no others, and a lease without end is removed', async () => {
    const a = await start('ahead', 'a')
    const key = keyOf('ahead')
    const ahead = Array.from({ length: 1500 }, (_, i) => ['+inf', `x${i}`]).flat()
    await own.client.zadd(key('changes'), ...(ahead as [string, string]))
    await own.client.zadd(key('lease'), '+inf', 'x')
    const b = await start('ahead', 'b')
    await until(() => ids(a) === 'a,b' && ids(b) === 'a,b')
    assert.equal(await own.client.zcount(key('changes'), '1e13', '+inf'), 0)
    await until(async () => (await own.client.zscore(key('lease'), 'x')) === null)
    await b.close()
    await until(() => ids(a) === 'a')
  })

  test('ignores figures without a signature of the instance', async () => {
    const [a, b] = await Promise.all([start('figures', 'a'), start('figures', 'b')])
    await until(() => ids(a) === 'a,b' && ids(b) === 'a,b')
    const { client } = own
    let turn = 0
    const spoil = setInterval(() => {
      const load = ['[9e9,9,9,9]', '{', 'x'.repeat(5000)][turn++ % 3] as string
      client.hset(keyOf('figures')('load'), 'b', load).catch(() => {})
    }, 3)
    await until(async () => (await count(a, 'unsigned')) > 2).finally(() => clearInterval(spoil))
    assert.ok(a.fleet.peers().every(({ rps }) => rps < 9e9))
  })

  test('executes a signed command once, in the addressed process only', async () => {
    const name = 'command'
    const [a, b] = await Promise.all([start(name, 'a'), start(name, 'b')])
    await until(() => ids(a) === 'a,b' && ids(b) === 'a,b')
    const heard: string[] = []
    const tenant: Redis = own.client.duplicate()
    after(() => tenant.disconnect())
    await tenant.subscribe(`${name}:broadcast:fleet:registry`)
    tenant.on('message', (_channel, text) => text.includes(',"command":') && text.startsWith('1 ') && heard.push(text))

    const plain = { kind: 'command', to: 'b', boot: '', command: 'drain', ticket: 'x' }
    for (const text of [JSON.stringify(plain), '', 'null', '[]', `1 ${'A'.repeat(43)} ${'B'.repeat(16)} 1 1 {}`])
      await own.client.publish(`${name}:broadcast:fleet:registry`, text)
    await a.fleet.command('b', 'drain')
    assert.equal(b.fleet.state, 'draining')
    await a.fleet.command('b', 'undrain')
    await until(() => heard.length === 2)

    const rejected = async (): Promise<number> => {
      const { values } = (await b.metrics.getSingleMetric('fleet_broadcast_rejected_total')?.get()) ?? { values: [] }
      return values.find(({ labels }) => labels.reason === 'replayed')?.value ?? 0
    }
    await own.client.publish(`${name}:broadcast:fleet:registry`, String(heard[0]))
    await until(async () => (await rejected()) === 1)
    assert.equal(b.fleet.state, 'serving')

    await b.close()
    const next = await start(name, 'b')
    await until(() => a.fleet.peers().some(({ port }) => port === next.fleet.instance.port) && ids(next) === 'a,b')
    await own.client.publish(`${name}:broadcast:fleet:registry`, String(heard[0]))
    await a.fleet.command('b', 'undrain')
    assert.equal(next.fleet.state, 'serving')
  })

  test('discovery ignores unsigned entries too', async (t) => {
    const name = 'found'
    const warned = t.mock.method(process, 'emitWarning', () => {})
    const a = await start(name, 'a')
    const mine = new SignedEntries(new FleetKeys([secret], 'registry', name))
    const evil = { ...peer(a, 'evil'), host: '127.0.0.1', port: 9, weight: 1000 }
    await plant(name, 'unsigned', `boot ${JSON.stringify(evil)}`)
    await plant(name, 'ghost', `boot ${mine.seal('boot', { ...evil, id: 'ghost' }).facts}`, 0)
    const listen = (signedWith: string): (readonly Found[])[] => {
      const lists: (readonly Found[])[] = []
      after(
        fromRegistry({ url: own.server.url, name, leaseMs, intervalMs: 20, secret: signedWith })((list) => {
          lists.push(list)
        }),
      )
      return lists
    }
    const [known, unknown] = [listen(secret), listen('y'.repeat(32))]
    await until(() => known.at(-1)?.length === 1 && unknown.length > 0)
    assert.deepEqual(
      known.at(-1)?.map(({ id }) => id),
      ['a'],
    )
    assert.deepEqual(unknown.flat(), [])
    assert.match(String(warned.mock.calls[0]?.arguments[0]), /ignoring the registry's entry/)
  })

  test('accepts every secret of the list and signs with the first, for rotation', async () => {
    const next = 'the next secret of this fleet, 32 bytes'
    const apps = await Promise.all([start('rotated', 'a', secret), start('rotated', 'c', secret)])
    const both = Fastify(patientApp)
    await both.register(identity, { name: 'rotated', id: 'b' })
    await both.register(redis, { url: own.server.url, ...patient })
    await both.register(broadcast, { secret: [next, secret] })
    await both.register(registry, { leaseMs })
    await both.listen({ host: '127.0.0.1', port: 0 })
    after(() => both.close())
    await until(() => ids(both) === 'a,b,c')
    await until(() => apps.every((app) => ids(app) === 'a,c'))
    await until(async () => (await count(apps[0] as FastifyInstance, 'signature')) > 0)
    assert.ok(apps.every((app) => ids(app) === 'a,c'))
  })

  test('does not start in production without a secret', async () => {
    const before = process.env.NODE_ENV
    process.env.NODE_ENV = 'production'
    try {
      assert.throws(() => fromRegistry({ url: own.server.url }), { code: 'FLEET_ERR_SECRET_MISSING' })
      const app = Fastify()
      await app.register(redis, { url: own.server.url, ...patient })
      app.register(broadcast)
      await assert.rejects(async () => app.ready(), { code: 'FLEET_ERR_SECRET_MISSING' })
      await app.close()
    } finally {
      if (before === undefined) delete process.env.NODE_ENV
      else process.env.NODE_ENV = before
    }
    assert.throws(() => fromRegistry({ url: own.server.url, secret: 'short' }), { code: 'FLEET_ERR_SECRET_WEAK' })
  })
})
