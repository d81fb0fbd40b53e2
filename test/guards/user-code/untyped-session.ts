// Sessions without declared fields, by choice.
import Fastify from 'fastify'
import fleet from 'fastify-fleet'

declare module 'fastify' {
  interface Session {
    // biome-ignore lint/suspicious/noExplicitAny: what this app chose
    [field: string]: any
  }
}

const app = Fastify()
await app.register(fleet)
app.get('/', async ({ session }) => {
  session.visits = (session.visits ?? 0) + 1
  return { visits: session.visits }
})
