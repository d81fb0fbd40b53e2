import type { TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type FleetOptions, fleet } from '../../src/fleet.ts'

export const token: string = 'an-operator-token-of-more-than-32-bytes'
export const json: Record<string, string> = { 'content-type': 'application/json' }
export const page: Record<string, string> = { accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8' }

export interface Instance {
  app: FastifyInstance
  url: string
}

export async function start(t: TestContext, options: FleetOptions = {}, given: object = {}): Promise<Instance> {
  const app = Fastify(given)
  t.after(() => app.close())
  const { operators, ...others } = options
  await app.register(fleet, {
    name: 'shop',
    lifecycle: { signals: false },
    redis: { client: null },
    operators: { token, ...operators },
    ...others,
  })
  return { app, url: await app.listen({ port: 0, host: '127.0.0.1' }) }
}

export const enter = (url: string, body: object | null, headers: Record<string, string> = json): Promise<Response> =>
  fetch(`${url}/fleet/session`, { method: 'POST', headers, body: JSON.stringify(body) })
export const cookieOf = (response: Response): string => response.headers.getSetCookie()[0]?.split(';')[0] ?? ''
export const codeOf = async (response: Response): Promise<string> => ((await response.json()) as { code: string }).code
