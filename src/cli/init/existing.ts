import { importsOf, lineOf, methodOf, type Source, walk } from './source.ts'

/** What an app has already that concerns fleet. */
export interface Existing {
  /** Used instead of fleet's own, or beside it. */
  readonly joined: readonly string[]
  /** What the user should know or change. */
  readonly notes: readonly string[]
  /** Options of `fleet` that leave a name to the app. */
  readonly disabled: readonly string[]
  /** Whether an object has `loggerInstance`, Fastify's option for a finished logger. */
  readonly hasLoggerInstance: boolean
}

/** Fastify plugins that `docs/compatibility.md` lists: used instead of fleet's, or beside it. */
const plugins: Readonly<Record<string, string>> = {
  '@fastify/cookie': 'is used instead of fleet’s own',
  '@fastify/cors': 'is used instead of fleet’s own',
  '@fastify/helmet': 'is used; fleet sends no security headers of its own',
  '@fastify/jwt': 'is used; `app.tokens` of fleet has tokens of its own',
  '@fastify/rate-limit': 'is used; without a shared store it counts per process',
  '@fastify/redis': 'is used as `app.redis`; fleet has its own connection',
  '@fastify/secure-session': 'is used instead of fleet’s sessions',
  '@fastify/session': 'is used instead of fleet’s sessions',
  '@fastify/swagger': 'works beside fleet',
  '@fastify/under-pressure': 'works beside fleet',
  '@fastify/websocket': 'works beside fleet',
  '@fastify/otel': 'works beside fleet',
}

const advice: Readonly<Record<string, string>> = {
  '@fastify/session':
    'sessions: each process has its own until @fastify/session has a shared store, such as `new FleetStore({ client: app.redis })`; see docs/sessions.md',
  'node:cluster':
    'node:cluster: `fleet start` runs several processes and replaces them without loss; see docs/processes.md',
  'close-with-grace': 'close-with-grace: may stay; fleet drains before it lets the process exit',
  'fastify-graceful-shutdown': 'fastify-graceful-shutdown: remove it, fleet drains and closes the app',
  'fastify-healthcheck': 'fastify-healthcheck: remove it, fleet serves /live, /ready and /health',
}

const probes: ReadonlySet<string> = new Set(['/live', '/ready', '/health', '/metrics'])
const methods: ReadonlySet<string> = new Set(['get', 'head', 'all', 'route'])
const signals: ReadonlySet<unknown> = new Set(['SIGTERM', 'SIGINT'])

/** Names that fleet decorates an app with, and the option that leaves each to the app, if there is one. */
export const decorated: Readonly<Record<string, string | undefined>> = {
  cache: 'cache',
  decryptSession: 'session',
  errorTranslators: 'errorResponses',
  metrics: 'metrics',
  metricsSource: 'metrics',
  overload: 'overload',
  parseCookie: 'session',
  serializeCookie: 'session',
  sessions: 'session',
  tokens: 'jwt',
  fleet: undefined,
  health: undefined,
  isOperator: undefined,
  load: undefined,
  operators: undefined,
  redisKey: undefined,
  staticHeaders: undefined,
}

export function existingIn(sources: readonly Source[]): Existing {
  const joined = new Set<string>()
  const notes = new Set<string>()
  const disabled = new Set<string>()
  let hasLoggerInstance = false
  for (const source of sources) {
    for (const imported of importsOf(source)) {
      const name = imported === 'cluster' ? 'node:cluster' : imported
      if (Object.hasOwn(plugins, name)) joined.add(`${name} ${plugins[name]}`)
      if (Object.hasOwn(advice, name)) notes.add(advice[name] ?? '')
    }
    walk(source.program, (node) => {
      if (node.type === 'Property' && node.key.type === 'Identifier')
        hasLoggerInstance ||= node.key.name === 'loggerInstance'
      if (node.type !== 'CallExpression') return
      const [object, method = ''] = methodOf(node) ?? []
      const [first] = node.arguments
      if (object === undefined || !first) return
      const place = `${source.file}:${lineOf(source.text, node.start)}`
      const value = first.type === 'Literal' ? first.value : urlOf(first)
      if (methods.has(method) && typeof value === 'string' && probes.has(value)) {
        joined.add(`route ${value} (${place}) is used instead of fleet’s own`)
        if (value === '/ready')
          notes.add(`${place}: respond 503 unless \`app.health.readiness.ready\`, or a drain goes unnoticed`)
      }
      if (object === 'process' && /^(?:on|once)$/.test(method) && signals.has(value))
        notes.add(
          `${place}: the listener of ${value} may stay, but fleet drains and closes the app itself; see docs/lifecycle.md`,
        )
      if (method === 'decorate' && typeof value === 'string' && Object.hasOwn(decorated, value)) {
        const option = decorated[value]
        if (option) disabled.add(option)
        const fix = option ? `fleet is registered with \`${option}: false\`` : 'rename it, because fleet needs the name'
        notes.add(`${place}: \`app.${value}\` is the app’s own; ${fix}`)
      }
    })
  }
  return { joined: [...joined], notes: [...notes], disabled: [...disabled], hasLoggerInstance }
}

function urlOf(node: { type: string }): unknown {
  if (node.type !== 'ObjectExpression') return undefined
  const { properties } = node as unknown as { properties: { key?: { name?: string }; value?: { value?: unknown } }[] }
  return properties.find(({ key }) => key?.name === 'url')?.value?.value
}
