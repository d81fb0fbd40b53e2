// Touches: the hooks that @fastify/helmet and @fastify/cors register, by passing them an app with another `addHook`.
// Seen in: @fastify/helmet 13.0 to 13.2, @fastify/cors 11.0 to 11.4.
// Worth: both run for every request, although their result is the same for all requests of most applications.
// Fallback: the plugin is registered unchanged; the caller selects it when the hooks are not the expected ones.

import type { FastifyInstance } from 'fastify'

type AnyPlugin = (app: FastifyInstance, options: never, done: (error?: Error) => void) => unknown

/**
 * Runs a plugin with an app whose members in `replaced` are others, so that its hooks can be kept instead of added.
 *
 * @throws what the plugin rejects with
 */
export async function runWith(
  plugin: unknown,
  app: FastifyInstance,
  options: object,
  replaced: Readonly<Record<string, unknown>>,
): Promise<void> {
  // Methods are called on the copy, so those that check `this` are bound to the app.
  const host = Object.create(app, {
    decorateRequest: { value: app.decorateRequest.bind(app) },
    decorateReply: { value: app.decorateReply.bind(app) },
    options: { value: app.options.bind(app) },
    ...Object.fromEntries(Object.entries(replaced).map(([name, value]) => [name, { value }])),
  }) as FastifyInstance
  const run = plugin as AnyPlugin
  await new Promise<void>((resolve, reject) => {
    const result = run(host, options as never, (error) => (error ? reject(error) : resolve()))
    // A plugin returns a promise or calls back.
    if (run.length < 3) Promise.resolve(result).then(() => resolve(), reject)
  })
}
