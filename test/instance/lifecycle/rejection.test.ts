import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import Fastify from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { Rejection } from '../../../src/instance/lifecycle/rejection.ts'
import { mockTimers } from '../../helpers/clock.ts'

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

test('rejects before the listener closes, even if it knows no other instance, and waits for the load balancer', async (t) => {
  mockTimers(t)
  const fleet = { instance: { host: 'here', port: 1 }, peers: () => [] } as never
  const request = (retryable: boolean): never => ({ headers: retryable ? { 'x-fleet-retry': '1' } : {} }) as never
  const pass = async (ms: number): Promise<void> => {
    t.mock.timers.tick(ms)
    await nextTurn()
    t.mock.timers.tick(0)
    await nextTurn()
  }
  const begin = async (rejection: Rejection): Promise<{ closes: boolean }> => {
    const state = { closes: false }
    void rejection.beforeClose().then(() => Object.assign(state, { closes: true }))
    await pass(0)
    return state
  }

  const direct = new Rejection()
  assert.equal(direct.applies(request(false), fleet), false)
  assert.deepEqual(await begin(direct), { closes: true }, 'no load balancer has sent the header')

  const quiet = new Rejection()
  assert.equal(quiet.applies(request(true), fleet), false)
  const unnoticed = await begin(quiet)
  await pass(249)
  assert.equal(unnoticed.closes, false)
  await pass(1)
  assert.equal(unnoticed.closes, true)

  const busy = new Rejection()
  assert.equal(busy.applies(request(true), fleet), false)
  const noticed = await begin(busy)
  await pass(100)
  assert.equal(busy.applies(request(false), fleet), false)
  assert.equal(busy.applies(request(true), fleet), true)
  assert.equal(busy.applies(request(true), fleet), true)
  await pass(0)
  await pass(49)
  assert.equal(noticed.closes, false)
  await pass(1)
  assert.equal(noticed.closes, true)
})
