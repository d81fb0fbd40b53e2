import { PrismaPg } from '@prisma/adapter-pg'
import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'
import { pools, replicas } from 'fastify-fleet/database'
import { PrismaClient } from './generated/client.ts'

const pool = await pools({ max: 10 })
const connect = (url, name) => new PrismaClient({ adapter: new PrismaPg(pool.open(url, name)) })
/** Writes go to DATABASE_URL, reads to DATABASE_REPLICA_URLS. */
const prisma = connect(process.env.DATABASE_URL).$extends(replicas({ connect }))

const app = Fastify(serverOptions())
// errorResponses: a note that does not exist is a 404, a database that is down a 503.
await app.register(fleet, {
  name: 'notes',
  session: false,
  errorResponses: true,
  database: { client: () => prisma, pools: pool },
})

const params = { type: 'object', properties: { id: { type: 'integer' } } }
const body = {
  type: 'object',
  required: ['text'],
  properties: { text: { type: 'string', minLength: 1, maxLength: 1000 } },
}

app.get('/notes', async () => prisma.note.findMany({ orderBy: { id: 'desc' }, take: 20 }))

app.get('/notes/:id', { schema: { params } }, async (request) =>
  prisma.note.findUniqueOrThrow({ where: { id: request.params.id } }),
)

app.post('/notes', { schema: { body } }, async (request, reply) => {
  const note = await prisma.note.create({ data: { text: request.body.text } })
  return reply.code(201).header('location', `/notes/${note.id}`).send(note)
})

app.put('/notes/:id', { schema: { params, body } }, async (request) =>
  prisma.note.update({ where: { id: request.params.id }, data: { text: request.body.text } }),
)

app.delete('/notes/:id', { schema: { params } }, async (request, reply) => {
  await prisma.note.delete({ where: { id: request.params.id } })
  return reply.code(204).send()
})

/** How many reads of this instance each server got. */
app.get('/reads', async () => prisma.$routing().reads)

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
