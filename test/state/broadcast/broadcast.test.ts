import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { type RedisOptions, redis } from '../../../src/state/redis/index.ts'
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

/** Subscribes, and keeps what arrives; resolves once the subscription is in force. */
async function listen(app: FastifyInstance, channel: string): Promise<{ heard: unknown[]; end: () => void }> {
  const heard: unknown[] = []
  let live = false
  const end = app.fleet.subscribe(channel, (message) => heard.push(message), {
    onReconnect: () => {
      live = true
    },
  })
  await until(() => live, { what: `the subscription to ${channel}` })
  return { heard, end }
}

for (const engine of ['memory', 'redis'] as const) {
  describe(engine, () => {
    let server: RedisServer | undefined
    const options = async (): Promise<RedisOptions> => {
      if (engine === 'memory') return { client: null }
      server ??= await startRedis()
      return { url: server.url }
    }

    test('every subscriber of a channel hears what is published, in order and as JSON', async () => {
      const app = await build(await options())
      const [a, b, other] = [await listen(app, 'room'), await listen(app, 'room'), await listen(app, 'other')]
      const messages = [1, 'two', { three: [3] }, null]
      for (const message of messages) await app.fleet.publish('room', message)
      await app.fleet.publish('room', undefined)
      await until(() => a.heard.length === 5 && b.heard.length === 5)
      assert.deepEqual(a.heard, [...messages, null])
      assert.deepEqual(b.heard, a.heard)
      assert.deepEqual(other.heard, [])
    })

    test('who left hears nothing more; a failing listener disturbs nobody', async () => {
      const app = await build(await options())
      const gone = await listen(app, 'room')
      app.fleet.subscribe('room', () => {
        throw new Error('on purpose')
      })
      const stays = await listen(app, 'room')
      gone.end()
      gone.end()
      await app.fleet.publish('room', 1)
      await until(() => stays.heard.length === 1)
      assert.deepEqual(gone.heard, [])
      stays.end()
      const again = await listen(app, 'room')
      await app.fleet.publish('room', 2)
      await until(() => again.heard.length === 1)
    })
  })
}

test('rejects a message that is larger than `maxMessageBytes`', async () => {
  const app = Fastify()
  apps.push(app)
  await app.register(redis, { client: null })
  await app.register(broadcast, { maxMessageBytes: 100 })
  const { heard } = await listen(app, 'chat')
  const tooLarge = (error: unknown) => error instanceof FleetError && error.code === 'FLEET_ERR_MESSAGE_TOO_LARGE'
  await assert.rejects(app.fleet.publish('chat', '\u00e9'.repeat(50)), tooLarge)
  await app.fleet.publish('chat', '\u00e9'.repeat(49))
  await until(() => heard.length === 1)
})

describe('several instances', () => {
  test('hear each other, and what is no message is passed over', async () => {
    const server = await startRedis()
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => build({ url: server.url })))
    assert.ok(a && b && c)
    const all = await Promise.all([a, b, c].map((app) => listen(app, 'chat')))
    await a.redis?.publish('fleet:broadcast:chat', 'no JSON')
    await a.fleet.publish('chat', 'hello')
    await until(() => all.every(({ heard }) => heard.length === 1), { what: 'the message everywhere' })
  })

  test('find each other again after Redis was away', async () => {
    const server = await startRedis()
    const [a, b] = await Promise.all([build({ url: server.url }), build({ url: server.url })])
    const events: string[] = []
    const heard: unknown[] = []
    b.fleet.subscribe('chat', (message) => heard.push(message), {
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
    await until(() => heard.includes(1))
  })

  test('notice that a connection is dead though it is open', async () => {
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

  test('Redis away when the subscription is made', async () => {
    const server = await startRedis()
    await server.kill('SIGKILL')
    const app = await build({ url: server.url, connectTimeoutMs: 100 })
    const listening = listen(app, 'chat')
    await server.restart()
    const { heard } = await listening
    await until(() => app.fleet.publish('chat', 'late').then(() => true))
    await until(() => heard.length > 0)
  })
})

test('rooms that need it register it once', async () => {
  const app = await build({ client: null })
  assert.ok(app.hasPlugin('fleet-broadcast'))
})
