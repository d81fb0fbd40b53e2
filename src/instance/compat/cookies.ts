import type { CookieSerializeOptions } from '@fastify/cookie'
import type { FastifyReply, FastifyRequest } from 'fastify'

/** The first cookie of a name, also before the app's own @fastify/cookie has parsed the cookies. */
export function cookieOf(request: FastifyRequest, name: string): string | undefined {
  const cookies = request.cookies as FastifyRequest['cookies'] | null
  if (cookies !== null) return cookies[name]
  const { cookie } = request.headers
  return cookie === undefined ? undefined : request.server.parseCookie(cookie)[name]
}

/**
 * Sets a cookie in `onSend`. If the app's own @fastify/cookie has not parsed the cookies by then (`hook: false`), its `onSend`
 * hook may have run without any cookie, and would not be called again.
 */
export function sendCookie(reply: FastifyReply, name: string, value: string, options: CookieSerializeOptions): void {
  const { request, server } = reply
  if ((request.cookies as FastifyRequest['cookies'] | null) !== null) {
    reply.setCookie(name, value, options)
    return
  }
  const secure = options.secure === 'auto' ? request.protocol === 'https' : options.secure === true
  reply.header('set-cookie', server.serializeCookie(name, value, { sameSite: 'lax', ...options, secure }))
}
