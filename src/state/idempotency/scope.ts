import { hash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import { show } from '../../base/options.ts'
import { clientKey } from '../../instance/client-key.ts'
import { principal, subject } from '../principal.ts'

/** The caller that an `Idempotency-Key` belongs to. */
export interface CallerScope {
  /** What identifies the caller, strongest first. `custom`: the option `scope`. */
  readonly by: 'custom' | 'user' | 'credentials' | 'client'
  readonly id: string
  /** Whose `maxKeys` the record counts against: the user or the client. Unverified credentials do not count. */
  readonly owner: string
  /** The session that the request came with. */
  readonly session: string | undefined
}

export interface ScopeOptions {
  readonly scope?: (request: FastifyRequest) => string
  readonly credentialHeaders: readonly string[]
}

/** Headers that identify callers; the option `credentialHeaders` adds others. */
const wellKnown = ['authorization', 'x-api-key'] as const

/** @throws FLEET_ERR_OPTION_INVALID if the option `scope` returns anything but a non-empty string */
export function scopeOf(request: FastifyRequest, options: ScopeOptions): CallerScope {
  const session = sentSession(request)
  const known = callerScope(request, options, principal(request), session)
  if (!options.scope) return known
  const id: unknown = options.scope(request)
  if (typeof id === 'string' && id !== '') return { ...known, by: 'custom', id }
  const message = `\`idempotency.scope\` must return a non-empty string, but it returned ${show(id)}`
  throw new FleetError('FLEET_ERR_OPTION_INVALID', message)
}

/**
 * The other scopes in which a repetition of the request may arrive. A request that logs in, logs out or starts a session is
 * repeated with the session that it started, or with the one that it ended.
 */
export function laterScopes(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ScopeOptions,
  first: CallerScope,
): CallerScope[] {
  if (first.by === 'custom') return []
  const started = startedSession(request, reply)
  const current = sessionId(request)
  const isOver = first.session !== undefined && current !== first.session
  const later = [callerScope(request, options, principal(request), started ?? (isOver ? undefined : first.session))]
  if (isOver) later.push(callerScope(request, options, subject(request), undefined))
  // Without user and credentials, the scope of a client does not change.
  return later.filter(({ id, by }) => id !== first.id && !(by === 'client' && first.by === 'client'))
}

/**
 * The user; else the credentials sent, with the session in place of its cookies; else the client. Other cookies do not identify
 * a caller, because many clients may have the same ones. They only separate clients with the same address.
 */
function callerScope(
  request: FastifyRequest,
  { credentialHeaders }: ScopeOptions,
  user: string | undefined,
  session: string | undefined,
): CallerScope {
  const owner = user === undefined ? `client ${clientKey(request)}` : `user ${user}`
  if (user !== undefined) return { by: 'user', id: owner, owner, session }
  const credentials: unknown[] = [...wellKnown, ...credentialHeaders].map((name) => header(request, name))
  credentials.push(session ?? null)
  const cookie = session === undefined ? header(request, 'cookie') : null
  if (credentials.some((value) => value !== null))
    return { by: 'credentials', id: `credentials ${digest([...credentials, cookie])}`, owner, session }
  return { by: 'client', id: cookie === null ? owner : `${owner} ${digest([cookie])}`, owner, session }
}

const header = ({ headers }: FastifyRequest, name: string): string | null =>
  (Object.hasOwn(headers, name) && headers[name]?.toString()) || null

const digest = (values: unknown[]): string => hash('sha256', JSON.stringify(values), 'base64url')

/** A shorter id could occur in another cookie by chance. */
const minSessionId = 16

function sessionId(request: FastifyRequest): string | undefined {
  const id: unknown = (request as { session?: { sessionId?: unknown } | null }).session?.sessionId
  return typeof id === 'string' && id.length >= minSessionId ? id : undefined
}

/** The session that the request's cookie names. A new session has another id, e.g. after a forged or expired cookie. */
function sentSession(request: FastifyRequest): string | undefined {
  const { cookie } = request.headers
  if (cookie === undefined) return undefined
  const id = sessionId(request)
  return id !== undefined && decode(cookie).includes(id) ? id : undefined
}

/** The session that the response starts, by a cookie that the request did not have. */
export function startedSession(request: FastifyRequest, reply: FastifyReply): string | undefined {
  const cookies = reply.getHeader('set-cookie')
  if (cookies === undefined || sentSession(request) !== undefined) return undefined
  const id = sessionId(request)
  return id !== undefined && decode([cookies].flat().join('\n')).includes(id) ? id : undefined
}

function decode(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
}
