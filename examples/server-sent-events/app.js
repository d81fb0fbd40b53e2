import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'events' })

/** Open responses of this instance. */
const streams = new Set()
app.fleet.subscribe('price', (price) => {
  for (const stream of streams) stream.write(`data: ${JSON.stringify(price)}\n\n`)
})
// A drain ends the streams; browsers reconnect to another instance.
app.fleet.onState((state) => {
  if (state === 'draining') for (const stream of streams) stream.end('retry: 1000\n\n')
})

app.get('/events', (_request, reply) => {
  reply.hijack()
  reply.raw.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  reply.raw.write(': connected\n\n')
  streams.add(reply.raw)
  reply.raw.once('close', () => streams.delete(reply.raw))
})

app.post('/prices', async (request) => {
  const price = { product: String(request.body?.product), cents: Number(request.body?.cents) }
  await app.fleet.publish('price', price)
  return price
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
