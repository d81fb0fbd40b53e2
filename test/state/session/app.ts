import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import { type RedisOptions, redis } from '../../../src/state/redis/index.ts'
import { type SessionOptions, session } from '../../../src/state/session/index.ts'
import { fleetSecret } from '../../../src/state/session/signer.ts'
import { patient, patientApp } from '../redis/patience.ts'

export const secret = 'a secret of more than thirty-two bytes'

/** Lets a test decide when a handler continues after it has loaded its session. */
export class Gate {
  #waiting: (() => void)[] = []

  pass(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  get waiting(): number {
    return this.#waiting.length
  }

  open(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}

export interface TestApp extends FastifyInstance {
  gate: Gate
}

/** An app whose routes change the session as their paths say. `first` are registered before the session. */
export async function build(
  where: RedisOptions,
  options: SessionOptions = {},
  ...first: readonly FastifyPluginAsync[]
): Promise<TestApp> {
  const app = Fastify({ ...patientApp, trustProxy: 'loopback' })
  for (const plugin of first) await app.register(plugin)
  const gate = new Gate()
  await app.register(redis, { ...patient, ...where })
  // As the umbrella plugin does it.
  const given = 'secret' in options ? options.secret : secret
  await app.register(session, { ...options, secret: await fleetSecret(app, given) })

  app.get('/', async ({ session }) => {
    const { cookie: _, ...data } = session.toJSON() as Record<string, unknown>
    return data
  })
  app.get('/id', async ({ session }) => ({ id: session.sessionId }))
  app.post<{ Body: object }>('/set', async ({ session, body }) => {
    Object.assign(session, body)
    return {}
  })
  app.post<{ Body: object }>('/set-slowly', async ({ session, body }) => {
    await gate.pass()
    Object.assign(session, body)
    return {}
  })
  app.post<{ Body: { name: string } }>('/remove-slowly', async ({ session, body }) => {
    await gate.pass()
    delete session[body.name]
    return {}
  })
  app.post<{ Body: { user: string; keep?: string[] } }>('/login', async (request) => {
    const { user, keep = [] } = request.body
    await request.session.regenerate(keep)
    request.session.userId = user
    return {}
  })
  app.post('/logout', async ({ session }) => {
    await session.destroy()
    return {}
  })
  app.post('/logout-slowly', async ({ session }) => {
    await gate.pass()
    await session.destroy()
    return {}
  })
  app.post<{ Body: object; Params: { status: number } }>('/fail/:status', async ({ session, body, params }) => {
    Object.assign(session, body)
    throw Object.assign(new Error('on purpose'), { statusCode: Number(params.status) })
  })
  app.post<{ Body: { maxAge: number } }>('/options', async ({ session, body }) => {
    session.options(body)
    session.remembered = true
    return {}
  })
  app.get('/none', { config: { session: false } }, async ({ session }) => session ?? null)
  return Object.assign(app, { gate }) as unknown as TestApp
}
