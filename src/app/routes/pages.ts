import { fileURLToPath } from 'node:url'
import files from '@fastify/static'
import type { FastifyPluginAsync } from 'fastify'
import * as schemas from '../schemas.ts'

const pages: FastifyPluginAsync = async (app) => {
  // Public pages: they do not load a session, so they work without Redis.
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, session: false }
  })
  await app.register(files, {
    root: fileURLToPath(new URL('../public', import.meta.url)),
    prefix: '/static/',
    index: 'index.html',
    // Load balancers may cache them for as long; their data comes from the API.
    maxAge: 300_000,
    decorateReply: false,
  })

  app.get('/', { schema: { response: { 302: { type: 'null' }, ...schemas.failures } } }, (_request, reply) =>
    reply.redirect('/static/'),
  )
}
export default pages
