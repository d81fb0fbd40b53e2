import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import Fastify from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'

test('rejects a retryable request while draining, with X-Fleet-Draining and Connection: close', async (t) => {
  const app = Fastify()
  await app.register(lifecycle, { signals: false })
  app.get('/', async () => 'work')
  t.after(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  Object.assign(app.fleet, { peers: () => [{ state: 'serving', host: 'elsewhere', port: 1 }] })
  app.fleet.drain()
  const { port } = app.server.address() as { port: number }
  const response = await new Promise<{ status?: number; headers: Record<string, unknown> }>((resolve, reject) => {
    const requested = request({ port, host: '127.0.0.1', headers: { 'x-fleet-retry': '1' } }, (incoming) => {
      incoming.resume().on('end', () => resolve({ status: incoming.statusCode, headers: incoming.headers }))
    })
    requested.on('error', reject).end()
  })
  assert.equal(response.status, 502)
  assert.equal(response.headers['x-fleet-draining'], '1')
  assert.equal(response.headers.connection, 'close')
})
