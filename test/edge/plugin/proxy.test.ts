import assert from 'node:assert/strict'
import { Agent, type IncomingMessage, type InformationEvent, type RequestOptions, request } from 'node:http'
import { describe, it } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { type ProxyPluginOptions, proxy, replyFrom } from '../../../src/edge/plugin/index.ts'
import { until } from '../../helpers/until.ts'
import { atEnd } from '../at-end.ts'
import { get, quickProbe } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

type Options = Partial<ProxyPluginOptions> & { prefix?: string }

async function listen(app: FastifyInstance): Promise<string> {
  atEnd(() => app.close())
  return app.listen({ port: 0, host: '127.0.0.1' })
}

async function front(
  upstreams: readonly Upstream[],
  options: Options = {},
  server: object = {},
): Promise<{ url: string; app: FastifyInstance }> {
  const app = Fastify(server)
  app.register(proxy, { targets: upstreams.map(({ url }) => url), probe: quickProbe, ...options })
  return { url: await listen(app), app }
}

/** Sends what undici would not. */
const send = (url: string, options: RequestOptions, inform?: (info: InformationEvent) => void) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const sent = request(url, options, resolve)
    if (inform) sent.on('information', inform)
    sent.on('error', reject).end()
  })

const seenBy = async (url: string, options: object = {}) => JSON.parse((await get(url, options)).text)

describe('the proxy plugin: paths', async () => {
  const [upstream] = (await startUpstreams(1)) as [Upstream]

  for (const [prefix, rewritePrefix, base, requested, expected] of [
    ['', '', '', '/', '/'],
    ['', '', '', '/a/b?c=/d', '/a/b?c=/d'],
    ['/api', '', '', '/api', '/'],
    ['/api', '', '', '/api/', '/'],
    ['/api', '', '', '/api?x', '/?x'],
    ['/api', '', '', '/api/a', '/a'],
    ['/api', '', '', '/%61pi/a', '/a'],
    ['/api', '', '', '/api//a', '//a'],
    ['/api', '/v2', '', '/api/api/a', '/v2/api/a'],
    ['/api', '/v2/', '', '/api', '/v2'],
    ['', '/v2', '', '/a', '/v2/a'],
    ['/api', '', '/base', '/api', '/base'],
    ['/api', '', '/base', '/api?x=1', '/base?x=1'],
    ['/api', '/v2', '/base/', '/api/a', '/base/v2/a'],
    ['/users/:id/files', '/files/:id', '', '/users/a%2Fb/files/c', '/files/a%2Fb/c'],
    ['/users/:id', '/u/:id/:other', '', '/users/%C3%BC', '/u/%C3%BC/:other'],
    ['/api', '', '', '/api/%e4%b8%80/x%2Fy;z=1', '/%e4%b8%80/x%2Fy;z=1'],
  ] as const) {
    it(`${requested} below ${prefix || '/'} goes to ${expected} (${rewritePrefix || 'no rewritePrefix'})`, async () => {
      const { url } = await front([upstream], { prefix, rewritePrefix, targets: [upstream.url + base] })
      assert.equal((await seenBy(url + requested)).url, expected)
    })
  }

  it('that leave the prefix, or do so for some routers, get 400', async () => {
    const { url } = await front([upstream], { prefix: '/api' })
    for (const path of [
      '/api/../x',
      '/api/%2e%2E/x',
      '/api/a/..%2f..%2fx',
      '/api/..;/x',
      '/api/a\\..\\..\\x',
      '/api/..',
    ]) {
      const response = await send(url, { path })
      assert.equal(response.resume().statusCode, 400, path)
    }
  })

  it('of operators get 404, at the upstream too', async () => {
    const { url } = await front([upstream], { prefix: '/api' })
    for (const path of ['/metrics', '/%6detrics', '/Metrics/', '//metrics', '/fleet/x']) {
      assert.equal((await get(`${url}/api${path}`)).status, 404, path)
    }
    const open = await front([upstream], { prefix: '/api', block: [] })
    assert.equal((await get(`${open.url}/api/metrics`)).status, 200)
  })

  it('may be changed by preRewrite, and the query by queryString', async () => {
    const { url } = await front([upstream], {
      prefix: '/api',
      preRewrite: (path, _params, prefix) => path.replace(`${prefix}/old`, `${prefix}/new`),
      queryString: (search, path) => `from=${path.length}&ü=${search.length}#x`,
    })
    assert.equal((await seenBy(`${url}/api/old?a=1`)).url, '/new?from=12&%C3%BC=4%23x')
    const fixed = await front([upstream], { queryString: { a: ['1', '2'] } })
    assert.equal((await seenBy(`${fixed.url}/?b=1`)).url, '/?a=1&a=2')
    const none = await front([upstream], { queryString: {} })
    assert.equal((await seenBy(`${none.url}/?b=1`)).url, '/')
  })
})

