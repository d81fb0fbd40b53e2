import type { FastifyPluginAsync } from 'fastify'
import { signedIn, userOf } from '../access.ts'
import * as schemas from '../schemas.ts'

const account: FastifyPluginAsync = async (app) => {
  const servedBy = app.fleet.instance.id

  app.get(
    '/me',
    {
      onRequest: signedIn,
      schema: {
        response: schemas.responses(200, schemas.object({ user: schemas.user, servedBy: schemas.text })),
      },
    },
    async (request) => ({ user: await userOf(app, request), servedBy }),
  )

  app.get(
    '/dashboard',
    {
      onRequest: signedIn,
      schema: {
        response: schemas.responses(
          200,
          schemas.object({
            user: schemas.user,
            summary: schemas.summary,
            countedAt: schemas.text,
            servedBy: schemas.text,
          }),
        ),
      },
    },
    async (request) => {
      const [user, counted] = await Promise.all([
        userOf(app, request),
        // Expensive, and may be slightly stale: the old value is served while one instance computes a new one.
        app.cache.getOrSet(
          'summary',
          10_000,
          async () => ({ summary: await app.data.products.summary(), countedAt: new Date().toISOString() }),
          { tags: ['products'], staleWhileRevalidateMs: 60_000, staleIfErrorMs: 600_000 },
        ),
      ])
      return { user, ...counted, servedBy }
    },
  )
}
export default account
