/** What every session holds, and the answer to `GET /me`. */
export const user = { userId: 'ann', name: 'Ann Example', roles: ['admin', 'editor'], theme: 'dark', visits: 42 }
export const schema = { response: { 200: { type: 'object', properties: { name: { type: 'string' } } } } }
export const secret = process.env.SESSION_SECRET
export const redisUrl = process.env.REDIS_URL

/** `POST /login` begins a session, `GET /me` reads it; the same two routes in every program. */
export function routes(app) {
  app.post('/login', async ({ session }) => {
    Object.assign(session, user)
    return {}
  })
  app.get('/me', { schema }, async ({ session }) => ({ name: session.name }))
}
