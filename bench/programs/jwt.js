import { listening, port } from './hello.js'

export const secret = process.env.JWT_SECRET
export const claims = { sub: 'ann', name: 'Ann Example', roles: ['admin', 'editor'] }
export const schema = { response: { 200: { type: 'object', properties: { sub: { type: 'string' } } } } }

/** `POST /login` gives a token, `GET /me` wants it; the same two routes in every program. */
export async function serve(app, issue, options, subject) {
  app.post('/login', async () => ({ token: await issue() }))
  app.get('/me', { schema, ...options }, async (request) => ({ sub: subject(request) }))
  await app.listen({ port, host: '127.0.0.1' })
  listening()
}
