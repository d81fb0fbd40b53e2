// As its README shows it: the secret as a string.
import Fastify from 'fastify'
import jsonwebtoken from 'jsonwebtoken'
import { claims, secret, serve } from './jwt.js'

const app = Fastify()
app.decorateRequest('user', null)
const preHandler = async (request) => {
  request.user = jsonwebtoken.verify(request.headers.authorization.slice(7), secret)
}
await serve(
  app,
  () => jsonwebtoken.sign(claims, secret, { expiresIn: 900 }),
  { preHandler },
  ({ user }) => user.sub,
)
