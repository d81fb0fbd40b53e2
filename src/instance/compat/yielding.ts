import type { Decorated } from '../../base/internals/decorators.ts'

/** Decorators that give way, and what the app registered instead. */
export const yielding: Readonly<Record<Decorated, ReadonlyMap<string, string>>> = {
  instance: new Map([
    ['authenticate', 'app.authenticate'],
    ['redis', 'app.redis'],
    ['decryptSession', 'request.session'],
    ['createRateLimit', '@fastify/rate-limit'],
    ['rateLimit', '@fastify/rate-limit'],
    ['parseCookie', '@fastify/cookie'],
    ['serializeCookie', '@fastify/cookie'],
    ['signCookie', '@fastify/cookie'],
    ['unsignCookie', '@fastify/cookie'],
  ]),
  request: new Map([
    ['user', 'request.user'],
    ['session', 'request.session'],
    ['sessionStore', 'request.session'],
    ['cookies', '@fastify/cookie'],
    ['corsPreflightEnabled', '@fastify/cors'],
  ]),
  reply: new Map([
    ['helmet', '@fastify/helmet'],
    ['cspNonce', '@fastify/helmet'],
    ['cookie', '@fastify/cookie'],
    ['setCookie', '@fastify/cookie'],
    ['clearCookie', '@fastify/cookie'],
  ]),
}

/** Options of fleet for what gives way. If one is set, there are two configurations, and none of them is dropped silently. */
export const optionOf: Readonly<Record<string, string | undefined>> = {
  '@fastify/cors': 'cors',
  '@fastify/helmet': 'helmet',
  '@fastify/rate-limit': 'rateLimit',
  'request.session': 'session',
}

/** What the app may register in place of a plugin of fleet. */
export const replacing = (option: string): string | undefined =>
  Object.keys(optionOf).find((what) => optionOf[what] === option)

/** Plugins that add these decorators only where they are missing. Ours are reported as missing, so that they add theirs. */
export const addedIfMissing: ReadonlySet<string> = new Set(['helmet', 'cspNonce', 'createRateLimit', 'rateLimit'])

export const methods = { instance: 'decorate', request: 'decorateRequest', reply: 'decorateReply' } as const
export const checks = { instance: 'hasDecorator', request: 'hasRequestDecorator', reply: 'hasReplyDecorator' } as const
export const kinds = ['instance', 'request', 'reply'] as const
export const places = { instance: 'app', request: 'request', reply: 'reply' } as const
