import type { FastifySchema } from 'fastify'

// Schemas of responses document them, see `ownRoute`.
export const string = { type: 'string' } as const
export const number = { type: 'number' } as const
export const boolean = { type: 'boolean' } as const
export const nullable = (type: 'string' | 'number'): object => ({ type: [type, 'null'] })
export const object = (properties: object): object => ({ type: 'object', properties })
/** 200 and 503 have the same body. */
const responses = (summary: string, body: object): FastifySchema =>
  ({ summary, tags: ['health'], response: { 200: body, 503: body } }) as FastifySchema

const status = { type: 'string', enum: ['healthy', 'degraded', 'unhealthy'] } as const
const checkReport = object({
  status: { type: 'string', enum: ['up', 'degraded', 'down', 'pending'] },
  critical: boolean,
  latencyMs: nullable('number'),
  lastSuccess: nullable('string'),
  lastError: nullable('string'),
  consecutiveFailures: number,
})
export const checksSchema: object = { type: 'object', additionalProperties: checkReport }
export const memorySchema: object = object({
  used: number,
  total: number,
  percentage: number,
  heapUsed: number,
  heapLimit: number,
})
const summary = {
  status,
  success: boolean,
  instanceId: string,
  color: string,
  version: string,
  uptime: number,
  timestamp: string,
}

export const aliveSchema: FastifySchema = responses(
  'Liveness: whether the process should keep running',
  object({ alive: boolean, instanceId: string, uptime: number, timestamp: string }),
)
export const readySchema: FastifySchema = responses(
  'Readiness: whether the instance should receive requests',
  object({
    ready: boolean,
    timestamp: string,
    instanceId: string,
    version: string,
    loadBalancerReady: boolean,
    reason: string,
  }),
)
export const healthSchema: FastifySchema = responses('Health status', object(summary))
export const detailedSchema: FastifySchema = responses(
  'Health with every check',
  object({
    ...summary,
    checks: checksSchema,
    memory: memorySchema,
    eventLoop: object({ delayMs: number, utilization: number }),
    disk: { type: ['object', 'null'], properties: { path: string, freeBytes: number, freeShare: number } },
  }),
)
