import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { it } from 'node:test'
import Fastify from 'fastify'
import health from '../../src/instance/health/index.ts'
import { until } from '../helpers/until.ts'

it('publishes the states and checks of an instance to subscribers', async (t) => {
  const states: unknown[] = []
  const checks: { check: string; status: string }[] = []
  const onState = (message: unknown): void => void states.push(message)
  const onCheck = (message: unknown): void => void checks.push(message as (typeof checks)[number])
  subscribe('fleet:state', onState)
  subscribe('fleet:check', onCheck)
  t.after(() => {
    unsubscribe('fleet:state', onState)
    unsubscribe('fleet:check', onCheck)
  })

  const app = Fastify()
  await app.register(health, { checks: { intervalMs: 100, fall: 1, rise: 1 } })
  let well = false
  app.health.add('shop', () => {
    if (!well) throw new Error('closed')
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const of = (status: string) => checks.find((message) => message.check === 'shop' && message.status === status)
  assert.deepEqual(await until(() => of('down'), { what: 'the check to fail' }), {
    instance: app.fleet.instance.id,
    check: 'shop',
    status: 'down',
    critical: true,
    error: 'closed',
  })
  well = true
  await until(() => of('up'), { what: 'the check to pass' })

  app.fleet.drain()
  app.fleet.undrain()
  await app.close()
  assert.deepEqual(
    states,
    ['serving', 'draining', 'serving', 'draining', 'closed'].map((state) => ({
      instance: app.fleet.instance.id,
      state,
    })),
  )
})
