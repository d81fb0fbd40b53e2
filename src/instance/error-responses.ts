import type { FastifyError, FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

/** Body of the response to a failed request. */
export interface ErrorResponse {
  statusCode: number
  /** `FLEET_ERR_…`, Fastify's `FST_ERR_…`, or the code the application gave its error. */
  code: string
  message: string
  /** Identifies the request in the log. */
  requestId: string
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Convert errors of a lower layer into errors for clients. The first one that returns an error is used. */
    errorTranslators: ((error: unknown) => Error | undefined)[]
  }
}

/** Below 500 the message is for the client. Above, it may name hosts, queries or files, and is only logged. */
function bodyOf(error: FastifyError, request: FastifyRequest): ErrorResponse {
  const statusCode = error.statusCode !== undefined && error.statusCode >= 400 ? error.statusCode : 500
  const ours = error.name === 'FleetError'
  const isPublic = statusCode < 500 || ours
  return {
    statusCode,
    code: isPublic ? (error.code ?? 'FLEET_ERR_REQUEST_INVALID') : 'FLEET_ERR_INTERNAL',
    message: statusCode < 500 ? error.message : ours ? (error.message.split(':', 1)[0] ?? '') : 'Internal server error',
    requestId: request.id,
  }
}

const plugin: FastifyPluginAsync = async (app) => {
  app.decorate('errorTranslators', [])
  app.setErrorHandler((thrown: FastifyError, request, reply): FastifyReply => {
    const translated = app.errorTranslators.map((translate) => translate(thrown)).find((known) => known !== undefined)
    const error = (translated ?? thrown) as FastifyError & { headers?: Record<string, string> }
    const body = bodyOf(error, request)
    if (body.statusCode >= 500) request.log.error({ err: error }, error.message)
    else request.log.info({ err: { code: error.code, message: error.message } }, 'request rejected')
    if (error.headers) reply.headers(error.headers)
    // The route's response schema describes its success and would remove fields of the error.
    return reply.code(body.statusCode).type('application/json; charset=utf-8').serializer(JSON.stringify).send(body)
  })
}

/** Sends every error as JSON with a code, without a stack and without messages of a lower layer. */
export const errorResponses: FastifyPluginAsync = fp(plugin, { name: 'fleet-error-responses', fastify: '5.x' })
export default errorResponses
