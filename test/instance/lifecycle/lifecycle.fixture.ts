/** A small app that runs as a process of its own, so that tests can send it signals. */

import { PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import loadBalancer from '../../../src/instance/admin-api.ts'
import headers from '../../../src/instance/headers.ts'
import health from '../../../src/instance/health/index.ts'

const {
  FIXTURE_HTTP2,
  FIXTURE_HANG_CLOSE,
  FIXTURE_HANG_BOOT,
  FIXTURE_HOST = '127.0.0.1',
  FIXTURE_REJECTIONS,
  FIXTURE_SIGNAL_AGAIN,
  FIXTURE_SLOW_BOOT,
  FIXTURE_TIMER,
} = process.env

const logger = { level: 'info' }
const app = (FIXTURE_HTTP2 ? Fastify({ http2: true, logger }) : Fastify({ logger })) as unknown as FastifyInstance
if (FIXTURE_REJECTIONS)
  process.on('unhandledRejection', (error) => console.log(`rejected: ${(error as FleetError).code}`))
// Added first, it closes last.
if (FIXTURE_SIGNAL_AGAIN)
  app.addHook('onClose', async () => {
    app.log.info('the last plugin closes')
    process.kill(process.pid, 'SIGTERM')
    await delay(100)
  })
// The tests use `/live` for fatal errors only; a busy machine must not fail it.
await app.register(health, { maxStuckMs: 3_600_000 })
await app.register(loadBalancer)
await app.register(headers)
app.addHook('onClose', async () => {
  app.log.info('plugins close')
  if (FIXTURE_HANG_CLOSE) await new Promise(() => undefined)
})

app.get('/', async () => ({ hello: 'world' }))
app.post('/', async (request) => request.body)
app.get<{ Querystring: { ms: number } }>('/slow', async (request) => {
  await delay(Number(request.query.ms))
  return { slept: Number(request.query.ms) }
})
// In flight when the drain begins, however late the signal arrives.
const draining = new Promise<void>((resolve) => app.fleet.onState((state) => void (state === 'draining' && resolve())))
app.get('/pending', async () => {
  await draining
  await delay(300)
  return { pending: true }
})
app.get('/raw-pending', (_request, reply) => {
  reply.hijack()
  void draining.then(() => reply.raw.writeHead(200, { 'content-type': 'text/plain' }).end('raw'))
})
app.get('/events', (_request, reply) => {
  reply.hijack()
  reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
  reply.raw.write('data: first\n\n')
})
app.get('/event-stream', async (_request, reply) => {
  const source = new PassThrough()
  source.write('data: first\n\n')
  const ticking = setInterval(() => source.write('data: tick\n\n'), 20)
  source.on('close', () => clearInterval(ticking))
  return reply.type('text/event-stream').send(source)
})
app.post('/throw-later', async () => {
  setTimeout(() => {
    throw new Error('uncaught in a timer')
  }, 10)
  return {}
})
app.post('/reject', async () => {
  void Promise.reject(new FleetError('FLEET_ERR_STATE_UNAVAILABLE'))
  return {}
})
if (!FIXTURE_HTTP2) {
  // In a child scope, whose decorator the lifecycle plugin cannot see.
  await app.register(async (scope) => {
    await scope.register(websocket)
    scope.get('/ws', { websocket: true }, (socket) => {
      socket.on('message', (text: Buffer) => socket.send(text.toString()))
    })
  })
}
// The app's own work, which never ends by itself.
if (FIXTURE_TIMER) setInterval(() => undefined, 60_000)
if (FIXTURE_HANG_BOOT) {
  setTimeout(() => {
    if (FIXTURE_HANG_BOOT === 'error') throw new Error('lost during the boot')
    console.log('booting')
  }, 10)
  await app.register(() => new Promise(() => undefined))
}
if (FIXTURE_SLOW_BOOT) {
  console.log('booting')
  await delay(60_000)
}
await app.listen({ port: 0, host: FIXTURE_HOST })
