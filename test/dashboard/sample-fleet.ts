// A server of the page with made-up data, for pictures and for states that real instances reach rarely: a thousand of them, none, errors.
import Fastify, { type FastifyInstance } from 'fastify'
import { dashboardPage } from '../../src/dashboard/pages.ts'

export interface SampleEvent {
  id: string
  at: number
  kind: string
  instance?: string
  version?: string
  text: string
}

/** What the server responds with; a scenario changes it before or while the page polls. */
export interface Sample {
  state: {
    servedBy: string
    at: number
    redis: { state: string; since: number }
    instances: Record<string, unknown>[]
    departed: Record<string, unknown>[]
  }
  events: SampleEvent[]
  routes: Record<string, unknown>[]
  dependencies: Record<string, unknown>
  /** Load of the whole fleet at a time, or `undefined` where the fleet was not running. */
  load: (at: number) => Record<string, unknown> | undefined
  /** Paths that respond with this status instead. */
  failing: Map<string, number>
  commands: string[]
}

const fields = [
  ...['id', 'host', 'port', 'pid', 'version', 'color', 'pool', 'region', 'zone', 'weight', 'state'],
  ...['startedAt', 'lastSeen', 'rps', 'errorRate', 'p95', 'loop', 'memory', 'failing'],
]
const minute = 60_000
/** A wave between 0 and 1 that is the same in each run. */
const wave = (at: number, periodMs: number, phase = 0): number =>
  (Math.sin((at / periodMs) * 2 * Math.PI + phase) + 1) / 2
/** As noise: different for neighbouring numbers, the same in each run. */
const noise = (n: number): number => Math.abs(Math.sin(n * 12.9898) * 43758.5453) % 1

export function instanceOf(i: number, now: number, given: Record<string, unknown> = {}): Record<string, unknown> {
  const n = noise(i)
  return {
    ...{ id: `web-${i}`, host: `10.0.${i % 20}.${10 + (i % 200)}`, port: 3000, pid: 4000 + i, version: '2.3.1' },
    ...{ color: 'none', pool: 'default', region: 'eu-central-1', zone: 'abc'[i % 3], weight: 100, state: 'serving' },
    ...{ startedAt: now - 5 * 3_600_000 - n * minute, lastSeen: now - n * 1500, rps: 60 + 30 * n, errorRate: 0.0004 },
    ...{ p95: 14 + 10 * n, loop: 0.18 + 0.2 * n, memory: 118e6 + 30e6 * n, failing: [] },
    ...given,
  }
}

function loadAt(at: number, stepMs: number, instances: number): Record<string, unknown> {
  const busy = 0.35 + 0.4 * wave(at, 26 * minute) + 0.15 * wave(at, 7 * minute, 1) + 0.1 * noise(at / stepMs)
  const requests = Math.round(busy * instances * 90 * (stepMs / 1000))
  return {
    ...{
      at,
      instances,
      requests,
      clientErrors: Math.round(requests * 0.012),
      serverErrors: Math.round(requests * 0.0006),
    },
    ...{
      shed: 0,
      p50: 4 + 3 * busy,
      p95: 12 + 14 * busy,
      p99: 30 + 40 * busy * noise(at / stepMs + 1),
      loop: 0.1 + 0.4 * busy,
    },
    memory: instances * (118e6 + 20e6 * busy),
  }
}

