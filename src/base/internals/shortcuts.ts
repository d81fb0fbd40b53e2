/**
 * Private parts of Node, Fastify and its plugins are used in this folder only, and only where the public way costs
 * several percent of a request. Every shortcut has a public fallback. A switch is set to false when a self-test at
 * boot fails, or by a test that runs a suite on the fallback. Switches are read while an app is built.
 */
export const shortcuts = {
  /** Symbols under which Fastify keeps the route, the reply headers and the servers (`fastify.ts`, `hijack.ts`). */
  fastifySymbols: true,
  /** Static headers written as one text (`header-text.ts`). */
  headerText: true,
  /** Head and body of a response written as one string (`response-body.ts`). */
  responseBody: true,
  /** Hooks of @fastify/helmet and @fastify/cors registered selectively (`captured-hooks.ts`). */
  capturedHooks: true,
}
