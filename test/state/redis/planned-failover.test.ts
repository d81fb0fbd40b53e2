import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { broadcast } from '../../../src/state/broadcast/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { until } from '../../helpers/until.ts'
import { startSentinel } from '../topologies.ts'

const client = (port: number): Redis => {
  const opened = new Redis(port)
  after(() => opened.disconnect())
  return opened
}

test('after a planned failover, instances leave the old primary before it becomes a replica', async () => {
  const { sentinels, primary, replicas } = await startSentinel()
  const start = async (): Promise<FastifyInstance> => {
    const app = Fastify()
    after(() => app.close())
    await app.register(redis, { sentinels, connectTimeoutMs: 5000 })
    await app.register(broadcast, { heartbeatMs: 500 })
    return app
  }
  const [a, b] = await Promise.all([start(), start()])
  const heard = new Set<unknown>()
  b.fleet.subscribe('chat', (text) => void heard.add(text))
  const write = (): Promise<unknown> => (a.redis as Redis).incr('writes').catch(() => {})
  await write()

  const ports = sentinels
    .split('@')[1]
    ?.split(',')
    .map((address) => Number(address.split(':')[1])) as number[]
  assert.equal(await client(ports[0] as number).call('SENTINEL', 'FAILOVER', 'fleet'), 'OK')
  const followers = replicas.map(({ port }) => client(port))
  const successor = async (): Promise<Redis | undefined> => {
    const roles = await Promise.all(followers.map(async (follower) => ((await follower.role()) as unknown[])[0]))
    return followers[roles.indexOf('master')]
  }
  await until(async () => (await successor()) !== undefined, { what: 'a new primary' })
  const next = (await successor()) as Redis
  const old = client(primary.port)

  const before = Number(await next.get('writes'))
  await until(async () => {
    await write()
    await a.fleet.publish('chat', 'hello').catch(() => {})
    return Number(await next.get('writes')) > before && heard.has('hello')
  })
  assert.equal(((await old.role()) as unknown[])[0], 'master', 'it was a replica already, so this proves nothing')
  const lost = Number(await old.get('writes'))
  for (let i = 0; i < 20; i++) await write()
  assert.equal(Number(await old.get('writes')), lost, 'nothing is written to the old primary any more')
})
