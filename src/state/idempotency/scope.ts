import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { FleetError } from '../../base/errors.ts'
import { show } from '../../base/options.ts'
import { clientKey } from '../../instance/client-key.ts'
import { principal } from '../principal.ts'

/** Whose key an `Idempotency-Key` is. */
export interface Scope {
  /** What tells the caller from others: surest first. `custom`: the option `scope`. */
  readonly by: 'custom' | 'user' | 'credentials' | 'client'
  readonly id: string
  /** Who pays for the record: the user, or the client, because credentials may be made up. */
  readonly owner: string
}

export interface ScopeOptions {
  readonly scope?: (request: FastifyRequest) => string
  readonly credentialHeaders: readonly string[]
}

/** Headers by which callers identify themselves; the option `credentialHeaders` adds others. */
const wellKnown = ['authorization', 'x-api-key'] as const

/**
 * The authenticated user; else the credentials that were sent, of which the cookie of the session stands for all cookies;
 * else the client.
 *
 * @param cookie value of the session's cookie, if it is not the one that the request came with
 * @throws FLEET_ERR_OPTION_INVALID if the option `scope` returns anything but a non-empty string
 */
export function scopeOf(request: FastifyRequest, { scope, credentialHeaders }: ScopeOptions, cookie?: string): Scope {
  const user = principal(request)
  const client = user === undefined ? clientKey(request) : ''
  const owner = user === undefined ? `client ${client}` : `user ${user}`
  if (scope) {
    const id: unknown = scope(request)
    if (typeof id === 'string' && id !== '') return { by: 'custom', id, owner }
    const message = `\`idempotency.scope\` must return a non-empty string, but it returned ${show(id)}`
    throw new FleetError('FLEET_ERR_OPTION_INVALID', message)
  }
  if (user !== undefined) return { by: 'user', id: owner, owner }
  const { headers } = request
  const session = cookie ?? sessionCookie(request)
  const credentials = [...wellKnown, ...credentialHeaders].map((name) => headers[name] || null)
  credentials.push(session === undefined ? headers.cookie || null : [session])
  if (credentials.every((value) => value === null)) return { by: 'client', id: owner, owner }
  const hash = createHash('sha256').update(JSON.stringify(credentials)).digest('base64url')
  return { by: 'credentials', id: `credentials ${hash}`, owner }
}

const cookieName = ({ server }: FastifyRequest): string | undefined =>
  (server.fleet.configuration.session as { cookieName?: string } | undefined)?.cookieName

function sessionCookie(request: FastifyRequest): string | undefined {
  const name = cookieName(request)
  return (name !== undefined && request.cookies?.[name]) || undefined
}

/** The value of the session's cookie that a response gives its client, if that is another one than the request had. */
export function newSessionCookie(request: FastifyRequest, reply: FastifyReply): string | undefined {
  const name = cookieName(request)
  const lines = [reply.getHeader('set-cookie') ?? []].flat().map(String)
  const line = name === undefined ? undefined : lines.findLast((each) => each.startsWith(`${name}=`))
  if (name === undefined || line === undefined) return undefined
  const value = decode(line.slice(name.length + 1).split(';', 1)[0] as string)
  return value === '' || value === sessionCookie(request) ? undefined : value
}

function decode(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}
