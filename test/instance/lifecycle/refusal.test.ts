import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import Fastify from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'

test('a draining instance that refuses a request says that it drains: a balancer must not take it for a failure', async (t) => {
  const app = Fastify()
  await app.register(lifecycle, { signals: false })
  app.get('/', async () => 'work')
  t.after(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  Object.assign(app.fleet, { peers: () => [{ state: 'serving', host: 'elsewhere', port: 1 }] })
  app.fleet.drain()
  const { port } = app.server.address() as { port: number }
  const answer = await new Promise<{ status?: number; headers: Record<string, unknown> }>((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', headers: { 'x-fleet-retry': '1' } }, (response) => {
      response.resume().on('end', () => resolve({ status: response.statusCode, headers: response.headers }))
    })
    asked.on('error', reject).end()
  })
  assert.equal(answer.status, 502)
  assert.equal(answer.headers['x-fleet-draining'], '1')
  assert.equal(answer.headers.connection, 'close')
})
