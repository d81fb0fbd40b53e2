import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'
import { instrumentation } from './tracing.js'

const app = Fastify(serverOptions())
await app.register(instrumentation.plugin())
await app.register(fleet, { name: 'traced' })

app.get('/', async (request) => ({ trace: request.opentelemetry().span?.spanContext().traceId ?? null }))

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
