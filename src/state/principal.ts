import type { FastifyRequest } from 'fastify'

/**
 * Who is logged in: the subject of the access token, or the user of the session; `undefined` when nobody is. It is known
 * from `preHandler` on, after `app.authenticate`.
 */
export function principal(request: FastifyRequest): string | undefined {
  const { user, session } = request as { user?: { sub?: unknown } | null; session?: { userId?: unknown } | null }
  const id = user?.sub ?? session?.userId
  return id === undefined || id === null ? undefined : String(id)
}
