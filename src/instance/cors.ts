import cors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { routeOf } from '../base/internals/fastify.ts'

type Hook = (request: FastifyRequest, reply: FastifyReply, done: () => void) => void
type Cors = (app: FastifyInstance, options: FastifyCorsOptions, done: (error?: Error) => void) => void

const plugin: FastifyPluginAsync<FastifyCorsOptions> = async (app, options) => {
  const { origin, delegator, hook = 'onRequest' } = options
  if (origin !== false || delegator || hook !== 'onRequest') {
    await app.register(cors, options)
    return
  }
  const addHook = (name: 'onRequest', hook: Hook): void => {
    app.addHook(name, (request, reply, done) => {
      if ((routeOf(request) as { cors?: unknown }).cors === undefined) done()
      else hook(request, reply, done)
    })
  }
  const host = Object.create(app, {
    addHook: { value: addHook },
    decorateRequest: { value: app.decorateRequest.bind(app) },
    options: { value: app.options.bind(app) },
  })
  await new Promise<void>((resolve, reject) => {
    ;(cors as unknown as Cors)(host, options, (error) => (error ? reject(error) : resolve()))
  })
}

/**
 * @fastify/cors, with its options for all and for single routes. Where browsers of other origins are not let in, which is
 * the default, it looks at every request only to do nothing; here it sees those whose route has options of its own.
 */
export const crossOrigin: FastifyPluginAsync<FastifyCorsOptions> = fp(plugin, { name: 'fleet-cors', fastify: '5.x' })
