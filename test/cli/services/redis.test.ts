import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Redis } from 'ioredis'
import { startRedis } from '../../helpers/redis.ts'

const withClient = async <T>(url: string, use: (client: Redis) => Promise<T>): Promise<T> => {
  const client = new Redis(url)
  try {
    return await use(client)
  } finally {
    client.disconnect()
  }
}

test('a private Redis keeps its data and port over kill and restart', async () => {
  const redis = await startRedis({ appendonly: true, args: ['--appendfsync', 'always'] })
  await withClient(redis.url, (client) => client.set('a', '1'))
  const { pid } = redis
  await redis.kill('SIGKILL')
  await assert.rejects(fetch(`http://127.0.0.1:${redis.port}`))
  await redis.restart()
  assert.notEqual(redis.pid, pid)
  assert.equal(await withClient(redis.url, (client) => client.get('a')), '1')
  await redis.stop()
})

test('a server that cannot start says why', async () => {
  await assert.rejects(startRedis({ args: ['--no-such-option', '1'] }), {
    code: 'FLEET_ERR_SERVICE_FAILED',
    message: /no-such-option/,
  })
})
