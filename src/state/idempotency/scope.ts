import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import { show } from '../../base/options.ts'
import { clientKey } from '../../instance/client-key.ts'
import { principal, subject } from '../principal.ts'

/** Whose key an `Idempotency-Key` is. */
export interface Scope {
  /** What tells the caller from others: surest first. `custom`: the option `scope`. */
  readonly by: 'custom' | 'user' | 'credentials' | 'client'
  readonly id: string
  /** Whom the record counts for: the user, or the client, because credentials may be made up. */
  readonly owner: string
  /** The session that the request came with. */
  readonly session: string | undefined
}

export interface ScopeOptions {
  readonly scope?: (request: FastifyRequest) => string
  readonly credentialHeaders: readonly string[]
}

/** Headers by which callers identify themselves; the option `credentialHeaders` adds others. */
const wellKnown = ['authorization', 'x-api-key'] as const

/** @throws FLEET_ERR_OPTION_INVALID if the option `scope` returns anything but a non-empty string */
export function scopeOf(request: FastifyRequest, options: ScopeOptions): Scope {
  const session = sentSession(request)
  const known = knownAs(request, options, principal(request), session)
  if (!options.scope) return known
  const id: unknown = options.scope(request)
  if (typeof id === 'string' && id !== '') return { ...known, by: 'custom', id }
  const message = `\`idempotency.scope\` must return a non-empty string, but it returned ${show(id)}`
  throw new FleetError('FLEET_ERR_OPTION_INVALID', message)
}

/**
 * The other scopes in which the request will be known when it is repeated: a request that logs in, logs out or gets a
 * session is repeated with the session that it got, or with the one that it ended.
 */
export function laterScopes(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ScopeOptions,
  first: Scope,
): Scope[] {
  if (first.by === 'custom') return []
  const started = startedSession(request, reply)
  const current = sessionId(request)
  const isOver = first.session !== undefined && current !== first.session
  const later = [knownAs(request, options, principal(request), started ?? (isOver ? undefined : first.session))]
  if (isOver) later.push(knownAs(request, options, subject(request), undefined))
  // A client alone becomes no one else by what it did.
  return later.filter(({ id, by }) => id !== first.id && !(by === 'client' && first.by === 'client'))
}

/**
 * The user; else the credentials that were sent, of which a session stands for all cookies; else the client. Cookies that
 * are no session are no proof of anything, because many clients may have the same; they only tell clients apart further.
 */
function knownAs(
  request: FastifyRequest,
  { credentialHeaders }: ScopeOptions,
  user: string | undefined,
  session: string | undefined,
): Scope {
  const owner = user === undefined ? `client ${clientKey(request)}` : `user ${user}`
  if (user !== undefined) return { by: 'user', id: owner, owner, session }
  const credentials: unknown[] = [...wellKnown, ...credentialHeaders].map((name) => header(request, name))
  credentials.push(session ?? null)
  const cookie = session === undefined ? header(request, 'cookie') : null
  if (credentials.some((value) => value !== null))
    return { by: 'credentials', id: `credentials ${hash([...credentials, cookie])}`, owner, session }
  return { by: 'client', id: cookie === null ? owner : `${owner} ${hash([cookie])}`, owner, session }
}

const header = ({ headers }: FastifyRequest, name: string): string | null =>
  (Object.hasOwn(headers, name) && headers[name]?.toString()) || null

const hash = (values: unknown[]): string => createHash('sha256').update(JSON.stringify(values)).digest('base64url')

/** Shorter ids could be part of another cookie by chance. */
const minSessionId = 16

function sessionId(request: FastifyRequest): string | undefined {
  const id: unknown = (request as { session?: { sessionId?: unknown } | null }).session?.sessionId
  return typeof id === 'string' && id.length >= minSessionId ? id : undefined
}

/** A session that its cookie does not name is a new one, also where the cookie was forged or its session has ended. */
function sentSession(request: FastifyRequest): string | undefined {
  const { cookie } = request.headers
  if (cookie === undefined) return undefined
  const id = sessionId(request)
  return id !== undefined && decode(cookie).includes(id) ? id : undefined
}

/** The session that the response gives to its client by a cookie that it did not have. */
export function startedSession(request: FastifyRequest, reply: FastifyReply): string | undefined {
  const cookies = reply.getHeader('set-cookie')
  if (cookies === undefined || sentSession(request) !== undefined) return undefined
  const id = sessionId(request)
  return id !== undefined && decode([cookies].flat().join('\n')).includes(id) ? id : undefined
}

function decode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
}
