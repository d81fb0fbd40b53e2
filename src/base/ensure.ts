import type { FastifyInstance, FastifyPluginAsync, FastifyPluginOptions } from 'fastify'

/** fastify-plugin keeps a plugin's name under this registered symbol, and Fastify's `hasPlugin` compares it. */
const metadata = Symbol.for('plugin-meta')

const nameOf = (plugin: object): string => {
  const name = (plugin as Record<symbol, { readonly name?: string } | undefined>)[metadata]?.name
  if (name === undefined) throw new Error('a required plugin must have a name; wrap it with fastify-plugin')
  return name
}

/**
 * Registers the plugins that a plugin requires, in this order, with their defaults. A plugin that the app or one of its
 * parents has already is skipped. So every plugin works alone as well as in the umbrella plugin, which registers all
 * of them with their options first.
 */
export async function ensure(
  app: FastifyInstance,
  ...plugins: readonly FastifyPluginAsync<FastifyPluginOptions>[]
): Promise<void> {
  for (const plugin of plugins) if (!app.hasPlugin(nameOf(plugin))) await app.register(plugin)
}
