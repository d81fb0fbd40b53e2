import { scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import Fastify from 'fastify'
import fleet, { authentication, serverOptions } from 'fastify-fleet'

const hash = promisify(scrypt)
/** In a real app this is a table. */
const users = new Map([['ada', { salt: 'salt of ada', password: await hash('engine', 'salt of ada', 32) }]])

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'login', session: { userId: 'user' } })

app.post('/login', { config: { rateLimit: authentication(10, 60_000) } }, async (request, reply) => {
  const { name, password } = request.body ?? {}
  const user = users.get(name)
  // The hash is computed for unknown names, too, so that the time tells nothing.
  const given = await hash(String(password), user?.salt ?? 'no user', 32)
  if (!user || !timingSafeEqual(given, user.password))
    return reply.code(401).send({ message: 'wrong name or password' })
  await request.session.regenerate()
  request.session.user = name
  return { name }
})

app.get('/me', async (request, reply) => {
  if (!request.session.user) return reply.code(401).send({ message: 'log in first' })
  return { name: request.session.user, servedBy: app.fleet.instance.id }
})

app.post('/logout', async (request) => {
  await request.session.destroy()
  return { ok: true }
})

app.post('/logout-everywhere', async (request, reply) => {
  if (!request.session.user) return reply.code(401).send({ message: 'log in first' })
  await app.sessions.destroyAll(request.session.user)
  return { ok: true }
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
