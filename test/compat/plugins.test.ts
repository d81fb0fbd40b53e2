// The plugins of fleet without the umbrella plugin `fleet`, in apps that have plugins of their own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import cookie from '@fastify/cookie'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Gauge } from 'prom-client'
import * as fleet from '../../src/index.ts'
import { type Any, cases, create, secret, takeWarnings } from './cases.ts'

// `session` alone requires it.
process.env.SESSION_SECRET = secret

/** The plugins in the order of `fleet`. */
const plugins = {
  identity: fleet.identity,
  overload: fleet.overload,
  lifecycle: fleet.lifecycle,
  operators: fleet.operators,
  errorResponses: fleet.errorResponses,
  headers: fleet.headers,
  metrics: fleet.metrics,
  health: fleet.health,
  loadBalancer: fleet.loadBalancer,
  agentCheck: fleet.agentCheck,
  geo: fleet.geo,
  redis: fleet.redis,
  broadcast: fleet.broadcast,
  registry: fleet.registry,
  locks: fleet.locks,
  rateLimit: fleet.rateLimit,
  session: fleet.session,
  jwt: fleet.jwt,
  cache: fleet.cache,
  httpCache: fleet.httpCache,
  idempotency: fleet.idempotency,
  dashboard: fleet.dashboard,
  worker: fleet.worker,
} satisfies Record<string, (app: FastifyInstance, options: Any) => unknown>
type Option = keyof typeof plugins
const all = Object.keys(plugins) as Option[]

const join = async (app: FastifyInstance, options: readonly Option[]): Promise<void> => {
  for (const option of options) await app.register(plugins[option] as Any)
}
type Own = (app: FastifyInstance) => unknown

const orders: Record<string, (app: FastifyInstance, own: Own, options: readonly Option[]) => Promise<void>> = {
  before: async (app, own, options) => {
    await own(app)
    await join(app, options)
  },
  after: async (app, own, options) => {
    await join(app, options)
    await own(app)
  },
  between: async (app, own, options) => {
    await join(app, options.slice(0, options.length / 2))
    await own(app)
    await join(app, options.slice(options.length / 2))
  },
  'not awaited': async (app, own, options) => {
    for (const option of options) app.register(plugins[option] as Any)
    app.register(fp(async (inner) => void (await own(inner))))
  },
  'some by the umbrella plugin': async (app, own, options) => {
    await join(app, options.slice(0, options.length / 2))
    await app.register(fleet.fleet, {})
    await own(app)
  },
}

for (const { name, register, check, rootOnly } of cases) {
  /** Joins apps that have this case at the root and in a scope. */
  const joins = async (order: string, options: readonly Option[]): Promise<void> => {
    for (const base of rootOnly ? [''] : ['', '/scope']) {
      const { app } = create()
      const scope = async (inner: FastifyInstance): Promise<void> => void (await register(inner))
      await orders[order]?.(app, base ? (outer) => outer.register(scope, { prefix: base }) : register, options)
      app.get('/own', async () => 'own')
      if (options !== all) app.get('/alive', async () => 'alive')
      await app.ready()
      await check(app, base)
      assert.equal((await app.inject('/own')).body, 'own')
      assert.deepEqual(takeWarnings(), [])
    }
  }
  for (const order of Object.keys(orders)) test(`${name} and all plugins, ${order}`, () => joins(order, all))
  for (const order of ['before', 'after'])
    test(`${name} and each plugin alone, ${order}`, async () => {
      for (const option of all) await joins(order, [option])
    })
}

/** The decorators that a plugin adds to an app. */
async function decoratorsOf(
  register: Own,
): Promise<Record<'decorate' | 'decorateRequest' | 'decorateReply', string[]>> {
  const { app } = create()
  const found = { decorate: new Set<string>(), decorateRequest: new Set<string>(), decorateReply: new Set<string>() }
  const methods = Object.keys(found) as (keyof typeof found)[]
  app.addHook('onRegister', () => undefined)
  for (const method of methods) {
    const original = app[method] as Any
    ;(app as Any)[method] = function (this: unknown, name: string | symbol, ...rest: unknown[]) {
      if (typeof name === 'string') found[method].add(name)
      return original.call(this, name, ...rest)
    }
  }
  await register(app)
  await app.ready()
  return Object.fromEntries(methods.map((method) => [method, [...found[method]]])) as Any
}

const subjects: Record<string, Own> = {
  fleet: (app) => app.register(fleet.fleet, {}),
  ...Object.fromEntries(all.map((option) => [option, (app: FastifyInstance) => app.register(plugins[option] as Any)])),
}
for (const [subject, register] of Object.entries(subjects)) {
  test(`every decorator of ${subject} that the app has too is used, or the error names it`, async () => {
    const names = await decoratorsOf(register)
    for (const method of ['decorate', 'decorateRequest', 'decorateReply'] as const)
      for (const name of names[method])
        for (const order of ['before', 'after']) {
          const { app } = create()
          const own = (): unknown => (app as Any)[method](name, null)
          const boot = async (): Promise<unknown> => {
            if (order === 'before') own()
            await register(app)
            if (order === 'after') own()
            return app.ready()
          }
          const error = await boot().then(
            () => undefined,
            (thrown: Any) => thrown,
          )
          if (error === undefined) continue
          assert.equal(error.code, 'FLEET_ERR_PLUGIN_CONFLICT', `${method} ${name} ${order}: ${error.stack}`)
          const place = { decorate: 'app', decorateRequest: 'request', decorateReply: 'reply' }[method]
          assert.match(
            error.message,
            new RegExp(`: (.${place}\\.${name}.|@fastify/[a-z-]+|request\\.session) is registered`),
          )
          assert.match(error.message, /by the app and by fastify-fleet \(.*\); (set .*false|.*rename).*/)
        }
  })
}

