import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { FleetError } from '../index.ts'
import type { User } from './data/index.ts'

declare module 'fastify' {
  interface Session {
    userId?: string
    /** The token family issued with this session, revoked with it. */
    tokens?: { sub: string; sid: string }
  }
}

/** Authenticates by session or access token. A token that was sent is never ignored. */
export async function signedIn(this: FastifyInstance, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (request.headers.authorization === undefined && request.session.userId !== undefined) return
  await this.authenticate(request, reply)
}

/** The id of the authenticated user. Call after {@link signedIn}. */
export function userIdOf({ user, session }: FastifyRequest): string {
  const id = user?.sub ?? session.userId
  if (id === undefined) throw new FleetError('FLEET_ERR_TOKEN_MISSING')
  return id
}

/** @throws FLEET_ERR_LOGIN_FAILED when the user has been deleted since the login */
export async function userOf(app: FastifyInstance, request: FastifyRequest): Promise<User> {
  const id = userIdOf(request)
  const user = await app.cache.getOrSet(`user:${id}`, 30_000, () => app.data.users.get(id), {
    staleIfErrorMs: 300_000,
  })
  if (!user) throw new FleetError('FLEET_ERR_LOGIN_FAILED')
  return user
}
