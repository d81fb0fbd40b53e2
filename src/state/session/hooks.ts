import type { FastifyInstance, FastifyRequest } from 'fastify'
import { routeOf } from '../../base/internals/fastify.ts'
import { cookiesOf, inPath, timeOf } from './cookie.ts'
import { type Held, heldBy, hold, Unopened } from './held.ts'
import { chain, type Later } from './later.ts'
import { Session } from './session.ts'
import type { Unsigned } from './signer.ts'
import type { Terms } from './terms.ts'

type Done = (error?: Error) => void

/** A probe must answer while Redis does not, whatever cookies come with it. */
function skips(request: FastifyRequest): boolean {
  const { session, probe } = routeOf(request)
  return session === false || probe === true
}

/**
 * The session that a cookie names, else that of another cookie of its name, else a new one.
 *
 * @param tried cookies that name no live session; without it, other cookies are not looked at
 * @throws FLEET_ERR_STATE_UNAVAILABLE
 */
export function open(
  terms: Terms,
  request: FastifyRequest,
  signed: string,
  tried?: readonly string[],
): Later<Session | Unopened> {
  const { valid, value: id, renew } = signed === '' ? none : terms.signer.unsign(signed)
  if (!valid || id === null) return openNext(terms, request, signed, tried)
  return chain(terms.backing.load(id), (loaded) => {
    if (!loaded) return openNext(terms, request, signed, tried)
    const { expires } = loaded.cookie ?? {}
    const isOver = expires ? timeOf(expires) <= Date.now() : false
    if (!isOver) return new Unopened(terms, { id, signed, renew }, loaded)
    return chain(terms.backing.destroy(id, loaded.baseline), () => openNext(terms, request, signed, tried))
  })
}

function openNext(
  terms: Terms,
  request: FastifyRequest,
  signed: string,
  tried?: readonly string[],
): Later<Session | Unopened> {
  if (!tried) return new Session(terms, request)
  const seen = [...tried, signed]
  const next = signedIn(terms, request).find((other) => !seen.includes(other))
  return next === undefined ? new Session(terms, request) : open(terms, request, next, seen)
}

function signedIn({ cookieName, cookiePrefix }: Terms, request: FastifyRequest): string[] {
  return cookiesOf(request, cookieName)
    .filter((cookie) => cookie.startsWith(cookiePrefix))
    .map((cookie) => cookie.slice(cookiePrefix.length))
}

const none: Unsigned = { valid: false, renew: false, value: null }
const noneTried: readonly string[] = []

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
    if (sent === undefined) return new Session(terms, request)
    const signed = sent.startsWith(cookiePrefix) ? sent.slice(cookiePrefix.length) : ''
    return open(terms, request, signed, noneTried)
  }
  const unread = (error: unknown, request: FastifyRequest, done: Done): void => {
    if (goesOn(error)) {
      const ids = signedIn(terms, request).map((signed) => terms.signer.unsign(signed))
      hold(request, Session.detached(terms, request, ids.find(({ valid }) => valid)?.value ?? null))
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
