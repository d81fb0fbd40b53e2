import type { FastifyRequest } from 'fastify'

interface Authenticated {
  user?: { sub?: unknown } | null
  session?: object | null
}

/**
 * The authenticated user: the subject of the access token, else the user of the session (the field that the option
 * `session.userId` names), else `undefined`. Available from `preHandler` on, after `app.authenticate`.
 */
export function principal(request: FastifyRequest): string | undefined {
  const { session } = request as Authenticated
  return subject(request) ?? (session ? idOf((session as Record<string, unknown>)[userIdField(request)]) : undefined)
}

/** The subject of the access token. */
export const subject = (request: FastifyRequest): string | undefined => idOf((request as Authenticated).user?.sub)

/** The option `userId` of the session plugin. */
function userIdField({ server }: FastifyRequest): string {
  const options = server?.fleet?.configuration.session as { userId?: string } | undefined
  return options?.userId ?? 'userId'
}

/** Objects and `NaN` are rejected: many values have the same text and would be one user. */
const idOf = (id: unknown): string | undefined =>
  (typeof id === 'string' && id !== '') || Number.isFinite(id) || typeof id === 'bigint' ? String(id) : undefined
