// What plugins of fleet share with each other and with an app: names, routes, error handlers and members of `app.fleet`.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import { ensure } from '../../src/base/ensure.ts'
import * as compat from '../../src/instance/compat/index.ts'
import { type Any, boot, conflict, create, orders, plugin, umbrella } from './compat-app.ts'

test('a plugin is registered once, and the error of a second time says what to do', async (t) => {
  const stores = plugin('stores', (app) => app.decorate('stores', 1))
  const tables = plugin('tables', (app) => ensure(app, stores))
  for (const [registrations, message] of [
    [[[stores], [stores]], /`stores` .*a second time, after `stores`; register it once, with its options$/],
    [[[tables], [stores]], /after `tables`; register it before `tables`, which requires it$/],
    [[[umbrella(['stores', stores])], [stores]], /after `fleet`; set its options as `stores` of `fleet`$/],
    [[[stores], [umbrella(['stores', stores]), { stores: { a: 1 } }]], /`stores` .* a second time, after `stores`/],
  ] as [[Any, object?][], RegExp][]) {
    const { app } = create(t)
    const booted = async (): Promise<void> => {
      for (const [each, options] of registrations) await app.register(each, options)
    }
    await assert.rejects(booted, conflict(message))
  }
  for (const given of [{}, { stores: false }, { stores: undefined }]) {
    const { app } = create(t)
    await app.register(stores)
    await app.register(umbrella(['stores', stores]), given)
    assert.equal(app.stores, 1, '`fleet` uses it')
  }
})

test('hooks of fleet get no spans of @fastify/otel, those of the app do', async (t) => {
  const { app } = create(t)
  const { addHook } = app
  const traced: string[] = []
  app[Symbol('fastify otel addhook original')] = addHook
  app.addHook = function (this: Any, name: string, ...rest: unknown[]) {
    traced.push(name)
    return addHook.call(this, name, ...rest)
  }
  const nested = plugin('tables', (inner) => inner.addHook('onSend', async () => undefined))
  await app.register(
    plugin('stores', async (root) => {
      await root.register(nested)
      root.addHook('onRequest', async () => undefined)
    }),
  )
  app.addHook('onResponse', async () => undefined)
  assert.deepEqual(traced.slice(-1), ['onResponse'])
  assert.ok(!traced.includes('onRequest') && !traced.includes('onSend'), traced.join())
})

test('options of Fastify itself are not options of the plugin', async (t) => {
  const { app, adopted } = create(t)
  await app.register(helmet)
  await app.register(plugin('helmet', assert.fail), { prefix: '/a', logLevel: 'warn', logSerializers: {} })
  assert.equal(await adopted(), '@fastify/helmet')
})

test('a plugin has the name of its option, and describes what the app has in its place', async (t) => {
  const described: string[] = []
  const describe = (app: FastifyInstance): void => void described.push(app.pluginName)
  const ours = plugin('rateLimit', (app) => app.decorate('rateLimit', null), { describe })
  const { app } = create(t)
  await app.register(ours)
  assert.deepEqual([app.hasPlugin('fleet-rate-limit'), app.hasPlugin('fleet-rateLimit')], [true, false])
  await app.ready()
  assert.equal(described.length, 0)
  for (const order of orders) {
    await boot(
      create(t).app,
      order,
      (root) => root.register(ours),
      (root) => root.register(rateLimit),
    )
    assert.equal(described.length, 1 + orders.indexOf(order))
  }
})

test('parts of fleet that scopes share are added once', async (t) => {
  const fleet = {}
  const named = (option: string, member: object): Any => plugin(option, (app) => compat.extendFleet(app, member))
  const { app } = create(t)
  app.decorate('fleet', fleet)
  const getter = {
    get ready() {
      return 'now'
    },
  }
  await app.register(named('health', getter))
  assert.equal((fleet as Any).ready, 'now')
  compat.extendFleet(app, { ready: true } as Any)
  assert.equal((fleet as Any).ready, true, 'the app may replace it')
  const second = app.register(async (scope: Any) => void (await scope.register(named('stores', { ready: false }))))
  await assert.rejects(
    async () => second.ready(),
    conflict(/`stores` of fastify-fleet is registered a second time, in another scope .*app\.fleet\.ready/),
  )
})

test('a decorator that a parent has from fleet is not added in a scope', async (t) => {
  const { app } = create(t)
  await app.register(plugin('stores', (root) => root.decorateRequest('store', null)))
  app.register(
    async (scope: Any) =>
      void (await scope.register(plugin('tables', (inner) => inner.decorateRequest('store', null)))),
  )
  await assert.rejects(
    async () => app.ready(),
    conflict(/`request\.store` is registered by `stores` of fastify-fleet in a parent and by `tables` here/),
  )
})

test('a plugin of fleet that is registered again in a scope does not count as one of the app', async (t) => {
  const { app, adopted } = create(t)
  await app.register(plugin('rateLimit', (root) => root.decorate('rateLimit', null)))
  await app.register(async (scope: Any) => compat.asOurs(scope, 'rateLimit', () => scope.register(rateLimit)))
  app.decorate('rateLimit', 1)
  assert.equal(await adopted(), '@fastify/rate-limit')
  const { app: alone } = create(t)
  await compat.asOurs(alone, 'rateLimit', () => alone.decorate('own', 1))
  assert.equal(alone.own, 1)
})

