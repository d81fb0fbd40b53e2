import type { FastifyInstance, FastifySchema, FastifySchemaCompiler } from 'fastify'

/** Validates the input that these routes share: the id of an instance, in a query or body. Handlers validate the rest. */
const validatorCompiler: FastifySchemaCompiler<FastifySchema> = ({ schema }) => {
  const { required } = schema as { required?: readonly string[] }
  return (data: unknown) => {
    const { instance } = (data ?? {}) as { instance?: unknown }
    const isName = typeof instance === 'string' && instance.length >= 1 && instance.length <= 128
    if (isName || (instance === undefined && !required?.includes('instance'))) return { value: data }
    return { error: new Error('`instance` must be the id of an instance, 1 to 128 characters') }
  }
}

/** `summary`, `tags` and `hide` are those of @fastify/swagger, whose types may not be installed. */
type DocumentedSchema = FastifySchema & { summary?: string; tags?: readonly string[]; hide?: boolean }

/**
 * Options of all routes of this package. The schema only documents a route; handlers build responses that need no filter.
 * Compiled by Fastify, the schemas would take 1.2 MB of memory. `hide` keeps them out of an application's @fastify/swagger.
 */
export const ownRoute = (schema: DocumentedSchema = {}) =>
  ({
    validatorCompiler,
    serializerCompiler: (): typeof JSON.stringify => JSON.stringify,
    schema: { ...schema, hide: true } as DocumentedSchema,
  }) as const

/** These requests are frequent and must be served by a busy process. @fastify/otel traces none of them. */
const common = { rateLimit: false, probe: true, otel: false } as const
/** `config` of probes, which are public. */
export const probeConfig = { ...common, audience: 'probes' } as const
/** `config` of routes for operators. */
export const operatorsConfig = { ...common, audience: 'operators' } as const

/** Larger than any body that these routes accept. */
const bodyLimit = 4_096

/**
 * Accepts small JSON bodies in this scope. The body may be empty, because the content type alone proves that no form of
 * another site sent the request.
 */
export function acceptSmallJson(scope: FastifyInstance): void {
  const parse = scope.getDefaultJsonParser('error', 'error')
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/json', { parseAs: 'string', bodyLimit }, (request, body, done) => {
    if (body === '') done(null, undefined)
    else parse(request, body as string, done)
  })
}