describe('the proxy plugin: headers', async () => {
  const [upstream] = (await startUpstreams(1)) as [Upstream]

  it("of requests describe the client; Host is the target's unless preserveHost is set", async () => {
    const { url } = await front([upstream], {}, { genReqId: () => 'id-1' })
    const headers = {
      'x-forwarded-for': '1.2.3.4',
      'x-mine': 'yes',
      connection: 'close, x-secret',
      'x-secret': 's',
      te: 'gzip',
    }
    const response = await send(url, { headers: { ...headers, host: 'shop.example' } })
    const { headers: seen } = JSON.parse(String(await response.toArray()))
    assert.equal(seen.host, new URL(upstream.url).host)
    assert.equal(seen['x-forwarded-for'], '127.0.0.1')
    assert.equal(seen['x-forwarded-host'], 'shop.example')
    assert.equal(seen['x-forwarded-proto'], 'http')
    assert.deepEqual(
      [seen['x-mine'], seen['x-secret'], seen.te, seen['x-request-id']],
      ['yes', undefined, undefined, 'id-1'],
    )
    const kept = await front([upstream], { preserveHost: true }, { trustProxy: true })
    const again = (await seenBy(kept.url, { headers: { 'x-forwarded-for': '1.2.3.4', host: 'shop.example' } })).headers
    assert.deepEqual([again.host, again['x-forwarded-for']], ['shop.example', '1.2.3.4, 127.0.0.1'])
  })

  it('of a trusted proxy are kept, although its first request on a connection has none', async () => {
    for (const trustProxy of [true, false]) {
      const { url, app } = await front([upstream], {}, { trustProxy })
      let connections = 0
      app.server.on('connection', () => connections++)
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      atEnd(() => agent.destroy())
      const seen: unknown[] = []
      const forwarded = { 'x-forwarded-for': '192.0.2.7', 'x-forwarded-proto': 'https' }
      for (const headers of [{}, forwarded, forwarded]) {
        const response = await send(url, { headers, agent })
        const { headers: received } = JSON.parse(String(await response.toArray()))
        seen.push([received['x-forwarded-for'], received['x-forwarded-proto']])
      }
      const own = ['127.0.0.1', 'http']
      const kept = trustProxy ? ['192.0.2.7, 127.0.0.1', 'https'] : own
      assert.deepEqual([seen, connections], [[own, kept, kept], 1])
    }
  })

  it('of requests and responses may be rewritten', async () => {
    upstream.handler = (request, response) => {
      response.setHeader('x-up', 'up')
      response.setHeader('x-gone', 'gone')
      upstream.response(request, response)
    }
    const { url } = await front([upstream], {
      rewriteRequestHeaders: (request, headers) => ({
        ...headers,
        'X-Added': `${request.method} ${headers['x-mine']}`,
        'content-length': '99',
        'transfer-encoding': 'chunked',
        'x-mine': undefined,
        host: 'api.example',
      }),
      rewriteHeaders: ({ 'x-gone': _, ...headers }, request) => ({ ...headers, 'x-down': request.url }),
    })
    const { headers, text } = await get(url, { method: 'POST', body: 'hello', headers: { 'x-mine': 'm' } })
    const seen = JSON.parse(text)
    assert.deepEqual(
      [seen.headers['x-added'], seen.headers['x-mine'], seen.headers.host],
      ['POST m', undefined, 'api.example'],
    )
    assert.deepEqual([seen.headers['content-length'], seen.body], ['5', 'hello'])
    assert.deepEqual([headers['x-up'], headers['x-down'], headers['x-gone']], ['up', '/', undefined])
    upstream.handler = (request, response) => upstream.response(request, response)
  })

  it('that an app returns but cannot be sent are an error, not a crash and not a split request', async () => {
    for (const options of [
      { rewriteRequestHeaders: () => ({ 'x-bad': 'a\r\nx-injected: 1' }) },
      { rewriteRequestHeaders: () => ({ 'bad name': 'x' }) },
      { rewriteHeaders: () => ({ 'x-bad': 'a\r\nx-injected: 1' }) },
      { rewriteHeaders: () => ({ 'x-bad': '\u4e00' }) },
      {
        rewriteHeaders: () => {
          throw new Error('oops')
        },
      },
    ] as Options[]) {
      const { url } = await front([upstream], options)
      assert.equal((await get(url)).status, 500)
    }
  })

  it('Location and cookies are those of the route', async () => {
    const { host } = new URL(upstream.url)
    let location = ''
    upstream.handler = (_, response) =>
      response
        .writeHead(302, {
          location,
          'set-cookie': [
            'a=1; Path=/base/v2/x; HttpOnly',
            'b=2; path=/; Domain=127.0.0.1; Secure',
            'c=3; Path=/base/v2; Domain=.shop.example',
            '__Host-d=4; Path=/; Secure',
          ],
        })
        .end()
    const target = { targets: [`${upstream.url}/base`], rewritePrefix: '/v2', prefix: '/api/:n' }
    const { url } = await front([upstream], target)
    for (const [sent, expected] of [
      ['/base/v2/x?y#z', '/api/1/x?y#z'],
      ['/base/v2', '/api/1'],
      ['/base/v20/x', '/base/v20/x'],
      ['/other', '/other'],
      ['relative', 'relative'],
      [`http://${host}/base/v2/x`, '/api/1/x'],
      [`//${host}/base/v2/x`, '/api/1/x'],
      ['https://elsewhere.example/base/v2/x', 'https://elsewhere.example/base/v2/x'],
      ['//elsewhere.example/base/v2', '//elsewhere.example/base/v2'],
    ]) {
      location = sent as string
      const { headers } = await get(`${url}/api/1/q`)
      assert.equal(headers.location, expected, location)
    }
    const { headers } = await get(`${url}/api/1/q`)
    assert.deepEqual(headers['set-cookie'], [
      'a=1; Path=/api/1/x; HttpOnly',
      'b=2; path=/; Domain=127.0.0.1; Secure',
      'c=3; Path=/api/1; Domain=.shop.example',
      '__Host-d=4; Path=/; Secure',
    ])
    location = '//elsewhere.example'
    const root = await front([upstream], { prefix: '/api', cookieDomain: 'front.example' })
    const { headers: atRoot } = await get(`${root.url}/api`)
    assert.equal(atRoot.location, '//elsewhere.example')
    assert.deepEqual(atRoot['set-cookie'], [
      'a=1; Path=/api/base/v2/x; HttpOnly',
      'b=2; Path=/api; Domain=front.example; Secure',
      'c=3; Path=/api/base/v2; Domain=front.example',
      '__Host-d=4; Path=/; Secure',
    ])
    const plain = await front([upstream], { ...target, rewriteLocation: false, rewriteCookies: false })
    location = '/base/v2/x'
    const untouched = (await get(`${plain.url}/api/1`)).headers
    assert.deepEqual(
      [untouched.location, untouched['set-cookie']?.[0]],
      ['/base/v2/x', 'a=1; Path=/base/v2/x; HttpOnly'],
    )
    upstream.handler = (request, response) => upstream.response(request, response)
  })
})

