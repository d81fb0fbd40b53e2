import cors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { runWith } from '../base/internals/captured-hooks.ts'
import { routeOf } from '../base/internals/fastify.ts'
import { shortcuts } from '../base/internals/shortcuts.ts'

type Hook = (request: FastifyRequest, reply: FastifyReply, done: () => void) => void

const plugin: FastifyPluginAsync<FastifyCorsOptions> = async (app, options) => {
  const { origin, delegator, hook = 'onRequest' } = options
  if (!shortcuts.capturedHooks || origin !== false || delegator || hook !== 'onRequest') {
    await app.register(cors, options)
    return
  }
  await runWith(cors, app, options, {
    addHook(name: 'onRequest', hook: Hook) {
      app.addHook(name, (request, reply, done) => {
        if ((routeOf(request) as { cors?: unknown }).cors === undefined) done()
        else hook(request, reply, done)
      })
    },
  })
}

/**
 * @fastify/cors, with its options for all routes and for single routes. With `origin: false`, the default, its hook runs
 * for every request without an effect; here it runs only for routes with options of their own.
 */
export const crossOrigin: FastifyPluginAsync<FastifyCorsOptions> = fp(plugin, { name: 'fleet-cors', fastify: '5.x' })
