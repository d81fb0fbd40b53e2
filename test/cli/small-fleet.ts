import { createServer, type IncomingMessage, type Server, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { loadBalancer } from '../../src/instance/admin-api.ts'
import { headers } from '../../src/instance/headers.ts'
import { identity } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { operators } from '../../src/instance/operators/index.ts'

export const token: string = 'an-operator-token-of-more-than-32-bytes'

/** What the instances of one small fleet share: the place of Redis. */
interface Shared {
  sessions: Map<string, string>
  apps: FastifyInstance[]
}

export interface SmallFleet {
  readonly apps: readonly FastifyInstance[]
  /** Addresses of the instances. */
  readonly urls: readonly string[]
  readonly front: string
  close(): Promise<void>
}

export interface SmallFleetOptions {
  instances?: number
  weights?: readonly number[]
  /** Which instance the next request goes to; default: each in turn, draining ones left out. */
  pick?: (n: number, request: IncomingMessage) => number
  /** Each instance keeps its own sessions: what a fleet without Redis does. */
  separate?: boolean
  /** Without an operators' token: direct connections from this machine are operators. @default false */
  development?: boolean
  /** The front lets operators’ paths through, and does not say that it is one. */
  open?: boolean
  /** Routes, hooks, whatever else the application of a test needs. */
  extend?: (app: FastifyInstance) => void
}

/** Real instances in this process behind a real, very small front. */
export async function smallFleet(options: SmallFleetOptions = {}): Promise<SmallFleet> {
  const shared: Shared = { sessions: new Map(), apps: [] }
  const count = options.instances ?? 3
  const urls: string[] = []
  for (let i = 0; i < count; i++) {
    const app = await instance(i, options.separate ? { ...shared, sessions: new Map() } : shared, options)
    shared.apps.push(app)
    urls.push(await app.listen({ port: 0, host: '127.0.0.1' }))
  }
  const front = createFront(shared.apps, urls, options)
  await new Promise<void>((resolve) => front.listen(0, '127.0.0.1', resolve))
  return {
    apps: shared.apps,
    urls,
    front: `http://127.0.0.1:${(front.address() as AddressInfo).port}`,
    async close() {
      front.closeAllConnections()
      front.close()
      await Promise.all(shared.apps.map((app) => app.close()))
    },
  }
}

async function instance(i: number, { sessions, apps }: Shared, options: SmallFleetOptions): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(identity, { name: 'small', id: `small-${i + 1}`, weight: options.weights?.[i] ?? 100 })
  await app.register(lifecycle, { signals: false })
  for (const store of ['sessionStore', 'cacheStore']) app.fleet.describe(store, options.separate ? 'memory' : 'redis')
  await app.register(operators, options.development ? {} : { token })
  await app.register(headers)
  await app.register(loadBalancer)
  // The registry's part: every instance knows all, and passes commands on.
  Object.assign(app.fleet, {
    peers: () => apps.map((peer) => peer.fleet.self()),
    command: async (id: string, command: 'drain' | 'undrain') =>
      apps.find((peer) => peer.fleet.instance.id === id)?.fleet[command](),
  })
  app.post<{ Body: { email?: string; password?: string } }>('/api/v1/auth/login', async (request, reply) => {
    if (request.body?.email !== 'test@example.com' || request.body.password !== 'password') {
      return reply.code(401).send({ error: 'wrong' })
    }
    const id = `session-${sessions.size}-0123456789`
    sessions.set(id, request.body.email)
    reply.header('set-cookie', `sid=${id}; HttpOnly`)
    return { accessToken: `head.${Buffer.from(id).toString('base64url')}.signature-of-it` }
  })
  const user = (request: FastifyRequest): string | undefined => {
    const { cookie, authorization } = request.headers
    const sid = /sid=([^;]+)/.exec(cookie ?? '')?.[1]
    const [head, payload, signature] = (authorization ?? '').replace('Bearer ', '').split('.')
    const valid = head === 'head' && signature === 'signature-of-it'
    return sessions.get(sid ?? (valid ? Buffer.from(payload ?? '', 'base64url').toString() : ''))
  }
  app.get('/api/v1/me', async (request, reply) => {
    const email = user(request)
    return email ? { user: { email } } : reply.code(401).send({ error: 'who?' })
  })
  app.post('/api/v1/auth/logout', async (request) => {
    sessions.delete(/sid=([^;]+)/.exec(request.headers.cookie ?? '')?.[1] ?? '')
    return { ok: true }
  })
  options.extend?.(app)
  return app
}

function createFront(apps: readonly FastifyInstance[], urls: readonly string[], options: SmallFleetOptions): Server {
  let n = 0
  return createServer((request, response) => {
    if (!options.open && /^\/(metrics|fleet|health\/detailed|api\/v1\/load-balancer)/.test(request.url ?? '')) {
      if (request.headers.authorization === undefined) return void response.writeHead(404).end()
    }
    const serving = urls.filter((_, i) => apps[i]?.fleet.state === 'serving')
    const to = options.pick ? urls[options.pick(n++, request)] : serving[n++ % serving.length]
    const sent = { ...request.headers, ...(options.open ? {} : { 'x-forwarded-for': '192.0.2.1' }) }
    const onward = send(new URL(request.url ?? '/', to), { method: request.method, headers: sent, agent: false })
    onward.on('response', (reply) => {
      response.writeHead(reply.statusCode ?? 502, reply.headers)
      reply.pipe(response)
    })
    onward.on('error', () => response.writeHead(502).end())
    request.pipe(onward)
  })
}
