import type { FastifyError, FastifyPluginAsync, FastifyReply } from 'fastify'
import { bool, type OptionsOf, resolveOptions } from '../base/options.ts'
import { fleetPlugin } from './compat/index.ts'

/** @internal */
export const errorResponsesOptions = {
  /** Respond to errors of fleet and its database only; Fastify responds to the others. */
  onlyFleet: bool.default(false),
}
export type ErrorResponsesOptions = OptionsOf<typeof errorResponsesOptions>

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

type Thrown = Partial<FastifyError> & { readonly status?: unknown; readonly headers?: Record<string, string> }

const isFailure = (status: number): boolean => status >= 400 && status <= 599

/** The status as Fastify's own handler chooses it: of the error, else of the reply, else 500. */
const statusOf = ({ statusCode, status }: Thrown, reply: FastifyReply): number =>
  [statusCode, status, reply.statusCode].map(Number).find(isFailure) ?? 500

/** Below 500 the message is for the client. Above, it may name hosts, queries or files, and is only logged. */
function bodyOf(error: Error & Thrown, statusCode: number, requestId: string): ErrorResponse {
  const ours = error.name === 'FleetError'
  const isPublic = statusCode < 500 || ours
  return {
    statusCode,
    code: isPublic ? (error.code ?? 'FLEET_ERR_REQUEST_INVALID') : 'FLEET_ERR_INTERNAL',
    message: statusCode < 500 ? error.message : ours ? (error.message.split(':', 1)[0] ?? '') : 'Internal server error',
    requestId,
  }
}

const plugin: FastifyPluginAsync<ErrorResponsesOptions> = async (app, given) => {
  const { onlyFleet } = resolveOptions('errorResponses', errorResponsesOptions, given)
  app.decorate('errorTranslators', [])
  app.setErrorHandler((thrown: unknown, request, reply): FastifyReply => {
    const translated = app.errorTranslators.map((translate) => translate(thrown)).find((known) => known !== undefined)
    const error = (translated ?? thrown) as (Error & Thrown) | null | undefined
    // Fastify's own handler is next.
    if (onlyFleet && error instanceof Error && error.name !== 'FleetError') return reply.send(error)
    const statusCode = statusOf(error ?? {}, reply)
    if (statusCode >= 500) request.log.error({ err: error }, error?.message)
    else request.log.info({ err: { code: error?.code, message: error?.message } }, 'request rejected')
    reply.code(statusCode)
    if (error?.headers) reply.headers(error.headers)
    // The application chose the whole body, as an `errorResponseBuilder` does.
    if (!(error instanceof Error)) return reply.send(error)
    // The route's response schema describes its success and would remove fields of the error.
    const body = bodyOf(error, statusCode, request.id)
    return reply.type('application/json; charset=utf-8').serializer(JSON.stringify).send(body)
  })
}

/** Sends every error as JSON with a code, without a stack and without messages of a lower layer. */
export const errorResponses: FastifyPluginAsync<ErrorResponsesOptions> = fleetPlugin('errorResponses', plugin)
export default errorResponses
