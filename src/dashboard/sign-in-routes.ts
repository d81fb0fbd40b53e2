import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify'
import { FleetError } from '../base/errors.ts'
import { isProvenChange } from '../base/operator-access.ts'
import { clientKey } from '../instance/client-key.ts'
import { unproven } from '../instance/operators/index.ts'
import type { SignIn } from '../instance/operators/sign-in.ts'

/**
 * Routes that exchange the token, or the code of a one-time link, for a cookie. They exist only with a token. A wrong
 * token gets 401 and not 404, because the existence of the sign-in is no secret.
 */
export function sessionRoutes(app: FastifyInstance, root: string, route: RouteShorthandOptions, signIn: SignIn): void {
  const onRequest = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void): void => {
    if (!app.operators.offersSignIn(request)) reply.callNotFound()
    else if (isProvenChange(request.headers)) done()
    else done(unproven())
  }
  const options = { ...route, onRequest, logLevel: 'info' } as const

  app.post(`${root}/session`, options, async (request, reply) => {
    const cookies = await signIn.signIn(clientKey(request), credentials(request.body), isSecure(request))
    return reply.code(204).headers({ 'set-cookie': cookies, 'cache-control': 'no-store' }).send()
  })
  app.delete(`${root}/session`, options, async (request, reply) =>
    reply
      .code(204)
      .headers({ 'set-cookie': signIn.signOut(isSecure(request)), 'cache-control': 'no-store' })
      .send(),
  )
}

/** Whether the client uses https, as reported by a trusted proxy (TRUST_PROXY). */
const isSecure = (request: FastifyRequest): boolean => request.protocol === 'https'

/** @throws FLEET_ERR_REQUEST_INVALID */
function credentials(body: unknown): { token: string } | { code: string } {
  const { token, code } = (body ?? {}) as { token?: unknown; code?: unknown }
  if (typeof token === 'string') return { token }
  if (typeof code === 'string') return { code }
  throw new FleetError('FLEET_ERR_REQUEST_INVALID', 'the body must be JSON with `token`, or with the `code` of a link')
}

/** Whether a browser will display the response. Programs get the 404 of an unknown path. */
export const asksForPage = ({ headers: { accept } }: FastifyRequest): boolean => accept?.includes('text/html') === true
