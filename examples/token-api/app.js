import Fastify from 'fastify'
import fleet, { authentication, serverOptions } from 'fastify-fleet'

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'token-api', session: false })

app.post('/token', { config: { rateLimit: authentication(10, 60_000) } }, async (request, reply) => {
  const { name, password } = request.body ?? {}
  if (name !== 'ada' || password !== 'engine') return reply.code(401).send({ message: 'wrong name or password' })
  return app.tokens.issue(name, { role: 'staff' })
})

app.post('/token/refresh', async (request) => app.tokens.refresh(request.body?.refreshToken, request))

app.post('/token/revoke', { onRequest: app.authenticate }, async (request) => {
  await app.tokens.revokeAll(request.user.sub)
  return { ok: true }
})

app.get('/me', { onRequest: app.authenticate }, async (request) => ({
  user: request.user.sub,
  role: request.user.role,
}))

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
