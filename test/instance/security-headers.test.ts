import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import helmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import Fastify, { type FastifyInstance } from 'fastify'
import { securityHeaders, withHelmetDefaults } from '../../src/instance/security-headers.ts'

async function build(
  t: TestContext,
  plugin: typeof securityHeaders,
  options: FastifyHelmetOptions,
): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(plugin, options)
  app.get('/', async () => ({}))
  app.get('/none', { helmet: false }, async () => ({}))
  app.get('/own', { helmet: { frameguard: { action: 'deny' }, referrerPolicy: false } }, async () => ({}))
  app.get('/nonce', { helmet: { enableCSPNonces: true } }, async (_request, reply) => ({
    nonce: reply.cspNonce.script,
  }))
  app.get('/called', async (_request, reply) => {
    await reply.helmet({ frameguard: { action: 'deny' } })
    return {}
  })
  app.get('/called-twice', async (_request, reply) => {
    reply.header('Referrer-Policy', 'origin')
    await reply.helmet({ frameguard: { action: 'deny' }, referrerPolicy: false })
    await reply.helmet({ xDnsPrefetchControl: { allow: true } })
    return {}
  })
  app.get('/changed', async (_request, reply) => {
    reply.header('X-Frame-Options', 'DENY').removeHeader('Referrer-Policy')
    return {}
  })
  app.get('/broken', async () => {
    throw new Error('no')
  })
  app.register(async (scope) => {
    scope.decorateReply('own', 1)
    scope.get('/raw', (_request, reply) => {
      reply.hijack()
      reply.raw.end('raw')
    })
  })
  return app
}

/** Status and headers without those that differ between responses; nonces are replaced. */
async function send(app: FastifyInstance, url: string): Promise<object> {
  const { headers, statusCode } = await app.inject(url)
  const { date: _date, connection: _connection, 'content-length': _length, ...rest } = headers
  const text = JSON.stringify(rest, Object.keys(rest).sort())
  return { statusCode, ...JSON.parse(text.replaceAll(/nonce-[0-9a-f]{32}/g, 'nonce')) }
}

describe('security headers', () => {
  const given: [string, FastifyHelmetOptions][] = [
    ['defaults', {}],
    ['with options', { contentSecurityPolicy: { directives: { imgSrc: ['*'] } }, frameguard: false }],
    ['without a policy', { contentSecurityPolicy: false }],
    ['with nonces', { enableCSPNonces: true }],
    ['with a directive by request', { contentSecurityPolicy: { directives: { imgSrc: [() => 'example.com'] } } }],
    ['for single routes only', { global: false }],
  ]
  for (const [name, options] of given) {
    it(`equal those of @fastify/helmet: ${name}`, async (t) => {
      const ours = await build(t, securityHeaders, options)
      const theirs = await build(t, helmet as unknown as typeof securityHeaders, options)
      for (const url of ['/', '/none', '/own', '/nonce', '/called', '/called-twice', '/broken', '/nowhere', '/raw']) {
        assert.deepEqual(await send(ours, url), await send(theirs, url), url)
      }
    })
  }

  it('can be changed, removed and recomputed by a handler', async (t) => {
    const app = await build(t, securityHeaders, {})
    const { headers } = await app.inject('/changed')
    assert.equal(headers['x-frame-options'], 'DENY')
    assert.equal(headers['referrer-policy'], undefined)
    assert.equal(headers['x-content-type-options'], 'nosniff')
    assert.equal((await app.inject('/')).headers['x-frame-options'], 'SAMEORIGIN')
    const called = await fetch(`${await app.listen({ port: 0, host: '127.0.0.1' })}/called`)
    assert.equal(called.headers.get('x-frame-options'), 'DENY')
    assert.equal(called.headers.get('referrer-policy'), 'no-referrer')
  })

  it('use another nonce for each response', async (t) => {
    const app = await build(t, securityHeaders, {})
    const [first, second] = [await app.inject('/nonce'), await app.inject('/nonce')]
    assert.match(String(first.headers['content-security-policy']), new RegExp(`'nonce-${first.json().nonce}'`))
    assert.notEqual(first.json().nonce, second.json().nonce)
  })
})

describe('the defaults of this package', () => {
  for (const [title, given, expected] of [
    ['apply without options', {}, undefined],
    ['stay if another option is set', { frameguard: { action: 'deny' } }, undefined],
    [
      'stay if another directive is set',
      { contentSecurityPolicy: { directives: { imgSrc: ['*'] } } },
      { imgSrc: ['*'] },
    ],
  ] as const) {
    it(title, () => {
      const options = withHelmetDefaults(given as FastifyHelmetOptions)
      assert.deepEqual(options, {
        ...given,
        contentSecurityPolicy: { directives: { upgradeInsecureRequests: null, ...expected } },
      })
    })
  }

  for (const given of [
    { contentSecurityPolicy: false },
    { contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'self'"] } } },
    { contentSecurityPolicy: { directives: { upgradeInsecureRequests: [] } } },
    { contentSecurityPolicy: { directives: { 'upgrade-insecure-requests': [] } } },
  ] as const)
    it(`yield to ${JSON.stringify(given)}`, () => {
      assert.deepEqual(withHelmetDefaults(given as unknown as FastifyHelmetOptions), given)
    })
})
