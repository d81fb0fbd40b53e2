import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyPluginAsync } from 'fastify'
import { FleetError } from '../../index.ts'
import * as schemas from '../schemas.ts'

const longestMs = 30_000
/** Deeply nested JSON can be parsed, but not serialised. */
const deepest = 100
const open = { config: { session: false } }

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((one) => isDeeper(one, levels - 1))
}

/** Routes for load tests. */
const load: FastifyPluginAsync = async (app) => {
  const servedBy = app.fleet.instance.id

  app.get<{ Querystring: { ms?: string } }>(
    '/work',
    {
      ...open,
      schema: {
        querystring: schemas.object({ ms: schemas.digits(5) }, ['ms']),
        response: schemas.responses(200, schemas.object({ ms: { type: 'integer' }, servedBy: schemas.text })),
      },
    },
    async ({ query }): Promise<{ ms: number; servedBy: string }> => {
      const ms = Number(query.ms ?? 0)
      if (ms > longestMs) throw new FleetError('FLEET_ERR_REQUEST_INVALID', `\`ms\` must be from 0 to ${longestMs}`)
      if (ms > 0) await delay(ms)
      return { ms, servedBy }
    },
  )

  app.post<{ Body: unknown }>(
    '/echo',
    {
      ...open,
      schema: { body: {}, response: schemas.responses(200, schemas.object({ body: {}, servedBy: schemas.text })) },
    },
    async ({ body }): Promise<{ body: unknown; servedBy: string }> => {
      if (isDeeper(body, deepest))
        throw new FleetError('FLEET_ERR_REQUEST_INVALID', `the body has more than ${deepest} levels`)
      return { body: body ?? null, servedBy }
    },
  )
}
export default load
