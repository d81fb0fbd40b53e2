import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import { FleetError } from '../../../src/base/errors.ts'
import { identity } from '../../../src/instance/identity.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { RedisTransport } from '../../../src/state/broadcast/redis-transport.ts'
import { SignedMessages } from '../../../src/state/broadcast/signed-messages.ts'
import { type RedisOptions, redis } from '../../../src/state/redis/index.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp } from '../redis/patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

async function build(options: RedisOptions, heartbeatMs = 20_000): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(redis, { ...patient, ...options })
  await app.register(broadcast, { heartbeatMs })
  return app
}

/** Subscribes and collects the messages. Resolves once the subscription is active. */
async function listen(app: FastifyInstance, channel: string): Promise<{ received: unknown[]; end: () => void }> {
  const received: unknown[] = []
  let live = false
  const end = app.fleet.subscribe(channel, (message) => received.push(message), {
    onReconnect: () => {
      live = true
    },
  })
  await until(() => live, { what: `the subscription to ${channel}` })
  return { received, end }
}

for (const engine of ['memory', 'redis'] as const) {
  describe(engine, () => {
    let server: RedisServer | undefined
    const options = async (): Promise<RedisOptions> => {
      if (engine === 'memory') return { client: null }
      server ??= await startRedis()
      return { url: server.url }
    }

    test('delivers messages to every subscriber of a channel, in order and as JSON', async () => {
      const app = await build(await options())
      const [a, b, other] = [await listen(app, 'chat'), await listen(app, 'chat'), await listen(app, 'other')]
      const messages = [1, 'two', { three: [3] }, null]
      for (const message of messages) await app.fleet.publish('chat', message)
      await app.fleet.publish('chat', undefined)
      await until(() => a.received.length === 5 && b.received.length === 5)
      assert.deepEqual(a.received, [...messages, null])
      assert.deepEqual(b.received, a.received)
      assert.deepEqual(other.received, [])
    })

    test('delivers nothing after the end of a subscription, and isolates a failing listener', async () => {
      const app = await build(await options())
      const gone = await listen(app, 'chat')
      app.fleet.subscribe('chat', () => {
        throw new Error('on purpose')
      })
      const stays = await listen(app, 'chat')
      gone.end()
      gone.end()
      await app.fleet.publish('chat', 1)
      await until(() => stays.received.length === 1)
      assert.deepEqual(gone.received, [])
      stays.end()
      const again = await listen(app, 'chat')
      await app.fleet.publish('chat', 2)
      await until(() => again.received.length === 1)
    })
  })
}

test('rejects a message that is larger than `maxMessageBytes`', async () => {
  const app = Fastify()
  apps.push(app)
  await app.register(redis, { client: null })
  await app.register(broadcast, { maxMessageBytes: 100 })
  const { received } = await listen(app, 'chat')
  const tooLarge = (error: unknown) => error instanceof FleetError && error.code === 'FLEET_ERR_MESSAGE_TOO_LARGE'
  await assert.rejects(app.fleet.publish('chat', '\u00e9'.repeat(50)), tooLarge)
  await app.fleet.publish('chat', '\u00e9'.repeat(49))
  await until(() => received.length === 1)
})