test('routes of the app are preferred to those of fleet', async (t) => {
  const route = (body: string) => (app: Any) => app.get('/live', async () => body)
  for (const constraints of [undefined, { host: 'a.example' }]) {
    const { app, adopted } = create(t)
    await app.register(plugin('health', (root) => route('ours')(root)))
    app.get('/live', { constraints }, async () => 'own')
    app.get('/other', async () => 'other')
    assert.equal(app.hasRoute({ method: 'GET', url: '/other' }), true, 'it is as the app added it')
    assert.equal(await adopted(), 'route GET /live')
    const bodyAt = async (host: string, method = 'GET') =>
      (await app.inject({ method, url: '/live', headers: { host } })).body
    assert.deepEqual([await bodyAt('a.example'), await bodyAt('b.example')], ['own', constraints ? 'ours' : 'own'])
  }
  const { app, adopted } = create(t)
  app.get('/ready', async () => 'own')
  app.post('/ready', async () => 'own')
  const found: boolean[] = []
  await app.register(
    plugin('health', (root) => {
      found.push(compat.hasOwnRoute(root, 'GET', '/ready'), compat.hasOwnRoute(root, 'GET', '/live'))
    }),
  )
  assert.deepEqual([await adopted(), found], ['route GET /ready', [true, false]])
  const { app: taken } = create(t)
  route('own')(taken)
  await assert.rejects(
    async () => taken.register(plugin('health', route('ours'))),
    conflict(/^(?:.*: )?route GET \/live is registered by the app/),
  )
})

test('decorators, request ids and @fastify/cors of the app are found and named', async (t) => {
  const { app, adopted } = create(t, { genReqId: () => 'mine' })
  app.decorate('authenticate', 1).decorateReply('store', null)
  await app.register(cors)
  const found: boolean[] = []
  await app.register(
    plugin('fleet', (root) => {
      found.push(
        compat.hasOwnDecorator(root, 'instance', 'authenticate'),
        compat.hasOwnDecorator(root, 'reply', 'store'),
      )
      found.push(compat.hasOwnDecorator(root, 'request', 'user'), compat.hasOwnRequestIds(root))
    }),
  )
  const names = ['app.authenticate', 'reply.store', 'request ids', '@fastify/cors']
  assert.deepEqual([await adopted(), found], [names.join(', '), [true, true, false, true]])
  const other = create(t)
  await other.app.register(cors)
  await other.app.register(plugin('health', (root) => found.push(compat.hasOwnRequestIds(root))))
  assert.deepEqual([await other.adopted(), found.at(-1)], [undefined, false])
})

test('the error handler of the app takes the place of that of fleet, in its scope alone', async (t) => {
  const handler = (text: string) => (_error: unknown, _request: unknown, reply: Any) => reply.code(418).send(text)
  const ours = plugin('errorResponses', (app) => app.setErrorHandler(handler('ours')))
  const failing = (app: Any): void => app.get('/', async () => Promise.reject(new Error('no')))
  for (const order of [...orders, 'none']) {
    const { app, adopted } = create(t)
    const own = (): unknown => app.setErrorHandler(handler('own'))
    if (order === 'before') own()
    await app.register(ours)
    if (order === 'after') own()
    failing(app)
    app.register(
      async (scope: Any) => {
        scope.setErrorHandler(handler('scope'))
        failing(scope)
      },
      { prefix: '/scope' },
    )
    assert.equal(await adopted(), order === 'none' ? undefined : 'error handler')
    const bodies = [(await app.inject('/')).body, (await app.inject('/scope')).body]
    assert.deepEqual(bodies, [order === 'none' ? 'ours' : 'own', 'scope'], order)
    assert.equal(compat.guestOf(app) === compat.Guest.of(app), true)
  }
})

test('an error handler is as in any app where fleet has none, and the second one of the app replaces its first', async (t) => {
  const handler = (text: string) => (_error: unknown, _request: unknown, reply: Any) => reply.send(text)
  const none = plugin('stores', () => undefined)
  const ours = plugin('errorResponses', (app) => app.setErrorHandler(handler('ours')))
  for (const [joined, texts, expected] of [
    [none, ['own'], undefined],
    [ours, ['first', 'second'], 'error handler'],
  ] as const) {
    const { app, adopted } = create(t)
    await app.register(joined)
    for (const text of texts) app.setErrorHandler(handler(text))
    app.get('/', async () => Promise.reject(new Error('no')))
    assert.deepEqual([await adopted(), (await app.inject('/')).body], [expected, texts.at(-1)])
  }
})

test('what the app registers after a plugin of fleet in a scope is the app’s', async (t) => {
  const { app, adopted } = create(t)
  await app.register(plugin('stores', (root) => root.decorate('authenticate', 1)))
  await app.register(async (scope: Any) => {
    await scope.register(plugin('tables', (inner) => inner.decorate('tables', 1)))
    scope.decorate('own', 1)
  })
  app.register(async (scope: Any) => scope.decorate('authenticate', 3))
  await app.after()
  app.decorate('authenticate', 2)
  assert.match((await adopted()) ?? '', /^app\.authenticate in .*, app\.authenticate$/s)
  assert.equal(app.authenticate, 2)
})

test('options that a plugin of fleet gives another are not those of the app', async (t) => {
  const helmets = plugin('helmet', (app) => app.decorateReply('helmet', null))
  const { app, adopted } = create(t)
  await app.register(plugin('fleet', (root) => root.register(helmets, { max: 1 })))
  await app.register(helmet)
  assert.equal(await adopted(), '@fastify/helmet')
})
