import type { FastifyError, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

/** What a client reads when a request fails. */
export interface ErrorAnswer {
  statusCode: number
  /** `FLEET_ERR_…`, Fastify's `FST_ERR_…`, or the code the application gave its error. */
  code: string
  message: string
  /** For whoever reads the logs. */
  requestId: string
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Turn errors of a lower layer into ones that a client may see; the first that knows an error decides. */
    errorTranslators: ((error: unknown) => Error | undefined)[]
  }
}

/** Below 500 the text is meant for the client. Above, it may name hosts, queries or files, and stays in the log. */
function answer(error: FastifyError, request: FastifyRequest): ErrorAnswer {
  const statusCode = error.statusCode !== undefined && error.statusCode >= 400 ? error.statusCode : 500
  const ours = error.name === 'FleetError'
  const open = statusCode < 500 || ours
  return {
    statusCode,
    code: open ? (error.code ?? 'FLEET_ERR_REQUEST_INVALID') : 'FLEET_ERR_INTERNAL',
    message: statusCode < 500 ? error.message : ours ? (error.message.split(':', 1)[0] ?? '') : 'Internal server error',
    requestId: request.id,
  }
}

const plugin: FastifyPluginAsync = async (app) => {
  app.decorate('errorTranslators', [])
  app.setErrorHandler((thrown: FastifyError, request, reply): FastifyReply => {
    const translated = app.errorTranslators.map((translate) => translate(thrown)).find((known) => known !== undefined)
    const error = (translated ?? thrown) as FastifyError & { headers?: Record<string, string> }
    const body = answer(error, request)
    if (body.statusCode >= 500) request.log.error({ err: error }, error.message)
    else request.log.info({ err: { code: error.code, message: error.message } }, 'request refused')
    if (error.headers) reply.headers(error.headers)
    // A response schema of the route describes its success; an error must not be cut to that shape.
    return reply.code(body.statusCode).type('application/json; charset=utf-8').serializer(JSON.stringify).send(body)
  })
}

/** Answers every error as JSON with a code, and none with a stack or the text of a lower layer. */
export const errorAnswers: FastifyPluginAsync = fp(plugin, { name: 'fleet-error-answers', fastify: '5.x' })
export default errorAnswers
