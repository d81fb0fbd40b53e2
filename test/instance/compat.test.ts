// What an app has in common with plugins of fleet. Those here only decorate; `test/compat` has the real ones.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import fp from 'fastify-plugin'
import { ensure } from '../../src/base/ensure.ts'
import { onReplaced, replacedIn } from '../../src/instance/compat/index.ts'
import { type Any, boot, conflict, create, orders, plugin, umbrella } from './compat-app.ts'

const secret = 'a-secret-of-the-app-with-32-bytes!!'
const sessions = fp(async (app: Any) => {
  await app.register(cookie)
  await app.register(session, { secret })
})
/** Plugins of an app, and the names that they decorate. */
const known: readonly [adopted: string, own: Any, names: Record<string, string[]>][] = [
  [
    '@fastify/cookie',
    cookie,
    {
      decorate: ['parseCookie', 'serializeCookie', 'signCookie', 'unsignCookie'],
      decorateRequest: ['cookies'],
      decorateReply: ['cookie', 'setCookie', 'clearCookie'],
    },
  ],
  ['@fastify/cors', cors, { decorateRequest: ['corsPreflightEnabled'] }],
  ['@fastify/helmet', helmet, { decorateReply: ['helmet', 'cspNonce'] }],
  ['@fastify/rate-limit', rateLimit, { decorate: ['createRateLimit', 'rateLimit'] }],
  ['request.session', sessions, { decorate: ['decryptSession'], decorateRequest: ['session', 'sessionStore'] }],
  ['request.user', fp(async (app: Any) => app.decorateRequest('user', null)), { decorateRequest: ['user'] }],
  ['app.authenticate', fp(async (app: Any) => app.decorate('authenticate', 1)), { decorate: ['authenticate'] }],
  ['app.redis', fp(async (app: Any) => app.decorate('redis', 1)), { decorate: ['redis'] }],
]
for (const [name, own, names] of known) {
  const decorating = plugin('ours', (app) => {
    for (const [method, all] of Object.entries(names)) for (const each of all) app[method](each, null)
  })
  test(`${name} of the app takes the place of each decorator of fleet, at the root and in a scope`, async (t) => {
    const root = create(t)
    await root.app.register(decorating)
    await root.app.register(own, own === cookie ? { secret } : {})
    assert.equal(await root.adopted(), name)
    for (const each of names.decorate ?? []) assert.notEqual(root.app[each], null, each)
    const { app, adopted } = create(t)
    await app.register(decorating)
    app.register(async (scope: Any) => void (await scope.register(own)), { prefix: '/scope' })
    assert.ok([undefined, `${name} in /scope`].includes(await adopted()))
    for (const each of names.decorate ?? []) assert.equal(app[each], null, 'the root keeps that of fleet')
  })
}

for (const [option, name, own] of [
  ['cors', '@fastify/cors', cors],
  ['helmet', '@fastify/helmet', helmet],
  ['rateLimit', '@fastify/rate-limit', rateLimit],
  ['session', 'request.session', sessions],
] as const) {
  const names = known.find(([adopted]) => adopted === name)?.[2] ?? {}
  let ran = 0
  const ours = plugin(option, (app) => {
    ran++
    for (const [method, all] of Object.entries(names)) for (const each of all) app[method](each, null)
  })
  test(`${name} of the app replaces the plugin \`${option}\`, unless that has options`, async (t) => {
    const left = create(t)
    await left.app.register(own)
    await left.app.register(ours)
    assert.deepEqual([await left.adopted(), ran], [name, 0])
    for (const order of orders) {
      const both = new RegExp(`${name} is registered by the app and by fastify-fleet \\(\`${option}\`\\); (.*)`)
      const alone = boot(
        create(t).app,
        order,
        (app) => app.register(ours, { max: 1 }),
        (app) => app.register(own),
      )
      await assert.rejects(alone, conflict(new RegExp(`${both.source}do not register \`${option}\``)))
      const part = umbrella([option, ours])
      const byFleet = boot(
        create(t).app,
        order,
        (app) => app.register(part, { [option]: { max: 1 } }),
        (app) => app.register(own),
      )
      await assert.rejects(byFleet, conflict(new RegExp(`${both.source}set \`${option}: false\``)))
    }
  })
  test(`${name} of a scope ${option === 'cors' ? 'is a conflict with options' : 'may replace the plugin with options'} of \`${option}\``, async (t) => {
    for (const order of orders) {
      const scoped = boot(
        create(t).app,
        order,
        (app) => app.register(umbrella([option, ours]), { [option]: { max: 1 } }),
        (app) => app.register(async (scope: Any) => void (await scope.register(own)), { prefix: '/scope' }),
      )
      // @fastify/cors answers preflight requests in the first hook of the app.
      if (option === 'cors')
        await assert.rejects(scoped, conflict(/@fastify\/cors is registered by.*set `cors: false`/))
      else await scoped
    }
  })
}

