// No verification at all.
import Fastify from 'fastify'
import { claims, serve } from './jwt.js'

await serve(
  Fastify(),
  () => 'x'.repeat(300),
  {},
  () => claims.sub,
)
