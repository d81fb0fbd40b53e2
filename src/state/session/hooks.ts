import type { FastifyInstance, FastifyRequest } from 'fastify'
import { chain, type MaybePromise } from '../../base/maybe-promise.ts'
import { cookieOf } from '../../instance/compat/cookies.ts'
import { replacedIn } from '../../instance/compat/index.ts'
import { cookiesOf, inPath, isTouchDue, timeOf } from './cookie.ts'
import type { SessionContext } from './options.ts'
import type { SessionRecord } from './record.ts'
import { Session } from './session.ts'
import type { Unsigned, VerifiedCookie } from './signer.ts'

/** A session that the handler has not used yet. The first access to `request.session` replaces it by a `Session`. */
export class LazySession {
  readonly #context: SessionContext
  readonly #verified: VerifiedCookie | undefined
  readonly #record: SessionRecord | undefined

  /** Without a record, a new session. */
  constructor(context: SessionContext, verified?: VerifiedCookie, record?: SessionRecord) {
    this.#context = context
    this.#verified = verified
    this.#record = record
  }

  /** Whether the session must be saved, or its cookie sent, although the handler has not used it. */
  get needsFinish(): boolean {
    if (!this.#record) return false
    const context = this.#context
    return context.rolling || this.#verified?.renew === true || isTouchDue(this.#record.cookie ?? {}, context)
  }

  open(request: FastifyRequest): Session {
    return new Session(this.#context, request, this.#verified, this.#record)
  }
}

/** The value behind `request.session`; `{}` for routes without a session, `null` once it was destroyed. */
type SessionState = Session | LazySession | object | null

const key = Symbol('fleet.session')
type WithState = { [key]: SessionState }

function setState(request: FastifyRequest, state: SessionState): void {
  ;(request as unknown as WithState)[key] = state
}

const stateOf = (request: FastifyRequest): SessionState => (request as unknown as WithState)[key]

type Done = (error?: Error) => void

/** Probes must be served while Redis is down, whatever cookies they carry. */
function hasNoSession(request: FastifyRequest): boolean {
  const { session, probe } = request.routeOptions.config
  return session === false || probe === true
}

const unverified: Unsigned = { valid: false, renew: false, value: null }
const noneTried: readonly string[] = []
/** Most cookies of one request that are tried: the first one, and others with a valid signature. */
const maxTried = 5

/**
 * The session of a signed cookie. If it names no live session, other cookies of its name are tried, then a new session
 * is returned.
 *
 * @param tried cookies that name no live session; `undefined`: try no other cookies
 * @throws FLEET_ERR_STATE_UNAVAILABLE
 */
export function open(
  context: SessionContext,
  request: FastifyRequest,
  signed: string,
  tried?: readonly string[],
): MaybePromise<Session | LazySession> {
  const { valid, value: id, renew } = signed === '' ? unverified : context.signer.unsign(signed)
  if (!valid || id === null) return tryNextCookie(context, request, signed, tried)
  return chain(context.backend.load(id), (record) => {
    if (!record) return tryNextCookie(context, request, signed, tried)
    const { expires } = record.cookie ?? {}
    const isExpired = expires ? timeOf(expires) <= Date.now() : false
    if (!isExpired) return new LazySession(context, { id, signed, renew }, record)
    return chain(context.backend.destroy(id, record.baseline), () => tryNextCookie(context, request, signed, tried))
  })
}

function tryNextCookie(
  context: SessionContext,
  request: FastifyRequest,
  signed: string,
  tried?: readonly string[],
): MaybePromise<Session | LazySession> {
  if (!tried) return new Session(context, request)
  const seen = [...tried, signed]
  if (seen.length === maxTried) return new Session(context, request)
  const isNext = (other: string): boolean => !seen.includes(other) && context.signer.unsign(other).valid
  const next = signedCookies(context, request).find(isNext)
  return next === undefined ? new Session(context, request) : open(context, request, next, seen)
}

function signedCookies({ cookieName, cookiePrefix }: SessionContext, request: FastifyRequest): string[] {
  return cookiesOf(request, cookieName)
    .filter((cookie) => cookie.startsWith(cookiePrefix))
    .map((cookie) => cookie.slice(cookiePrefix.length))
}

/**
 * Decorates `request.session`, loads the session of each request in `onRequest` and saves it in `onSend`. The synchronous path creates no closure,
 * because the hooks run for every request of the app.
 *
 * @param tolerateOutage whether a request continues without its session after this error
 */
export function addHooks(
  app: FastifyInstance,
  context: SessionContext,
  tolerateOutage: (error: unknown, request: FastifyRequest) => boolean,
): void {
  const isReplaced = replacedIn(app, 'request.session')
  const { cookieName, cookiePrefix } = context
  const path = context.cookie.path as string
  const newSession = new LazySession(context)

  app.decorateRequest(key, null)
  app.decorateRequest('session', {
    getter(): object | null {
      const state = stateOf(this)
      if (!(state instanceof LazySession)) return state
      const session = state.open(this)
      setState(this, session)
      return session
    },
    setter(session: object | null) {
      setState(this, session)
    },
  } as never)

  const load = (request: FastifyRequest): MaybePromise<SessionState> => {
    if (!inPath(request, path) || hasNoSession(request)) return {}
    const sent = cookieOf(request, cookieName)
    if (sent === undefined && !context.saveUninitialized) return newSession
    if (sent === undefined) return new Session(context, request)
    const signed = sent.startsWith(cookiePrefix) ? sent.slice(cookiePrefix.length) : ''
    return open(context, request, signed, noneTried)
  }
  const loadFailed = (error: unknown, request: FastifyRequest, done: Done): void => {
    if (!tolerateOutage(error, request)) {
      done(error as Error)
      return
    }
    const ids = signedCookies(context, request).map((signed) => context.signer.unsign(signed))
    setState(request, Session.detached(context, request, ids.find(({ valid }) => valid)?.value ?? null))
    done()
  }
  app.addHook('onRequest', (request, _reply, done) => {
    if (isReplaced(request)) return done()
    let session: MaybePromise<SessionState>
    try {
      session = load(request)
    } catch (error) {
      return loadFailed(error, request, done)
    }
    if (!(session instanceof Promise)) {
      setState(request, session)
      return done()
    }
    const loaded = (state: SessionState): void => {
      setState(request, state)
      done()
    }
    session.then(loaded, (error) => loadFailed(error, request, done))
  })

  const saveFailed = (error: unknown, request: FastifyRequest, done: Done): void =>
    tolerateOutage(error, request) ? done() : done(error as Error)
  app.addHook('onSend', (request, reply, _payload, done) => {
    if (isReplaced(request)) return done()
    const state = stateOf(request)
    if (state instanceof LazySession && !state.needsFinish) return done()
    let saved: MaybePromise<void>
    try {
      saved = Session.finish(context, request, reply)
    } catch (error) {
      return saveFailed(error, request, done)
    }
    if (!(saved instanceof Promise)) return done()
    saved.then(
      () => done(),
      (error) => saveFailed(error, request, done),
    )
  })
}
