import Fastify from 'fastify'
import { jwt } from 'fastify-fleet/jwt'
import { claims, serve } from './jwt.js'

const app = Fastify()
await app.register(jwt)
const { sub, ...own } = claims
await serve(
  app,
  async () => (await app.tokens.issue(sub, own)).accessToken,
  { preHandler: app.authenticate },
  ({ user }) => user.sub,
)