describe('the proxy plugin: Fastify', async () => {
  const [upstream] = (await startUpstreams(1)) as [Upstream]

  it('runs the hooks of the app, of the scope and of the plugin, and no others', async () => {
    const app = Fastify()
    const ran: string[] = []
    app.addHook('onRequest', async (_, reply) => {
      ran.push('app')
      reply.header('x-app', 'a')
    })
    app.register(async (scope) => {
      scope.addHook('preHandler', async () => void ran.push('scope'))
      scope.addHook('onSend', async () => void ran.push('onSend'))
      scope.register(proxy, {
        prefix: '/api',
        targets: [upstream.url],
        preHandler: async (request, reply) => {
          ran.push('plugin')
          if (request.headers.authorization === undefined) return reply.code(401).send({ error: 'who?' })
        },
      })
    })
    app.register(async (other) => {
      other.addHook('onRequest', async () => void ran.push('other'))
      other.post('/json', async (request) => request.body)
    })
    const url = await listen(app)
    const rejected = await get(`${url}/api/a`)
    assert.deepEqual([rejected.status, rejected.headers['x-app']], [401, 'a'])
    assert.deepEqual(ran.splice(0), ['app', 'scope', 'plugin', 'onSend'])
    assert.equal(upstream.seen.length, 0)
    const passed = await get(`${url}/api/a`, { headers: { authorization: 'x' } })
    assert.deepEqual([passed.status, passed.headers['x-app']], [200, 'a'])
    assert.deepEqual(ran.splice(0), ['app', 'scope', 'plugin', 'onSend'])
    // The parsers of the app are its own.
    const json = await get(`${url}/json`, {
      method: 'POST',
      body: '{"a":1}',
      headers: { 'content-type': 'application/json' },
    })
    assert.equal(json.text, '{"a":1}')
    assert.deepEqual(ran.splice(0), ['app', 'other'])
  })

  it('has routes, methods, constraints and config', async () => {
    const app = Fastify()
    const common = { targets: [upstream.url] }
    app.register(proxy, { ...common, prefix: '/one', routes: ['/a', '/b/*'], httpMethods: ['GET'] })
    app.register(proxy, { ...common, prefix: '/two', constraints: { host: 'two.example' } })
    app.register(proxy, {
      ...common,
      prefix: '/three',
      config: { role: 'admin' },
      preHandler: async (request, reply) =>
        void reply.header('x-role', (request.routeOptions.config as { role?: string }).role),
    })
    const url = await listen(app)
    const statuses = async (...paths: string[]) =>
      Promise.all(paths.map(async (path) => (await get(url + path)).status))
    assert.deepEqual(await statuses('/one/a', '/one/b/c', '/one/c', '/two/a'), [200, 200, 404, 404])
    assert.equal((await get(`${url}/one/a`, { method: 'POST' })).status, 404)
    assert.equal((await get(`${url}/two/a`, { headers: { host: 'two.example' } })).status, 200)
    assert.equal((await get(`${url}/three`)).headers['x-role'], 'admin')
  })

  it('forwards bodies unread, up to bodyLimit', async () => {
    const big = 'x'.repeat(3_000_000)
    const { url } = await front([upstream])
    const { body, headers } = await seenBy(url, {
      method: 'POST',
      body: big,
      headers: { 'content-type': 'application/json' },
    })
    assert.equal(body.length, big.length)
    assert.equal(headers['content-type'], 'application/json')
    const post = (url: string, length: number, chunked: boolean) => {
      const chunks = async function* () {
        yield Buffer.alloc(length, 'x')
      }
      return get(url, { method: 'POST', body: chunked ? (chunks() as never) : 'x'.repeat(length) })
    }
    for (const limited of [
      await front([upstream], { bodyLimit: 100 }),
      await front([upstream], {}, { bodyLimit: 100 }),
    ]) {
      assert.equal((await post(limited.url, 100, false)).status, 200)
      assert.equal((await post(limited.url, 100, true)).status, 200)
      const { status, text } = await post(limited.url, 101, false)
      assert.deepEqual([status, JSON.parse(text).code], [413, 'FLEET_ERR_BODY_TOO_LARGE'])
      assert.equal((await post(limited.url, 101, true)).status, 413)
    }
  })

  it('forwards a GET with a body, and none for methods without', async () => {
    const { url } = await front([upstream])
    assert.equal((await seenBy(url, { method: 'GET', body: 'hello' })).body, 'hello')
    const { headers } = await seenBy(url, { method: 'DELETE' })
    assert.equal(headers['transfer-encoding'], undefined)
    upstream.handler = (_, response) => response.writeHead(200, { 'content-length': '5' }).end()
    const head = await get(url, { method: 'HEAD' })
    assert.deepEqual([head.status, head.text, head.headers['content-length']], [200, '', '5'])
    upstream.handler = (_, response) => response.writeHead(304, { etag: '"x"' }).end()
    const unchanged = await get(url)
    assert.deepEqual([unchanged.status, unchanged.headers.etag], [304, '"x"'])
    upstream.handler = (request, response) => upstream.response(request, response)
  })

  it('lets hooks see and replace bodies with proxyPayloads: false', async () => {
    const { url } = await front([upstream], {
      proxyPayloads: false,
      preValidation: async (request, reply) => {
        const body = request.body as { n?: number }
        if (body?.n === 0) return reply.code(422).send({ message: 'n' })
        if (body?.n === 1) request.body = { n: 'changed', long: 'ü' }
        if (body?.n === 2) request.body = null
      },
    })
    const post = (n: number) => ({
      method: 'POST',
      body: `{ "n": ${n} }`,
      headers: { 'content-type': 'application/json' },
    })
    assert.equal((await get(url, post(0))).status, 422)
    const changed = await seenBy(url, post(1))
    assert.deepEqual([changed.body, changed.headers['content-length']], ['{"n":"changed","long":"ü"}', '27'])
    const none = await seenBy(url, post(2))
    assert.deepEqual([none.body, none.headers['content-length'], none.headers['content-type']], ['', '0', undefined])
    assert.equal((await seenBy(url, post(3))).body, '{"n":3}')
    const json = { method: 'POST', headers: { 'content-type': 'application/json ; charset=utf-8' } }
    assert.equal((await seenBy(url, { ...json, body: '"{\\"n\\":0}"' })).body, '"{\\"n\\":0}"')
    const text = await seenBy(url, { method: 'POST', body: 'hi', headers: { 'content-type': 'text/plain' } })
    assert.equal(text.body, 'hi')
  })

  it('keeps a client at its target by a cookie, beside those of the target', async () => {
    const upstreams = await startUpstreams(3)
    for (const upstream of upstreams)
      upstream.handler = (request, response) => {
        response.setHeader('set-cookie', 'theirs=1')
        upstream.response(request, response)
      }
    const { url } = await front(upstreams, { policy: 'sticky-cookie', sticky: { secret: 's'.repeat(32) } })
    for (let i = 0; i < 3; i++) {
      const first = await get(url)
      const [theirs, sticky = ''] = [first.headers['set-cookie'] ?? []].flat()
      assert.deepEqual([theirs, sticky !== ''], ['theirs=1', true])
      const cookie = sticky.split(';')[0] ?? ''
      for (let k = 0; k < 4; k++) {
        const { text, headers } = await get(url, { headers: { cookie } })
        assert.equal(JSON.parse(text).name, JSON.parse(first.text).name)
        assert.equal(headers['set-cookie'], 'theirs=1')
      }
    }
  })

  it('shares a balancer between routes, which the app closes', async () => {
    const balancer = new Balancer([upstream.url], { probe: quickProbe })
    await balancer.ready()
    const app = Fastify()
    app.register(proxy, { prefix: '/a', balancer })
    app.register(proxy, { prefix: '/b', balancer })
    app.register(proxy, { prefix: '/hasty', balancer, timeoutMs: 100 })
    const url = await listen(app)
    assert.equal((await seenBy(`${url}/a/x`)).url, '/x')
    assert.equal((await seenBy(`${url}/b/y`)).url, '/y')
    upstream.handler = () => {}
    assert.equal((await get(`${url}/hasty/slow`)).status, 504)
    upstream.handler = (request, response) => upstream.response(request, response)
    await app.close()
    assert.equal((await balancer.request('/z')).statusCode, 200)
    await balancer.close()
  })

  it('chooses upstreams by getUpstream, and by reply.from', async () => {
    const [other] = (await startUpstreams(1)) as [Upstream]
    const app = Fastify()
    app.register(proxy, {
      prefix: '/choose',
      getUpstream: (request) => (request.headers['x-version'] === '2' ? `${other.url}/v2` : upstream.url),
      preHandler: (request, reply, done) => {
        if (request.url !== '/choose/from') return done()
        reply.from('/from?x=1', { method: 'POST', body: { a: 1 } })
      },
    })
    app.register(replyFrom, { targets: [other.url] })
    app.get('/own', (_, reply) => void reply.from('/theirs', { queryString: { q: 1 } }))
    app.get('/kept', (_, reply) => void reply.from('/theirs'))
    app.get('/async/*', async (_, reply) => reply.from())
    const url = await listen(app)
    assert.equal((await seenBy(`${url}/choose/a`)).name, upstream.name)
    const second = await seenBy(`${url}/choose/a`, { headers: { 'x-version': '2' } })
    assert.equal(second.url, '/v2/a')
    const from = await seenBy(`${url}/choose/from`)
    assert.deepEqual([from.method, from.url, from.body], ['POST', '/from?x=1', '{"a":1}'])
    assert.equal((await seenBy(`${url}/own?z`)).url, '/theirs?q=1')
    assert.equal((await seenBy(`${url}/kept?z=1`)).url, '/theirs?z=1')
    assert.equal((await seenBy(`${url}/async/x?y`)).url, '/async/x?y')
  })

  it('is ready with its balancer, and closes it with the app', async (t) => {
    const options = { targets: [upstream.url] }
    for (const register of [
      (app: FastifyInstance) => app.register(proxy, options),
      (app: FastifyInstance) => app.register(replyFrom, options),
    ]) {
      const events: string[] = []
      for (const name of ['ready', 'close'] as const) {
        t.mock.method(Balancer.prototype, name, async () => {
          await new Promise(setImmediate)
          events.push(`balancer: ${name}`)
        })
      }
      const app = Fastify()
      register(app)
      await app.ready()
      events.push('app: ready')
      await app.close()
      events.push('app: close')
      assert.deepEqual(events, ['balancer: ready', 'app: ready', 'balancer: close', 'app: close'])
      t.mock.restoreAll()
    }
  })

  it('rejects wrong options when the app starts', async () => {
    for (const [options, code] of [
      [{}, 'FLEET_ERR_OPTION_INVALID'],
      [{ targets: [upstream.url], rewritePrefix: 'x' }, 'FLEET_ERR_OPTION_INVALID'],
      [{ targets: [upstream.url], upstream: 'x' }, 'FLEET_ERR_OPTION_UNKNOWN'],
      [{ targets: ['nonsense'] }, 'FLEET_ERR_TARGET_INVALID'],
    ] as [never, string][]) {
      const app = Fastify()
      app.register(proxy, options)
      await assert.rejects(async () => app.ready(), { code })
    }
  })
})

