import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyPluginAsync } from 'fastify'
import { FleetError } from '../../index.ts'
import * as schemas from '../schemas.ts'

const longestMs = 30_000
const open = { config: { session: false } }

/** What load tests ask for. */
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
    async ({ body }): Promise<{ body: unknown; servedBy: string }> => ({ body: body ?? null, servedBy }),
  )
}
export default load
