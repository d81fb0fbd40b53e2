import type { FastifyInstance, FastifyRequest } from 'fastify'
import { routeOf } from '../../instance/fastify-internals.ts'
import { inPath, timeOf } from './cookie.ts'
import { type Held, heldBy, hold, Unopened } from './held.ts'
import { chain, type Later } from './later.ts'
import { Session } from './session.ts'
import type { Terms } from './terms.ts'

type Done = (error?: Error) => void

/** A probe must answer while Redis does not, whatever cookies come with it. */
function skips(request: FastifyRequest): boolean {
  const { session, probe } = routeOf(request)
  return session === false || probe === true
}

/** The session that a cookie names, or a new one. @throws FLEET_ERR_STATE_UNAVAILABLE */
export function open(terms: Terms, request: FastifyRequest, signed: string): Later<Session | Unopened> {
  const { valid, value: id, renew } = terms.signer.unsign(signed)
  if (!valid || id === null) return new Session(terms, request)
  return chain(terms.backing.load(id), (loaded) => {
    if (!loaded) return new Session(terms, request)
    const { expires } = loaded.cookie ?? {}
    const isOver = expires ? timeOf(expires) <= Date.now() : false
    if (!isOver) return new Unopened(terms, { id, signed, renew }, loaded)
    return chain(terms.backing.destroy(id, loaded.baseline), () => new Session(terms, request))
  })
}

/**
 * Reads the session of each request, and saves it with the answer. For one whose session is at hand the hooks make no
 * function, because they run for every request of the app.
 *
 * @param goesOn whether a request goes on without its session after this error
 */
export function addHooks(app: FastifyInstance, terms: Terms, goesOn: (error: unknown) => boolean): void {
  const { cookieName, cookiePrefix } = terms
  const path = terms.cookie.path as string
  const untold = new Unopened(terms)
  const opened = (request: FastifyRequest): Later<Held> => {
    if (!inPath(request, path) || skips(request)) return {}
    const sent = request.cookies[cookieName]
    if (sent === undefined && !terms.saveUninitialized) return untold
    if (!sent?.startsWith(cookiePrefix) || sent === cookiePrefix) return new Session(terms, request)
    return open(terms, request, sent.slice(cookiePrefix.length))
  }
  const unread = (error: unknown, request: FastifyRequest, done: Done): void => {
    if (goesOn(error)) {
      const { value: id } = terms.signer.unsign(request.cookies[cookieName]?.slice(cookiePrefix.length) ?? '')
      hold(request, Session.detached(terms, request, id))
      done()
    } else done(error as Error)
  }
  app.addHook('onRequest', (request, _reply, done) => {
    let session: Later<Held>
    try {
      session = opened(request)
    } catch (error) {
      return unread(error, request, done)
    }
    if (!(session instanceof Promise)) {
      hold(request, session)
      return done()
    }
    const settled = (value: Held): void => {
      hold(request, value)
      done()
    }
    session.then(settled, (error) => unread(error, request, done))
  })
  const unsaved = (error: unknown, done: Done): void => (goesOn(error) ? done() : done(error as Error))
  app.addHook('onSend', (request, reply, _payload, done) => {
    const state = heldBy(request)
    if (state instanceof Unopened && !state.isDue) return done()
    let finished: Later<void>
    try {
      finished = Session.finish(terms, request, reply)
    } catch (error) {
      return unsaved(error, done)
    }
    if (!(finished instanceof Promise)) return done()
    finished.then(
      () => done(),
      (error) => unsaved(error, done),
    )
  })
}