/** A healthy fleet. */
export function sampleOf(count: number, now: number = Date.now()): Sample {
  const instances = Array.from({ length: count }, (_, i) => instanceOf(i + 1, now))
  const events: SampleEvent[] = instances.slice(0, 40).flatMap(({ id }, i) => [
    {
      id: `${i}-1`,
      at: now - 5 * 3_600_000 - i * 9000,
      kind: 'ready',
      instance: `${id}`,
      version: '2.3.1',
      text: 'after 1.2 s',
    },
    {
      id: `${i}-0`,
      at: now - 5 * 3_600_000 - i * 9000 - 1200,
      kind: 'started',
      instance: `${id}`,
      version: '2.3.1',
      text: `version 2.3.1, process ${4001 + i} on 10.0.${i}.${10 + i}`,
    },
  ])
  const route = (method: string, path: string, requests: number, p50: number, failed = 0): Record<string, unknown> => ({
    ...{ method, route: path, requests, rps: requests / 900, p50, p95: p50 * 3.1, p99: p50 * 7 },
    ...{ clientErrors: Math.round(requests * 0.01), serverErrors: failed },
  })
  const pool = (used: number) => ({ used, waiting: 0, max: 10 })
  return {
    state: { servedBy: 'web-1', at: now, redis: { state: 'ok', since: now - 5 * 3_600_000 }, instances, departed: [] },
    events,
    routes: [
      route('GET', '/', 64_000, 2.1),
      route('GET', '/api/products/:id', 51_200, 4.4, 3),
      route('GET', '/api/products', 38_400, 9.6),
      route('POST', '/api/cart', 12_800, 12.5, 41),
      route('GET', '/api/cart', 11_900, 5.2),
      route('POST', '/api/orders', 2_560, 48, 31),
      route('GET', '/api/reports/:year', 96, 640),
    ],
    dependencies: {
      redis: {
        ...{
          state: 'ok',
          role: 'primary',
          version: '7.4.1',
          usedMemory: 212e6,
          maxMemory: 1073741824,
          policy: 'noeviction',
        },
        ...{ evictedKeys: 0, clients: count * 3, hitRate: 0.973, latencyMs: 0.4 },
      },
      database: {
        primary: { state: 'ok', pool: pool(4) },
        replicas: [
          { name: 'replica-1', state: 'ok', lagMs: 12, share: 0.52, pool: pool(3) },
          { name: 'replica-2', state: 'ok', lagMs: 18, share: 0.48, pool: pool(2) },
        ],
      },
      checks: [
        { name: 'redis', critical: false, failing: [], instances: count },
        { name: 'database', critical: true, failing: [], instances: count },
        { name: 'mail', critical: false, failing: [], instances: count },
      ],
    },
    load: (at) => loadAt(at, 10_000, count),
    failing: new Map(),
    commands: [],
  }
}

export interface SampleServer {
  readonly url: string
  close(): Promise<void>
}

const ranges: Record<string, [rangeMs: number, stepMs: number]> = {
  '15m': [15 * minute, 10_000],
  '1h': [60 * minute, 10_000],
  '24h': [24 * 60 * minute, minute],
}

export async function serve(sample: Sample, refreshMs = 250): Promise<SampleServer> {
  const app: FastifyInstance = Fastify()
  const page = dashboardPage({ fleet: 'shop', root: '/fleet', refreshMs })
  app.addHook('onRequest', (request, reply, done) => {
    const status = sample.failing.get(request.url.replace(/^\/fleet\/?|\?.*$/g, ''))
    if (status === undefined) done()
    else
      void reply
        .code(status)
        .send({ statusCode: status, message: status === 404 ? 'not found' : 'Redis is unavailable' })
  })
  app.get('/fleet', (_request, reply) =>
    reply.type('text/html; charset=utf-8').header('Content-Security-Policy', page.policy).send(page.html),
  )
  app.get('/fleet/state', () => ({
    ...sample.state,
    fields,
    instances: sample.state.instances.map((instance) => fields.map((name) => instance[name])),
  }))
  app.get<{ Querystring: { range: string; since?: string } }>('/fleet/history', ({ query: { range, since = '0' } }) => {
    const [rangeMs, stepMs] = ranges[range] ?? [0, 1]
    const end = Math.floor(sample.state.at / stepMs) * stepMs
    const times = Array.from({ length: rangeMs / stepMs }, (_, i) => end - rangeMs + (i + 1) * stepMs)
    const points = times.filter((at) => at > Number(since)).map(sample.load)
    return { stepMs, points: points.filter((point) => point !== undefined) }
  })
  app.get<{ Querystring: { before?: string; limit: number } }>('/fleet/events', ({ query: { before, limit } }) => {
    const start = before === undefined ? 0 : sample.events.findIndex(({ id }) => id === before) + 1
    return { events: sample.events.slice(start, start + Number(limit)) }
  })
  app.get('/fleet/routes', () => ({ windowMs: 15 * minute, routes: sample.routes, omitted: 0 }))
  app.get('/fleet/dependencies', () => sample.dependencies)
  for (const command of ['drain', 'undrain']) {
    app.post<{ Body: { instance: string } }>(`/fleet/${command}`, ({ body: { instance } }, reply) => {
      sample.commands.push(`${command} ${instance}`)
      const target = sample.state.instances.find(({ id }) => id === instance)
      if (target) target.state = command === 'drain' ? 'draining' : 'serving'
      return reply.code(202).send()
    })
  }
  return { url: `${await app.listen({ port: 0, host: '127.0.0.1' })}/fleet`, close: () => app.close() }
}
