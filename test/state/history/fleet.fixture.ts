// An instance with a few routes. Prints its URL.
import Fastify from 'fastify'
import { fleet } from '../../../src/fleet.ts'

const app = Fastify()
await app.register(fleet, { name: 'shop', redis: { commandTimeoutMs: 2_000 }, health: { checks: { intervalMs: 500 } } })
app.get('/items/:id', async (request, reply) => {
  const { id } = request.params as { id: string }
  if (id === 'missing') return reply.code(404).send({})
  if (id === 'broken') throw new Error('broken')
  return { id }
})
console.log(await app.listen({ port: 0, host: '127.0.0.1' }))