/** Two configurations of one thing. */
const conflicts: readonly { name: string; own: Own; ours: Own; message: RegExp }[] = [
  {
    name: '@fastify/rate-limit',
    own: (app) => app.register(rateLimit),
    ours: (app) => app.register(fleet.rateLimit, { max: 10 }),
    message: /@fastify\/rate-limit.*app.*fastify-fleet \(`rateLimit`\).*do not register `rateLimit`/,
  },
  {
    name: '@fastify/session',
    own: async (app) => {
      await app.register(cookie)
      await app.register(session, { secret })
    },
    ours: (app) => app.register(fleet.session, { secret }),
    message: /request\.session.*app.*fastify-fleet \(`session`\).*do not register `session`/,
  },
  {
    name: 'app.health, which another plugin requires,',
    own: (app) => app.decorate('health' as Any, {} as Any),
    ours: (app) => app.register(fleet.loadBalancer),
    message:
      /app\.health.*app.*fastify-fleet \(`health`, which `loadBalancer` requires\).*do not register `loadBalancer`/,
  },
]
for (const { name, own, ours, message } of conflicts) {
  for (const order of ['before', 'after'] as const) {
    test(`${name} that cannot be adopted, ${order}, ends the boot with an error that names both`, async () => {
      const { app } = create()
      const boot = async (): Promise<void> => {
        if (order === 'before') await own(app)
        await ours(app)
        if (order === 'after') await own(app)
        await app.ready()
      }
      await assert.rejects(boot, { code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
    })
  }
}

test('a plugin that is registered twice ends the boot with the fix', async () => {
  const boots: [(app: FastifyInstance) => Promise<unknown>, RegExp][] = [
    [async (app) => [await app.register(fleet.cache), await app.register(fleet.cache)], /`cache`.*second time.*once/],
    [
      async (app) => [await app.register(fleet.cache), await app.register(fleet.redis, { critical: false })],
      /`redis`.*second time.*register it before `cache`, which requires it/,
    ],
    [
      async (app) => [await app.register(fleet.fleet, {}), await app.register(fleet.cache)],
      /`cache`.*second time.*set its options as `cache` of `fleet`/,
    ],
    [
      async (app) => [await app.register(fleet.cache), await app.register(fleet.fleet, { cache: { maxItems: 10 } })],
      /`cache`.*second time/,
    ],
    [
      async (app) => [await app.register(fleet.identity), await app.register(fleet.fleet, { name: 'shop' })],
      /`identity`.*second time/,
    ],
    [async (app) => [await app.register(fleet.fleet, {}), await app.register(fleet.fleet, {})], /`fleet`.*second time/],
  ]
  for (const [boot, message] of boots)
    await assert.rejects(async () => boot(create().app), { code: 'FLEET_ERR_PLUGIN_CONFLICT', message })
})

/** These add a decorator of their scope, or a route, and share nothing. */
const ofScope: readonly Option[] = [
  'identity',
  'operators',
  'errorResponses',
  'headers',
  'metrics',
  'geo',
  'redis',
  'worker',
]

test('a plugin in two scopes that share metrics or app.fleet ends the boot with the fix', async () => {
  for (const option of all) {
    const { app } = create()
    await app.register(fleet.metrics)
    for (const prefix of ['/a', '/b'])
      app.register(async (scope) => void (await scope.register(plugins[option] as Any)), { prefix })
    const boot = async (): Promise<unknown> => app.ready()
    if (ofScope.includes(option)) {
      await boot()
      continue
    }
    const shared = '(app\\.fleet\\.\\w+|the metric fleet_\\w+)'
    const message = new RegExp(
      `\`(${option}\` of fastify-fleet|\\w+\` of fastify-fleet, which \`${option}\` requires,) is registered a second time, ` +
        `in another scope of the app, whose scopes share ${shared}; register it once, in a parent of these scopes$`,
    )
    await assert.rejects(boot, { code: 'FLEET_ERR_PLUGIN_CONFLICT', message }, option)
  }
})

test('metrics of the app itself are rejected by prom-client', async () => {
  const { app } = create()
  await app.register(fleet.metrics)
  const own = (): unknown => new Gauge({ name: 'own', help: 'Own', registers: [app.metrics] })
  own()
  assert.throws(own, /metric with the name own has already been registered/)
})

test("a plugin in a scope uses fleet's Redis, and not a redis of the app", async () => {
  const { app } = create()
  await app.register(fleet.identity)
  await app.register(async (scope) => {
    scope.decorate('redis', { mine: true } as Any)
    await scope.register(fleet.cache)
    scope.get('/cached', async () => scope.cache.getOrSet('one', 1_000, async () => 'value'))
    scope.get('/redis', async () => scope.redis)
  })
  await app.ready()
  assert.equal((await app.inject('/cached')).body, 'value')
  assert.deepEqual((await app.inject('/redis')).json(), { mine: true })
})

test('helmet of the app joins plugins of fleet', async () => {
  const { app } = create()
  await join(app, ['identity', 'headers', 'session'])
  await app.register(helmet)
  app.get('/', async () => 'own')
  const { headers } = await app.inject('/')
  assert.match(String(headers['content-security-policy']), /default-src/)
  assert.ok(headers['x-instance-id'])
})
