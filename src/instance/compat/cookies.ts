import type { FastifyRequest } from 'fastify'

/** The first cookie of a name, also before the app's own @fastify/cookie has parsed the cookies. */
export function cookieOf(request: FastifyRequest, name: string): string | undefined {
  const cookies = request.cookies as FastifyRequest['cookies'] | null
  if (cookies !== null) return cookies[name]
  const { cookie } = request.headers
  return cookie === undefined ? undefined : request.server.parseCookie(cookie)[name]
}
