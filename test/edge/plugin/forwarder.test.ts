import assert from 'node:assert/strict'
import { Duplex, Readable } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import Fastify, {
  type FastifyReply,
  type FastifyRequest,
  type InjectOptions,
  type LightMyRequestResponse,
} from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import type { Exchange } from '../../../src/edge/balancer/exchange.ts'
import type { HeaderLines } from '../../../src/edge/http/headers.ts'
import { Forwarder, type PreparedRequest } from '../../../src/edge/plugin/forwarder.ts'
import type { ForwardOptions, ReplyFromOptions } from '../../../src/edge/plugin/options.ts'
import type { ResponseBody } from '../../../src/edge/plugin/response.ts'
import { identity } from '../../../src/instance/identity.ts'
import { liveObjects } from '../../helpers/live-objects.ts'
import { until } from '../../helpers/until.ts'

const target = 'http://127.0.0.1:1'

/** Prepares requests of an app for the upstream, without sending them. */
async function prepare(
  t: TestContext,
  options: ReplyFromOptions,
  {
    inject = {},
    given = {},
    search = '',
    path = '/a',
    bodyLimit = 1_048_576,
    genReqId,
  }: Partial<{
    inject: InjectOptions
    given: ForwardOptions
    search: string
    path: string
    bodyLimit: number
    genReqId: () => string
  }> = {},
): Promise<PreparedRequest & { fields: Record<string, string> }> {
  const app = Fastify(genReqId && { genReqId })
  const forwarder = new Forwarder({ targets: [target], ...options }, bodyLimit)
  t.after(() => Promise.all([app.close(), forwarder.close()]))
  let prepared: PreparedRequest | undefined
  let failed: unknown
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.all('*', async (request) => {
    // As a request from the network has it.
    Object.assign(request.raw, { complete: true })
    try {
      prepared = await forwarder.prepare(request, { path, search }, given)
    } catch (error) {
      failed = error
    }
  })
  await app.inject({ url: '/', ...inject })
  if (!prepared) throw failed
  return { ...prepared, fields: Object.fromEntries(prepared.options.headers as HeaderLines) }
}

