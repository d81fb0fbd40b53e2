/** An app as a user would write one, with its own way to stop. */

import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { serveOrders } from '../../helpers/ledger.ts'

const { FIXTURE_STOP, FIXTURE_ORDERS = '', PORT } = process.env

const app = Fastify({ logger: { level: 'warn' } })
const stops: Record<string, () => void> = {
  // The app's own listener, with work that follows.
  own: () =>
    process.once('SIGTERM', async () => {
      await app.close()
      await delay(50)
      console.log('own work done')
    }),
  // Other code that exits by itself, as close-with-grace does after a delay, and at once on a second signal.
  impatient: () => {
    // Work that never ends by itself.
    setInterval(() => {}, 1_000)
    process.once('SIGTERM', () => {
      process.on('SIGTERM', () => process.exit(1))
      setTimeout(() => process.exit(1), 10)
    })
  },
}
if (FIXTURE_STOP) stops[FIXTURE_STOP]?.()
await app.register(async (scope) => {
  await scope.register(lifecycle)
  const me = { version: '1', pid: process.pid, id: 'one' }
  scope.get('/', async () => me)
  scope.get('/slow', async () => {
    await delay(500)
    return me
  })
  serveOrders(scope, FIXTURE_ORDERS, () => me)
  scope.addHook('onClose', async () => {
    // A timer that does not keep the process alive.
    await new Promise<void>((resolve) => setTimeout(resolve, 50).unref())
    console.log('flushed')
  })
})
await app.listen({ port: Number(PORT), host: '127.0.0.1' })