describe('the proxy plugin: failures', async () => {
  it('repeats a GET on another target and never a POST', async () => {
    const upstreams = await startUpstreams(2)
    const { url } = await front(upstreams)
    const [bad] = upstreams as [Upstream]
    bad.handler = (request) => request.socket.destroy()
    const gets = await Promise.all(Array.from({ length: 6 }, () => get(url)))
    assert.ok(gets.every(({ status }) => status === 200))
    const before = upstreams.flatMap(({ seen }) => seen).filter((line) => line.startsWith('POST')).length
    const posts = await Promise.all(Array.from({ length: 6 }, () => get(url, { method: 'POST', body: 'x' })))
    const seen =
      upstreams.flatMap((upstream) => upstream.seen).filter((line) => line.startsWith('POST')).length - before
    assert.equal(seen, 6)
    assert.ok(posts.every(({ status }) => status === 200 || status === 502))
  })

  it('loses no request when a target drains', async () => {
    const upstreams = await startUpstreams(2)
    const { url } = await front(upstreams)
    const [first] = upstreams as [Upstream]
    let done = false
    const statuses: number[] = []
    const load = Array.from({ length: 8 }, async (_, i) => {
      while (!done) statuses.push((await get(url, i % 2 ? { method: 'POST', body: 'x' } : {})).status)
    })
    await until(() => statuses.length > 100)
    await first.leave()
    const after = statuses.length
    await until(() => statuses.length > after + 100)
    done = true
    await Promise.all(load)
    assert.deepEqual([...new Set(statuses)], [200])
  })

  it('sends errors through onError, errorPage or the error handler of the app', async () => {
    const dead = { targets: ['http://127.0.0.1:1'], queue: { timeoutMs: 1 } }
    const app = Fastify()
    app.setErrorHandler((error, _, reply) => void reply.code(599).send({ mine: (error as { code?: string }).code }))
    app.register(proxy, { prefix: '/handler', ...dead })
    app.register(proxy, {
      prefix: '/page',
      ...dead,
      errorPage: (status, request) => `<h1>${status} ${request.url}</h1>`,
    })
    app.register(proxy, { prefix: '/own', ...dead, onError: (reply, { error }) => reply.code(598).send(error.code) })
    const url = await listen(app)
    const handled = await get(`${url}/handler`)
    assert.deepEqual([handled.status, handled.text], [599, '{"mine":"FLEET_ERR_NO_TARGET"}'])
    assert.equal((await get(`${url}/page`)).status, 599)
    const page = await get(`${url}/page`, { headers: { accept: 'text/html,*/*;q=0.8' } })
    assert.deepEqual(
      [page.status, page.text, page.headers['content-type']],
      [503, '<h1>503 /page</h1>', 'text/html; charset=utf-8'],
    )
    assert.equal(page.headers['retry-after'], '1')
    const own = await get(`${url}/own`)
    assert.deepEqual([own.status, own.text], [598, 'FLEET_ERR_NO_TARGET'])
  })

  it('gives onResponse the response', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    upstream.handler = (_, response) => response.writeHead(201, { 'x-up': 'y', 'content-length': '5' }).end('hello')
    const { url } = await front([upstream], {
      onResponse: async (_request, reply, { statusCode, headers, stream }) => {
        const body = Buffer.concat(await stream.toArray()).toString()
        reply.removeHeader('content-length')
        return reply.send(`${statusCode} ${headers['x-up']} ${body.toUpperCase()}`)
      },
    })
    const { status, headers, text } = await get(url)
    assert.deepEqual([status, headers['x-up'], text], [201, 'y', '201 y HELLO'])
  })

  it('aborts the upstream request when the client disconnects', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    let aborted = 0
    upstream.handler = (request, response) => {
      response.on('close', () => aborted++)
      if (request.url === '/body') response.write('x')
    }
    const { url } = await front([upstream])
    for (const [i, path] of ['/head', '/body'].entries()) {
      const controller = new AbortController()
      const sent = get(url + path, { signal: controller.signal })
      await until(() => upstream.seen.includes(`GET ${path}`))
      controller.abort()
      await assert.rejects(sent)
      await until(() => aborted === i + 1)
    }
  })

  it('sends nothing for a client that disconnected while the handler was busy', async (t) => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    const { mock } = t.mock.method(Balancer.prototype, 'dispatch')
    const app = Fastify()
    app.register(replyFrom, { targets: [upstream.url] })
    let [asked, done] = [false, false]
    app.post('/payment', (_, reply) => {
      asked = true
      reply.raw.once('close', () => {
        reply.from()
        done = true
      })
    })
    app.get('/next', (_, reply) => void reply.from())
    const url = await listen(app)
    const controller = new AbortController()
    const sent = get(`${url}/payment`, { method: 'POST', signal: controller.signal })
    await until(() => asked)
    controller.abort()
    await assert.rejects(sent)
    await until(() => done)
    assert.equal((await get(`${url}/next`)).status, 200)
    assert.deepEqual(
      mock.calls.map((call) => call.arguments[0].path),
      ['/next'],
    )
  })

  it('sends the head of a silent stream at once, and its trailers and early hints', async () => {
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    let finish = (): void => {}
    upstream.handler = (_, response) => {
      response.writeEarlyHints({ link: '</a.css>; rel=preload' })
      response.writeHead(200, { 'content-type': 'text/event-stream', trailer: 'x-sum' })
      response.flushHeaders()
      finish = () => {
        response.write('data: 1\n\n')
        response.addTrailers({ 'x-sum': '42' })
        response.end()
      }
    }
    const { url } = await front([upstream])
    let hints: unknown
    const response = await send(url, {}, ({ headers }) => {
      hints = headers.link
    })
    assert.equal(response.headers['content-type'], 'text/event-stream')
    assert.equal(hints, '</a.css>; rel=preload')
    finish()
    assert.equal(String(await response.toArray()), 'data: 1\n\n')
    assert.equal(response.trailers['x-sum'], '42')
  })
})
