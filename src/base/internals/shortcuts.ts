/**
 * Private parts of Node, Fastify and its plugins are used in this folder only, and only where the public way costs
 * at least five percent of a request's CPU time. Every shortcut has a public fallback. A switch is set to false when a self-test at
 * boot fails, or by a test that runs a suite on the fallback. Switches are read while an app is built.
 */
export const shortcuts = {
  /** Symbols under which Fastify keeps the reply headers, the reply's class and the servers (`fastify.ts`, `hijack.ts`). */
  fastifySymbols: true,
  /** Static headers written as one text (`header-text.ts`). */
  headerText: true,
  /** A constant response written as one string (`constant-response.ts`). */
  constantResponse: true,
  /** A response head of an upstream forwarded as text (`plain-head.ts`). */
  plainHead: true,
  /** Hooks of @fastify/helmet run once instead of per request (`helmet-hooks.ts`). */
  helmetHooks: true,
  /** One time limit for the commands of a Redis connection (`ioredis.ts`). */
  redisDeadlines: true,
}
