// Argument: `cached` remembers what was verified; without it the settings are those of the README.
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import { claims, secret, serve } from './jwt.js'

const app = Fastify()
await app.register(jwt, { secret, ...(process.argv[2] === 'cached' && { verify: { cache: true } }) })
await serve(
  app,
  () => app.jwt.sign(claims, { expiresIn: '15m' }),
  { preHandler: (request) => request.jwtVerify() },
  ({ user }) => user.sub,
)
