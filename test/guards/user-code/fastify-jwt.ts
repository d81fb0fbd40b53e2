// @fastify/jwt in the same app: its declaration of `request.user` wins.
import '@fastify/jwt'
import Fastify from 'fastify'
import fleet from 'fastify-fleet'

declare module '@fastify/jwt' {
  interface FastifyJWT {
    user: { name: string }
  }
}

const app = Fastify()
await app.register(fleet, { jwt: false })
app.get('/', async ({ user }) => {
  const name: string = user.name
  return { name }
})
