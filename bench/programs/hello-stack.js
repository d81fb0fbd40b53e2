// The plugins that people put together for the same job, each as its README says.
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import underPressure from '@fastify/under-pressure'
import Fastify from 'fastify'
import gracefulShutdown from 'fastify-graceful-shutdown'
import metrics from 'fastify-metrics'
import { hello, listening, port } from './hello.js'

const app = Fastify({ genReqId: () => randomUUID() })
await app.register(helmet)
await app.register(cors, { origin: false })
await app.register(underPressure, { maxEventLoopDelay: 1000, exposeStatusRoute: '/ready' })
await app.register(metrics, { endpoint: '/metrics' })
await app.register(gracefulShutdown)
app.addHook('onSend', async (request, reply, payload) => {
  reply.header('X-Request-Id', request.id)
  reply.header('X-Instance-Id', `${hostname()}-${process.pid}`)
  reply.header('X-Served-By', `${hostname()}:${process.pid}`)
  reply.header('X-Response-Time', `${reply.elapsedTime.toFixed(1)}ms`)
  return payload
})
app.get('/', async () => hello)
await app.listen({ port, host: '127.0.0.1' })
listening()