test('a decorator that nothing replaces ends the boot, with the plugin that it belongs to and what to do', async (t) => {
  const stores = plugin('stores', (app) => app.decorate('stores', 1).decorateRequest('store', null))
  const tables = plugin('tables', (app) => ensure(app, stores))
  for (const order of orders)
    for (const [ours, message] of [
      [stores, /\(`stores`\); remove or rename it in the app, or do not register `stores`$/],
      [tables, /\(`stores`, which `tables` requires\); remove or rename it in the app, or do not register `tables`$/],
      [umbrella(['stores', stores]), /\(`stores`\); rename it in the app$/],
      [
        umbrella(['tables', plugin('tables', (app) => app.decorate('stores', 1).decorateRequest('store', null))]),
        /\(`tables`\); set `tables: false` to use the app's, or remove it from the app$/,
      ],
    ] as const)
      for (const [own, place] of [
        [(app: Any) => app.decorate('stores', 2), /`app\.stores` is registered by the app and by fastify-fleet/],
        [
          (app: Any) => app.decorateRequest('store', null),
          /`request\.store` is registered by the app and by fastify-fleet/,
        ],
      ] as const) {
        const booted = boot(create(t).app, order, (app) => app.register(ours), own)
        await assert.rejects(booted, conflict(new RegExp(`${place.source} ${message.source}`)))
      }
})

test('a scope may have a decorator of its own with a name of fleet', async (t) => {
  const { app, adopted } = create(t)
  await app.register(plugin('stores', (root) => root.decorate('stores', 1)))
  let inScope: unknown
  app.register(async (scope: Any) => {
    scope.decorate('stores', 2)
    inScope = scope.stores
  })
  assert.equal(await adopted(), undefined)
  assert.deepEqual([app.stores, inScope], [1, 2])
})

test('symbols and accessors of fleet give way, and those of the app stay', async (t) => {
  const [ofPlugin, other] = [Symbol('fastify.request.ran'), Symbol('other')]
  const { app, adopted } = create(t)
  await app.register(
    plugin('stores', (root) => {
      root.decorateRequest(ofPlugin, 1)
      root.decorateReply(other, 1)
      root.decorateRequest('user', { getter: () => 'ours' })
      root.decorateReply('store', { getter: () => 'ours', setter: () => undefined })
      root.decorateReply('cspNonce', { setter: () => undefined })
    }),
  )
  app.decorateRequest(ofPlugin, 2)
  assert.throws(() => app.decorateReply(other, 2), { code: 'FST_ERR_DEC_ALREADY_PRESENT' })
  app.decorateRequest('user', { getter: () => 'own' })
  app.decorateReply('own', { getter: () => 'own' })
  app.decorateReply('cspNonce', { getter: () => 'own' })
  app.get('/', async (request: Any, reply: Any) => [
    ...[request.user, request[ofPlugin], reply.own, reply.store, reply.cspNonce],
  ])
  assert.equal(await adopted(), 'request.user, @fastify/helmet')
  assert.deepEqual((await app.inject('/')).json(), ['own', 2, 'own', 'ours', 'own'])
})

test('a request knows whether its scope or a scope above has the plugin of the app', async (t) => {
  for (const order of orders) {
    const { app } = create(t)
    const told = new Set<string>()
    const ours = plugin('rateLimit', (root) => {
      root.decorate('rateLimit', null)
      onReplaced(root, '@fastify/rate-limit', (scope) => told.add(scope.prefix))
      const isReplaced = replacedIn(root, '@fastify/rate-limit')
      root.addHook(
        'onRequest',
        async (request: Any, reply: Any) => void reply.header('x-replaced', isReplaced(request)),
      )
    })
    const own = (scope: Any): void => {
      scope.register(
        async (inner: Any) => {
          await inner.register(rateLimit, { global: false })
          inner.get('/', async () => '')
          inner.register(async (below: Any) => below.get('/below', async () => ''))
        },
        { prefix: '/scope' },
      )
      scope.register(async (beside: Any) => beside.get('/beside', async () => ''))
    }
    if (order === 'before') await app.register(fp(async (root: Any) => own(root)))
    await app.register(ours)
    if (order === 'after') own(app)
    await app.ready()
    const replaced = async (url: string) => (await app.inject(url)).headers['x-replaced']
    assert.deepEqual(
      [await replaced('/scope'), await replaced('/scope/below'), await replaced('/beside'), [...told]],
      ['true', 'true', 'false', ['/scope']],
      order,
    )
  }
})
