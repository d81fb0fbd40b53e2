import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import cors from 'cors'
import express from 'express'
import helmet from 'helmet'
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client'
import { hello, listening, port } from './hello.js'

const app = express()
const registry = new Registry()
collectDefaultMetrics({ register: registry })
const times = new Histogram({
  name: 'http_request_duration_seconds',
  help: 'Time from request to response',
  labelNames: ['method', 'route', 'status_code'],
  registers: [registry],
})
app.use((request, response, next) => {
  const end = times.startTimer()
  response.set('X-Request-Id', randomUUID())
  response.set('X-Instance-Id', `${hostname()}-${process.pid}`)
  response.set('X-Served-By', `${hostname()}:${process.pid}`)
  response.once('finish', () =>
    end({ method: request.method, route: request.route?.path, status_code: response.statusCode }),
  )
  next()
})
app.use(helmet())
app.use(cors({ origin: false }))
app.get('/metrics', async (_request, response) => response.type('text').send(await registry.metrics()))
app.get('/ready', (_request, response) => response.json({ ready: true }))
app.get('/', (_request, response) => response.json(hello))
const server = app.listen(port, '127.0.0.1', listening)
server.keepAliveTimeout = 72_000
process.once('SIGTERM', () => server.close())
