import { after } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { errorResponses } from '../../../src/instance/error-responses.ts'
import { first, IdempotencyHandler, type KeyedRequest } from '../../../src/state/idempotency/handler.ts'
import { MemoryIdempotencyStore } from '../../../src/state/idempotency/memory-store.ts'
import type { ResolvedIdempotency } from '../../../src/state/idempotency/options.ts'
import type { IdempotencyStore } from '../../../src/state/idempotency/store.ts'
import { MemoryLimitStore } from '../../../src/state/rate-limit/memory-store.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

export const defaults: ResolvedIdempotency = {
  global: false,
  required: false,
  ttlMs: 60_000,
  lockMs: 60_000,
  maxResponseBytes: 1000,
  maxKeys: 10_000,
  onOutage: 'reject',
  credentialHeaders: [],
  scope: undefined,
}

type Respond = { status?: number; body?: string; headers?: Record<string, string> }

/** A route with an {@link IdempotencyHandler} over the given store. */
export async function build(
  options: Partial<ResolvedIdempotency> = {},
  store: IdempotencyStore = new MemoryIdempotencyStore(),
  limits: Pick<MemoryLimitStore, 'take'> = new MemoryLimitStore(),
) {
  const app = Fastify()
  apps.push(app)
  await app.register(errorResponses)
  const handler = new IdempotencyHandler(store, limits, { ...defaults, ...options })
  app.addHook('onClose', async () => handler.close())
  app.decorateRequest(first, null)
  const { required, ttlMs, onOutage } = { ...defaults, ...options }
  app.addHook('preHandler', (request, reply) =>
    handler.begin(request as KeyedRequest, reply, { required, ttlMs, onOutage }),
  )
  app.addHook('onSend', async (request, reply, payload) => {
    if ((request as KeyedRequest)[first]) await handler.end(request as KeyedRequest, reply, payload)
    return payload
  })
  const calls = { count: 0 }
  app.post<{ Body: Respond | null }>('/', async ({ body }, reply) => {
    const { status = 200, body: text = `call ${++calls.count}`, headers = {} } = body ?? {}
    if (body?.body) calls.count++
    return reply.code(status).headers(headers).type('text/plain').send(text)
  })
  const post = (key?: string, payload: Respond = {}, remoteAddress = '10.0.0.1') =>
    app.inject({ method: 'POST', url: '/', payload, remoteAddress, headers: key ? { 'idempotency-key': key } : {} })
  return { post, calls, counts: handler.counts }
}
