import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { Redis } from 'ioredis'
import { startRedis as startPrivate } from '../../../src/cli/up/redis.ts'
import { startRedis } from '../../helpers/redis.ts'
import { argumentsOf, modeOf } from './exposed.ts'

const withClient = async <T>(url: string, use: (client: Redis) => Promise<T>): Promise<T> => {
  const client = new Redis(url)
  try {
    return await use(client)
  } finally {
    client.disconnect()
  }
}

test('a private Redis keeps data and port across kill and restart', async () => {
  const redis = await startRedis({ appendonly: true })
  await withClient(redis.url, (client) => client.set('a', '1'))
  const { pid } = redis
  await redis.kill('SIGKILL')
  await assert.rejects(fetch(`http://127.0.0.1:${redis.port}`))
  await redis.restart()
  assert.notEqual(redis.pid, pid)
  assert.equal(await withClient(redis.url, (client) => client.get('a')), '1')
  await redis.stop()
})

test('rejects with the output of a server that cannot start', async () => {
  await assert.rejects(startRedis({ args: ['--no-such-option', '1'] }), {
    code: 'FLEET_ERR_SERVICE_FAILED',
    message: /no-such-option/,
  })
})

test('a private Redis requires a password that other users cannot read', async () => {
  const redis = await startPrivate()
  const password = decodeURIComponent(new URL(redis.url).password)
  assert.ok(password.length >= 32)
  const anonymous = connect(redis.port, '127.0.0.1')
  anonymous.end('GET x\r\nCONFIG GET dir\r\nSET x y\r\n')
  assert.equal((await text(anonymous)).match(/^-NOAUTH /gm)?.length, 3)
  await withClient(redis.url, async (client) => assert.equal(await client.ping(), 'PONG'))
  assert.ok(!argumentsOf(redis.pid).includes(password))
  assert.equal(modeOf(redis.folder), 0o700)
  assert.equal(modeOf(`${redis.folder}/redis.conf`), 0o600)
  await redis.restart()
  await withClient(redis.url, async (client) => assert.equal(await client.ping(), 'PONG'))
  await redis.stop()
})