describe('a request that the proxy plugin forwards', () => {
  it('has path, query and method, the headers of the client, and a time limit', async (t) => {
    const inject = { method: 'PUT', headers: { 'x-own': '1', host: 'shop.example' } } as const
    const { options, fields, input } = await prepare(t, { timeoutMs: 70 }, { inject, search: '?b' })
    assert.deepEqual([options.path, options.method, options.headersTimeout], ['/a?b', 'PUT', 70])
    assert.deepEqual([fields['x-own'], fields.host, fields['x-forwarded-host']], ['1', undefined, 'shop.example'])
    assert.deepEqual([input.client, input.headers['x-own']], ['127.0.0.1', '1'])
    const kept = await prepare(t, { preserveHost: true }, { inject, given: { method: 'POST', timeoutMs: 90 } })
    assert.deepEqual([kept.fields.host, kept.options.method, kept.options.headersTimeout], ['shop.example', 'POST', 90])
  })

  it('is chosen a target by the client behind the proxies that the instance trusts, not by request.ip', async (t) => {
    const forwarder = new Forwarder({ targets: [target] }, 0)
    const app = Fastify()
    t.after(() => Promise.all([app.close(), forwarder.close()]))
    await app.register(identity, { trustProxy: ['loopback'] })
    app.get('/', async (request) => {
      const { input } = await forwarder.prepare(request, { path: '/', search: '' }, {})
      return [request.ip, input.client]
    })
    const { body } = await app.inject({ url: '/', headers: { 'x-forwarded-for': '192.0.2.7' } })
    assert.deepEqual(JSON.parse(body), ['127.0.0.1', '192.0.2.7'])
  })

  it('has the id of the app, or a new one if that cannot be sent', async (t) => {
    for (const [id, isSent] of [
      ['own-1', true],
      ['x'.repeat(200), true],
      ['x'.repeat(201), false],
      ['', false],
      ['a b', false],
      ['é', false],
      ['a\r\nx-more: 1', false],
    ] as const) {
      const { fields } = await prepare(t, {}, { genReqId: () => id })
      if (isSent) assert.equal(fields['x-request-id'], id)
      else assert.match(fields['x-request-id'] ?? '', /^[\w-]{12}-\d+$/, JSON.stringify(id))
      assert.equal(fields['x-more'], undefined)
    }
  })

  it('does not keep the connection that it came on', async (t) => {
    class Mark {}
    const forwarder = new Forwarder({ targets: [target] }, 0)
    const app = Fastify()
    t.after(() => Promise.all([app.close(), forwarder.close()]))
    app.get('/', async (request) => {
      Object.assign(request.raw.socket, { mark: new Mark() })
      await forwarder.prepare(request, { path: '/', search: '' }, {})
    })
    for (let i = 0; i < 50; i++) await app.inject('/')
    await until(() => liveObjects(Mark) <= 5, { what: 'the end of the connections' })
  })

  it('has the query of the app: an object, or the text of a function', async (t) => {
    const path = async (queryString: ForwardOptions['queryString']): Promise<string> =>
      (await prepare(t, { queryString } as ReplyFromOptions, { search: '?old=1' })).options.path
    assert.equal(await path(undefined), '/a?old=1')
    assert.equal(await path({ a: ['1', '2'], b: 'c d' }), '/a?a=1&a=2&b=c%20d')
    assert.equal(await path({}), '/a')
    assert.equal(await path((search, url) => `${search}&${url}`), '/a?old=1&/')
    assert.equal(await path(() => 'a=é b#c%20'), '/a?a=%C3%A9%20b%23c%20')
    assert.equal(await path(() => ''), '/a')
  })

  it('has the headers that the app returns, except the length of its body', async (t) => {
    const inject = { method: 'POST', payload: 'body', headers: { 'content-type': 'text/plain' } } as const
    const rewriteRequestHeaders = (_: FastifyRequest, headers: object) => ({
      ...headers,
      'x-new': '1',
      'content-length': '99',
    })
    const { fields, options } = await prepare(t, { rewriteRequestHeaders }, { inject })
    assert.deepEqual([fields['x-new'], fields['content-length'], String(options.body)], ['1', '4', 'body'])
    const replaced = await prepare(t, { rewriteRequestHeaders }, { inject, given: { body: { a: 1 } } })
    assert.deepEqual(
      [replaced.fields['content-length'], replaced.fields['content-type']],
      [undefined, 'application/json'],
    )
    assert.equal(String(replaced.options.body), '{"a":1}')
    const none = await prepare(t, {}, { inject, given: { body: null } })
    assert.deepEqual(
      [none.options.body, none.fields['content-type'], none.fields['content-length']],
      [null, undefined, undefined],
    )
  })

  it('is rejected for a blocked path in any spelling', async (t) => {
    for (const path of ['/metrics', '//metrics/x', '/%6detrics'])
      await assert.rejects(prepare(t, {}, { path }), { code: 'FLEET_ERR_PATH_BLOCKED' })
    await prepare(t, { block: [] }, { path: '/metrics' })
  })

  it('has a body up to bodyLimit, else up to that of the app unless that is Fastify’s default', async (t) => {
    const inject = { method: 'POST', payload: 'body', headers: { 'content-type': 'text/plain' } } as const
    const tooLarge = { code: 'FLEET_ERR_BODY_TOO_LARGE' }
    await prepare(t, { bodyLimit: 4 }, { inject })
    await assert.rejects(prepare(t, { bodyLimit: 3 }, { inject }), tooLarge)
    await assert.rejects(prepare(t, {}, { inject, bodyLimit: 3 }), tooLarge)
    await prepare(t, { bodyLimit: 4 }, { inject, bodyLimit: 3 })
    const long = { ...inject, payload: 'x'.repeat(1_048_577) }
    await prepare(t, {}, { inject: long })
  })
})

