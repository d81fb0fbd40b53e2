import type { FastifyPluginAsync } from 'fastify'
import { authentication, FleetError, type TokenPair } from '../../index.ts'
import { signedIn } from '../access.ts'
import type { User } from '../data/index.ts'
import { verifyPassword } from '../password.ts'
import * as schemas from '../schemas.ts'

/** Login attempts per client and minute, across all instances. */
const attempts = 30

const auth: FastifyPluginAsync = async (app) => {
  const limited = { config: { rateLimit: authentication(attempts) } }

  app.post<{ Body: { email: string; password: string } }>(
    '/login',
    { ...limited, schema: { body: schemas.login, response: schemas.responses(200, schemas.loggedIn) } },
    async (request): Promise<{ user: User } & TokenPair> => {
      const account = await app.data.users.account(request.body.email.toLowerCase())
      const isRight = await verifyPassword(request.body.password, account?.passwordHash)
      if (!account || !isRight) throw new FleetError('FLEET_ERR_LOGIN_FAILED')
      const { passwordHash: _, ...user } = account

      const tokens = await app.tokens.issue(user.id)
      const { sub, sid } = await app.tokens.verify(tokens.accessToken)
      // A new id: one that an attacker planted before the login becomes useless.
      await request.session.regenerate()
      request.session.userId = user.id
      if (sid !== undefined) request.session.tokens = { sub, sid }
      return { user, ...tokens }
    },
  )

  app.post('/logout', { onRequest: signedIn, schema: { response: { 204: {} } } }, async (request, reply) => {
    const { user, session } = request
    const ended = [session.tokens, user?.sid !== undefined ? { sub: user.sub, sid: user.sid } : undefined]
    await Promise.all(ended.map((tokens) => tokens && app.tokens.revoke(tokens)))
    await session.destroy()
    return reply.code(204).send()
  })

  app.post<{ Body: { refreshToken: string } }>(
    '/refresh',
    {
      ...limited,
      schema: {
        body: schemas.object({ refreshToken: { type: 'string', minLength: 1, maxLength: 8192 } }),
        response: schemas.responses(200, schemas.tokens),
      },
    },
    (request): Promise<TokenPair> => app.tokens.refresh(request.body.refreshToken, request),
  )
}
export default auth
