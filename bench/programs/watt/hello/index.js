import Fastify from 'fastify'

export function create() {
  const app = Fastify()
  app.get('/', async () => ({ hello: 'world' }))
  return app
}
