import type { FastifyInstance, FastifySchema, FastifySchemaCompiler } from 'fastify'

/** All that these routes take: the id of an instance, in a query or a body. */
const validatorCompiler: FastifySchemaCompiler<FastifySchema> = ({ schema }) => {
  const { required } = schema as { required?: readonly string[] }
  return (data: unknown) => {
    const { instance } = (data ?? {}) as { instance?: unknown }
    const isName = typeof instance === 'string' && instance.length >= 1 && instance.length <= 128
    if (isName || (instance === undefined && !required)) return { value: data }
    return { error: new Error('`instance` must be the id of an instance, 1 to 128 characters') }
  }
}

/**
 * For each route that comes with this package. Their schemas are for readers, such as @fastify/swagger: what they answer
 * is put together in their handlers, and needs no filter. Compiled by Fastify, they take 1.2 MB of every process.
 */
export const ownRoute = { validatorCompiler, serializerCompiler: (): typeof JSON.stringify => JSON.stringify } as const

/** Requests of these routes come often and from machines, and must be answered by a process that is busy. */
const served = { rateLimit: false, probe: true } as const
/** `config` of probes, which everyone may use. */
export const probeConfig = { ...served, audience: 'probes' } as const
/** `config` of routes for operators. */
export const operatorsConfig = { ...served, audience: 'operators' } as const

/** Longer than any body that these routes take. */
const bodyLimit = 4_096

/**
 * The bodies that operators' routes of this scope take: JSON, which may be missing, because its content type alone is what
 * proves that no form of another site sent the request.
 */
export function takeSmallJson(scope: FastifyInstance): void {
  const parse = scope.getDefaultJsonParser('error', 'error')
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/json', { parseAs: 'string', bodyLimit }, (request, body, done) => {
    if (body === '') done(null, undefined)
    else parse(request, body as string, done)
  })
}
