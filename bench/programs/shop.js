// The small app of the scenario `restart`: a login whose session counts, a GET and a POST.
import { appendFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

export const port = Number(process.env.PORT)
export const secret = process.env.SESSION_SECRET
export const redisUrl = process.env.REDIS_URL
/** What a handler waits for, such as a query. */
const workMs = 5

export function routes(app) {
  app.post('/login', async ({ session, query }) => {
    Object.assign(session, { user: query.user, count: 0 })
    return {}
  })
  const loggedIn = async ({ session }, reply) => {
    if (!session.user) return reply.code(401).send({ error: 'no session' })
  }
  app.get('/me', { preHandler: loggedIn }, async ({ session: { user, count, theme, language } }) => {
    await sleep(workMs)
    return { user, count, theme, language }
  })
  app.post('/count', { preHandler: loggedIn }, async ({ session, query }) => {
    // Its line is an execution: a single append, from any process.
    appendFileSync(process.env.LEDGER, `${query.id}\n`)
    const { count } = session
    await sleep(workMs)
    session.count = count + 1
    return {}
  })
  app.post('/set', { preHandler: loggedIn }, async ({ session, query }) => {
    await sleep(workMs)
    session[query.field] = 'set'
    return {}
  })
}