describe('several instances', () => {
  test('receive each other’s messages and ignore invalid ones', async () => {
    const server = await startRedis()
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => build({ url: server.url })))
    assert.ok(a && b && c)
    const all = await Promise.all([a, b, c].map((app) => listen(app, 'chat')))
    await a.redis?.publish('fleet:broadcast:chat', 'no JSON')
    await a.fleet.publish('chat', 'hello')
    await until(() => all.every(({ received }) => received.length === 1), { what: 'the message everywhere' })
  })

  test('receive what is signed for broadcasts of their fleet, up to the size that they accept', async (t) => {
    const server = await startRedis()
    const secret = 's'.repeat(32)
    const warnings: { msg: string; reason: string; channel: string }[] = []
    const stream = { write: (line: string) => warnings.push(JSON.parse(line)) }
    const app = Fastify({ ...patientApp, logger: { level: 'warn', stream } })
    apps.push(app)
    await app.register(identity, { name: 'shop' })
    await app.register(metrics)
    await app.register(redis, { url: server.url, ...patient })
    const opened = t.mock.method(app.redis as Redis, 'duplicate')
    await app.register(broadcast, { heartbeatMs: 20_000, secret, maxMessageBytes: 100 })
    const { received } = await listen(app, 'chat')
    assert.equal(opened.mock.calls[0]?.arguments[0]?.commandTimeout, 20_000, 'the time limit of a heartbeat')
    const other = new SignedMessages(new FleetKeys([secret], 'broadcast', 'shop'), 1_000)
    const forged = new SignedMessages(new FleetKeys([secret], 'registry', 'shop'), 1_000)
    for (const text of [forged.seal('chat', '0'), other.seal('chat', `"${'x'.repeat(400)}"`), other.seal('chat', '1')])
      await app.redis?.publish('shop:broadcast:chat', text)
    await until(() => received.length === 1)
    assert.deepEqual(received, [1])
    const ignored = warnings.filter(({ msg }) => msg.startsWith('broadcast: ignoring a message'))
    assert.deepEqual(
      ignored.map(({ reason, channel }) => [reason, channel]),
      [['signature', 'chat']],
    )
    const counted = await app.metrics.metrics()
    for (const [reason, count] of [
      ['signature', 1],
      ['too_large', 1],
      ['unsigned', 0],
    ])
      assert.match(counted, new RegExp(`^fleet_broadcast_rejected_total\\{reason="${reason}"\\} ${count}$`, 'm'))
    const closed = t.mock.method(RedisTransport.prototype, 'close')
    await app.close()
    assert.equal(closed.mock.callCount(), 1, 'its connection ends with the app')
  })

  test('reconnect after an outage of Redis', async () => {
    const server = await startRedis()
    const [a, b] = await Promise.all([build({ url: server.url }), build({ url: server.url })])
    const events: string[] = []
    const received: unknown[] = []
    b.fleet.subscribe('chat', (message) => received.push(message), {
      onLost: () => events.push('lost'),
      onReconnect: () => events.push('live'),
    })
    await until(() => events.length === 1)
    await server.kill('SIGKILL')
    await until(() => events.length === 2)
    await assert.rejects(
      a.fleet.publish('chat', 0),
      (error: unknown) => error instanceof FleetError && error.code === 'FLEET_ERR_STATE_UNAVAILABLE',
    )
    await server.restart()
    await until(() => events.length === 3)
    assert.deepEqual(events, ['live', 'lost', 'live'])
    await until(() => a.fleet.publish('chat', 1).then(() => true))
    await until(() => received.includes(1))
  })

  test('detect a dead connection that is still open', async () => {
    const server = await startRedis()
    const app = await build({ url: server.url }, 500)
    let lost = 0
    let live = 0
    app.fleet.subscribe('chat', () => {}, { onLost: () => lost++, onReconnect: () => live++ })
    await until(() => live > lost)
    const before = lost
    await server.kill('SIGSTOP')
    await until(() => lost > before && lost === live, { what: 'the loss' })
    await server.kill('SIGCONT')
    await until(() => live > lost, { what: 'the return' })
  })

  test('subscribe while Redis is unavailable', async () => {
    const server = await startRedis()
    await server.kill('SIGKILL')
    const app = await build({ url: server.url, connectTimeoutMs: 100 })
    const listening = listen(app, 'chat')
    await server.restart()
    const { received } = await listening
    const other = await build({ url: server.url })
    await until(async () => {
      await other.fleet.publish('chat', 'late').catch(() => {})
      return received.length > 0
    })
  })
})

test('plugins that need it register it once', async () => {
  const app = await build({ client: null })
  assert.ok(app.hasPlugin('fleet-broadcast'))
})

describe('a boot waits for its subscriptions', () => {
  /** Starts an instance after `before`. */
  async function boot(options: RedisOptions, before: (app: FastifyInstance) => unknown = () => {}) {
    const found = { isLive: false, log: '' }
    const stream = { write: (line: string) => (found.log += line) }
    const app = Fastify({ ...patientApp, logger: { level: 'warn', stream } })
    apps.push(app)
    await app.register(redis, { ...patient, ...options })
    await app.register(broadcast, { heartbeatMs: 20_000, secret: 's'.repeat(32) })
    await before(app)
    const onReconnect = (): void => {
      found.isLive = true
    }
    app.fleet.subscribe('chat', () => {}, { onReconnect })
    await app.ready()
    return found
  }
  const pause = (ms: number) => (app: FastifyInstance) => app.redis?.call('CLIENT', 'PAUSE', ms, 'ALL')

  test('so that an instance that serves receives every message', async () => {
    const { url } = await startRedis()
    const before = async (app: FastifyInstance): Promise<void> => {
      await listen(app, 'earlier')
      await pause(300)(app)
    }
    assert.deepEqual(await boot({ url }, before), { isLive: true, log: '' })
  })

  test('but no longer than 2.5 s', async () => {
    const { url } = await startRedis()
    const found = await boot({ url }, pause(6_000))
    assert.equal(found.isLive, false)
    assert.match(
      found.log,
      /"limitMs":2500,"msg":"broadcast: Redis is slow; serving before all subscriptions are active"/,
    )
    await until(() => found.isLive, { what: 'the subscription' })
  })

  test('but not if Redis is down', async () => {
    const { isLive, log } = await boot({ url: 'redis://127.0.0.1:1', connectTimeoutMs: 0 })
    assert.equal(isLive, false)
    assert.doesNotMatch(log, /serving before all subscriptions/)
  })
})
