// What a person who counts microseconds would write by hand: the same headers, an id, a histogram, a drain.
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import Fastify from 'fastify'
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client'
import { hello, listening, port } from './hello.js'

const app = Fastify({ genReqId: () => randomUUID() })
const registry = new Registry()
collectDefaultMetrics({ register: registry })
const histogram = new Histogram({
  name: 'http_request_duration_seconds',
  help: 'Time from request to response',
  labelNames: ['method', 'route', 'status_code'],
  registers: [registry],
})
const times = histogram.labels('GET', '/', '200')
const fixed = {
  'X-Instance-Id': `${hostname()}-${process.pid}`,
  'X-Served-By': `${hostname()}:${process.pid}`,
  'X-Session-Shared': 'false',
  'X-Load-Balancer-Ready': 'true',
  'X-Stateless': 'true',
  'Content-Security-Policy':
    "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';frame-ancestors 'self';img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';style-src 'self' https: 'unsafe-inline'",
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Origin-Agent-Cluster': '?1',
  'Referrer-Policy': 'no-referrer',
  'Strict-Transport-Security': 'max-age=31536000; includeSubDomains',
  'X-Content-Type-Options': 'nosniff',
  'X-DNS-Prefetch-Control': 'off',
  'X-Download-Options': 'noopen',
  'X-Frame-Options': 'SAMEORIGIN',
  'X-Permitted-Cross-Domain-Policies': 'none',
  'X-XSS-Protection': '0',
}
app.addHook('onSend', (request, reply, payload, done) => {
  reply.headers(fixed)
  reply.header('X-Request-Id', request.id)
  reply.header('X-Response-Time', `${reply.elapsedTime.toFixed(1)}ms`)
  done(null, payload)
})
app.addHook('onResponse', (_request, reply, done) => {
  times.observe(reply.elapsedTime / 1000)
  done()
})
app.get('/metrics', () => registry.metrics())
app.get('/', async () => hello)
process.once('SIGTERM', () => app.close())
await app.listen({ port, host: '127.0.0.1' })
listening()