describe('the balancer of the proxy plugin', () => {
  const probe = (options: ReplyFromOptions): unknown => {
    const forwarder = new Forwarder(options, 0)
    void forwarder.close()
    return forwarder
  }

  it('does not probe a single target unless it is told to', async (t) => {
    const type = async (options: ReplyFromOptions): Promise<string> =>
      (await prepare(t, options)).balancer.options.probe.type
    assert.equal(await type({}), 'off')
    assert.equal(await type({ probe: { type: 'tcp' } }), 'tcp')
    assert.equal(await type({ targets: [target, 'http://127.0.0.1:2'] }), 'http')
    assert.equal(await type({ targets: [], discover: () => () => {} }), 'http')
  })

  it('comes with a watch for clients that do not read for sendTimeoutMs', async (t) => {
    const forwarder = new Forwarder({ targets: [target], sendTimeoutMs: 404 }, 0)
    const { mock } = t.mock.method(globalThis, 'setInterval')
    const stream = new Duplex()
    forwarder.stalls.add(stream)
    assert.deepEqual(
      mock.calls.map((call) => call.arguments[1]),
      [101],
    )
    stream.destroy()
    await forwarder.close()
  })

  it('is required, or a way to choose upstreams', () => {
    assert.throws(() => probe({}), { code: 'FLEET_ERR_OPTION_INVALID', message: /needs `targets`/ })
    probe({ getUpstream: () => target })
  })

  it('that the app gave is neither started nor closed by the plugin', async (t) => {
    const balancer = new Balancer([target], { probe: { type: 'off' } })
    t.after(() => balancer.close())
    const calls: string[] = []
    for (const name of ['ready', 'close'] as const) t.mock.method(balancer, name, async () => void calls.push(name))
    const given = new Forwarder({ balancer }, 0)
    await given.ready()
    await given.close()
    assert.deepEqual(calls, [])
    const prepared = await prepare(t, { targets: [], balancer } as ReplyFromOptions)
    assert.equal(prepared.balancer, balancer)
    t.mock.restoreAll()
    const closed: unknown[] = []
    t.mock.method(Balancer.prototype, 'close', async function (this: Balancer) {
      closed.push(this)
    })
    const own = new Forwarder({ targets: [target] }, 0)
    await own.ready()
    await own.close()
    assert.equal(closed.length, 1)
  })

  it('is one per chosen upstream, for up to 100 of them, the least recently used of which is closed', async (t) => {
    let port = 1
    const forwarder = new Forwarder({ getUpstream: () => `http://127.0.0.1:${port}` }, 0)
    t.after(() => forwarder.close())
    const closed: string[] = []
    t.mock.method(Balancer.prototype, 'close', async function (this: Balancer) {
      closed.push(...this.targets.map(({ url }) => url.port))
    })
    const app = Fastify()
    t.after(() => app.close())
    let balancer: unknown
    app.get('/', async (request) => {
      balancer = (await forwarder.prepare(request, { path: '/', search: '' }, {})).balancer
    })
    const use = async (which: number): Promise<unknown> => {
      port = which
      await app.inject('/')
      return balancer
    }
    const first = await use(1)
    for (let i = 2; i <= 100; i++) await use(i)
    assert.deepEqual([await use(1), closed], [first, []])
    await use(101)
    assert.deepEqual(closed, ['2'])
    await forwarder.close()
    assert.equal(closed.length, 101)
  })

  it('is another one for each path of a server, below which requests go', async (t) => {
    let path = ''
    const forwarder = new Forwarder({ getUpstream: () => target + path }, 0)
    const app = Fastify()
    t.after(() => Promise.all([app.close(), forwarder.close()]))
    const basePaths: string[] = []
    app.get('/', async (request) => {
      const { balancer } = await forwarder.prepare(request, { path: '/', search: '' }, {})
      basePaths.push(...balancer.targets.map(({ basePath }) => basePath))
    })
    for (path of ['/tenant-a', '/tenant-b', '/tenant-a']) await app.inject('/')
    assert.deepEqual(basePaths, ['/tenant-a', '/tenant-b', '/tenant-a'])
  })
})

