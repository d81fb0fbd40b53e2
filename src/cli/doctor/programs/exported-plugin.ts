import { realpathSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'

type Exports = Readonly<Record<string, unknown>>

/** The exports of the main module of this process, once it has run: it is loaded already. */
export const mainModule = async (): Promise<Exports> =>
  (await import(pathToFileURL(realpathSync(process.argv[1] ?? '')).href)) as Exports

/**
 * An app with the plugin that the main module exports, as `fastify start --options` of fastify-cli makes it; `undefined` if it exports
 * no function. What the plugin decorates is visible in the app itself.
 */
export async function appOf(main: () => Promise<Exports>): Promise<FastifyInstance | undefined> {
  const exported = await main()
  // The default export of a CommonJS module is `module.exports`, which may have been compiled from an ES module.
  const { default: given } = exported
  const plugin = typeof given === 'function' ? given : (given as Exports | null | undefined)?.default
  if (typeof plugin !== 'function') return undefined
  const options = (plugin as { options?: object }).options ?? (exported.options as object | undefined) ?? {}
  const { default: create } = (await import(fastifyOf(process.argv[1] ?? ''))) as typeof import('fastify')
  const app = create(options)
  app.register(fp(plugin as FastifyPluginAsync), options)
  return app
}

/** The Fastify of the app; that of fleet where only fastify-cli has one. */
function fastifyOf(file: string): string {
  try {
    return pathToFileURL(createRequire(realpathSync(file)).resolve('fastify')).href
  } catch {
    return 'fastify'
  }
}