describe('a response that the proxy plugin forwards', () => {
  const head = { status: 200, message: '', headers: {}, draining: false }

  /** Forwards a request to an upstream that `play` stands for. */
  async function forwarded(
    t: TestContext,
    play: (response: ResponseBody, exchange: Exchange, reply: FastifyReply) => void,
    options: ForwardOptions = {},
  ): Promise<LightMyRequestResponse> {
    const app = Fastify()
    const forwarder = new Forwarder({ targets: [target] }, 0)
    t.after(() => Promise.all([app.close(), forwarder.close()]))
    let done: Promise<void> | undefined
    app.get('/', (request, reply) => {
      t.mock.method(Balancer.prototype, 'dispatch', (_: unknown, response: ResponseBody) => {
        const exchange = { done: false, pause: () => undefined, resume: () => undefined } as unknown as Exchange
        exchange.abort = (reason) => {
          Object.assign(exchange, { done: true })
          response.onResponseError(exchange, reason)
        }
        response.onRequestStart(exchange)
        play(response, exchange, reply)
        return exchange
      })
      done = forwarder.forward(request, reply, { path: '/', search: '' }, options)
    })
    const found = await app.inject('/')
    await done
    return found
  }

  it('is dropped if the app has sent one meanwhile', async (t) => {
    const calls: string[] = []
    let late: Exchange | undefined
    const { body } = await forwarded(
      t,
      (response, exchange, reply) => {
        late = exchange
        reply.send('of the app')
        response.onResponseHead(exchange, head)
      },
      { onResponse: () => void calls.push('onResponse') },
    )
    assert.deepEqual([body, calls, late?.done], ['of the app', [], true])
  })

  it('is dropped, also if it is an error, while the app sends one', async (t) => {
    for (const arrive of [
      (response: ResponseBody, exchange: Exchange) => {
        response.onResponseHead(exchange, head)
        response.onResponseData(exchange, Buffer.from('of the upstream'))
      },
      (response: ResponseBody, exchange: Exchange) => response.onResponseError(exchange, new Error('late')),
    ]) {
      const { body } = await forwarded(t, (response, exchange, reply) => {
        async function* parts() {
          yield 'of '
          await new Promise(setImmediate)
          arrive(response, exchange)
          await new Promise(setImmediate)
          yield 'the app'
        }
        reply.send(Readable.from(parts()))
      })
      assert.equal(body, 'of the app')
      t.mock.restoreAll()
    }
  })
})

describe('an error of the proxy plugin', () => {
  function fail(thrown: unknown, options: ReplyFromOptions = {}, state: object = {}, request: object = {}) {
    const calls: unknown[] = []
    const record =
      (name: string) =>
      (...values: unknown[]) => {
        calls.push([name, ...values.map((value) => (value instanceof Error ? value.message : value))])
        return reply
      }
    const raw = { headersSent: false, destroy: () => calls.push('destroy') }
    const reply = {
      sent: false,
      raw,
      header: record('header'),
      code: record('code'),
      type: record('type'),
      send: record('send'),
    }
    Object.assign(reply, state)
    const whole = { raw: { complete: true }, headers: {}, log: { error: () => calls.push('logged') }, ...request }
    const forwarder = new Forwarder({ targets: [target], ...options }, 0)
    forwarder.fail(whole as unknown as FastifyRequest, reply as unknown as FastifyReply, thrown)
    void forwarder.close()
    return calls
  }
  const full = new FleetError('FLEET_ERR_QUEUE_FULL', undefined, { retryAfter: 3 })

  it('is sent with its headers, and ends the connection of an incomplete request', () => {
    assert.deepEqual(fail(full), [
      ['header', 'retry-after', '3'],
      ['send', full.message],
    ])
    assert.deepEqual(fail(full, {}, {}, { raw: { complete: false } })[1], ['header', 'connection', 'close'])
    assert.equal(fail(full, {}, {}, { raw: { complete: false, stream: {} } }).length, 2)
    assert.deepEqual(fail('text'), [['send', 'text']])
  })

  it('breaks a response that has begun', () => {
    assert.deepEqual(fail(full, {}, { sent: true }), ['destroy'])
    const calls: string[] = []
    fail(full, {}, { raw: { headersSent: true, destroy: () => calls.push('destroy') } })
    assert.deepEqual(calls, ['destroy'])
  })

  it('goes to onError with a status, or as a page to those who prefer one', () => {
    let seen: { statusCode: number } | undefined
    fail(new Error('bug'), {
      onError: (_, { error }) => {
        seen = error
      },
    })
    assert.equal(seen?.statusCode, 500)
    const errorPage = (status: number): string | undefined => (status === 503 ? 'page' : undefined)
    const html = { headers: { accept: 'text/html' } }
    assert.deepEqual(fail(full, { errorPage }, {}, html).slice(1), [
      ['code', 503],
      ['type', 'text/html; charset=utf-8'],
      ['send', 'page'],
    ])
    assert.deepEqual(fail(new Error('bug'), { errorPage }, {}, html), [['send', 'bug']])
    assert.deepEqual(fail(full, { errorPage }).slice(1), [['send', full.message]])
  })

  it('that cannot be sent is logged, and ends the connection', async () => {
    const thrown = fail(full, {
      onError: () => {
        throw new Error('bug')
      },
    })
    const rejected = fail(full, { onError: () => Promise.reject(new Error('bug')) })
    await new Promise(setImmediate)
    for (const calls of [thrown, rejected]) assert.deepEqual(calls.slice(1), ['logged', 'destroy'])
  })
})
