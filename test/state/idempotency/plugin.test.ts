import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type InjectOptions, type LightMyRequestResponse } from 'fastify'
import { Redis } from 'ioredis'
import { FleetError } from '../../../src/base/errors.ts'
import { errorResponses } from '../../../src/instance/error-responses.ts'
import { identity } from '../../../src/instance/identity.ts'
import { type IdempotencyOptions, idempotency } from '../../../src/state/idempotency/index.ts'
import { MemoryIdempotencyStore } from '../../../src/state/idempotency/memory-store.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { forkApp } from '../../helpers/fork-app.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp } from '../redis/patience.ts'

const apps: FastifyInstance[] = []
after(() => Promise.all(apps.map((app) => app.close())))

let calls = 0
const on = { config: { idempotency: true } }

async function build(options: IdempotencyOptions, url?: string, commandTimeoutMs = 20_000): Promise<FastifyInstance> {
  const app = Fastify(patientApp)
  apps.push(app)
  await app.register(errorResponses)
  await app.register(identity, { name: 'orders' })
  await app.register(redis, url ? { url, ...patient, commandTimeoutMs } : { client: null })
  const instance = `instance ${apps.length}`
  app.addHook('onRequest', async (_, reply) => void reply.header('x-instance', instance))
  await app.register(idempotency, options)
  app.post('/orders', on, async (_, reply) =>
    reply
      .code(201)
      .headers({ location: `/orders/${++calls}`, 'set-cookie': 'a=b' })
      .send({ order: calls }),
  )
  app.put('/orders', on, async () => ({ order: ++calls }))
  app.post('/others', async () => ({ order: ++calls }))
  app.patch('/off', { config: { idempotency: false } }, async () => ({ order: ++calls }))
  app.post('/strict', { config: { idempotency: { required: true, ttlMs: 1_000 } } }, async () => ({ order: ++calls }))
  app.post<{ Params: { status: string } }>('/status/:status', on, async ({ params }, reply) =>
    reply.code(Number(params.status)).send({ order: ++calls }),
  )
  app.post('/throw', on, async () => {
    calls++
    throw new Error('out of order')
  })
  app.post('/bytes', on, async (_, reply) => reply.type('image/png').send(Buffer.from([0xff, 0, ++calls])))
  app.post('/text', on, async () => `order ${++calls}`)
  app.post('/empty', on, async (_, reply) => {
    calls++
    return reply.code(204).send()
  })
  app.post('/stream', on, async (_, reply) => reply.send(Readable.from([`order ${++calls}`])))
  app.post('/large', on, async () => ({ order: ++calls, padding: 'x'.repeat(2_000) }))
  app.post('/hijack', on, async (_, reply) => {
    reply.hijack()
    reply.raw.end(`order ${++calls}`)
  })
  const authenticate = async ({ headers }: { headers: Record<string, unknown> }) => {
    if (headers.authorization === undefined) throw new FleetError('FLEET_ERR_TOKEN_MISSING')
  }
  app.post('/private', { ...on, preHandler: authenticate }, async () => ({ order: ++calls }))
  app.post('/slow', on, () => {
    slow.begun.resolve()
    return slow.response.promise
  })
  return app
}

/** The promises of `/slow`: its handler has begun, and its response. */
const pendingResponse = () => ({ begun: Promise.withResolvers<void>(), response: Promise.withResolvers<unknown>() })
let slow = pendingResponse()

/** Sends a request that stays in its handler until `slow.response` is settled. */
async function inFlight(app: FastifyInstance, key: string): Promise<{ response: Promise<LightMyRequestResponse> }> {
  slow = pendingResponse()
  const response = Promise.resolve(app.inject(post('/slow', key)))
  await Promise.race([slow.begun.promise, response.then(({ body }) => assert.fail(body))])
  return { response }
}

const post = (url: string, key?: string, more: InjectOptions = {}): InjectOptions => ({
  method: 'POST',
  url,
  payload: { item: 1 },
  ...more,
  headers: { ...(key && { 'idempotency-key': key }), ...more.headers },
})

function pluginContract(name: string, open: (options?: IdempotencyOptions) => Promise<FastifyInstance>): void {
  describe(name, () => {
    let app: FastifyInstance
    let other: FastifyInstance
    before(async () => {
      app = await open({ maxResponseBytes: 1_000 })
      other = name === 'in Redis' ? await open({ maxResponseBytes: 1_000 }) : app
    })
    // `inject()` does not start before its result is awaited.
    const send = async (request: InjectOptions, to: FastifyInstance = app) => await to.inject(request)

    test('sends the first response to a repetition, from any instance, without running it again', async () => {
      const key = randomUUID()
      const first = await send(post('/orders', key))
      const done = calls
      for (const to of [app, other, other]) {
        const again = await send(post('/orders', key), to)
        assert.deepEqual([again.statusCode, again.body], [201, first.body])
        assert.equal(again.headers.location, first.headers.location)
        assert.equal(again.headers['content-type'], first.headers['content-type'])
        assert.equal(again.headers['idempotency-replayed'], 'true')
        assert.equal(again.headers['set-cookie'], undefined)
        const { headers } = await send(post('/others'), to)
        assert.equal(again.headers['x-instance'], headers['x-instance'], 'the header of the instance that responds')
      }
      assert.equal(first.headers['idempotency-replayed'], undefined)
      assert.equal(calls, done + 3)
    })

    test('runs requests without a key and on other routes every time', async () => {
      const done = calls
      const key = randomUUID()
      for (const url of ['/orders', '/orders']) await send(post(url))
      for (const url of ['/others', '/others']) await send(post(url, key))
      assert.equal(calls, done + 4)
    })

    test('treats a quoted key as the same key', async () => {
      const key = randomUUID()
      const first = await send(post('/orders', `"${key}"`))
      assert.equal((await send(post('/orders', key))).body, first.body)
    })

    test('rejects invalid keys, and a missing key where one is required, with 400', async () => {
      const done = calls
      for (const key of [' ', '"', '""', '"a', 'a b', 'a,b', 'x'.repeat(256), '"a", "b"', 'ä', '"\\x"']) {
        const response = await send(post('/orders', key))
        assert.deepEqual([response.statusCode, response.json().code], [400, 'FLEET_ERR_IDEMPOTENCY_KEY_INVALID'], key)
      }
      const response = await send(post('/strict'))
      assert.deepEqual([response.statusCode, response.json().code], [400, 'FLEET_ERR_IDEMPOTENCY_KEY_MISSING'])
      assert.equal(calls, done)
    })

    test('rejects the same key for another request with 422', async () => {
      const key = randomUUID()
      await send(post('/orders', key))
      const done = calls
      for (const request of [
        post('/orders', key, { payload: { item: 2 } }),
        post('/orders', key, { payload: {} }),
        post('/orders?express', key),
        post('/orders', key, { method: 'PUT' }),
        post('/text', key),
      ]) {
        const response = await send(request, other)
        assert.deepEqual([response.statusCode, response.json().code], [422, 'FLEET_ERR_IDEMPOTENCY_KEY_REUSED'])
      }
      assert.equal(calls, done)
    })

    test('rejects a repetition while the first request is in flight with 409', async () => {
      const key = randomUUID()
      const { response } = await inFlight(app, key)
      const busy = await send(post('/slow', key), other)
      assert.equal(busy.statusCode, 409)
      assert.equal(busy.json().code, 'FLEET_ERR_IDEMPOTENCY_IN_FLIGHT')
      assert.equal(busy.headers['retry-after'], '1')
      slow.response.resolve({ order: 'slow' })
      assert.equal((await response).statusCode, 200)
      assert.deepEqual((await send(post('/slow', key), other)).json(), { order: 'slow' })
    })

    test('runs one of many concurrent requests', async () => {
      const key = randomUUID()
      const done = calls
      const responses = await Promise.all(
        Array.from({ length: 50 }, (_, n) => send(post('/orders', key), n % 2 ? app : other)),
      )
      assert.equal(calls, done + 1)
      for (const { statusCode } of responses) assert.ok(statusCode === 201 || statusCode === 409, `${statusCode}`)
    })

    test('runs a failed request again and replays a rejection', async () => {
      for (const [url, statusCode, times] of [
        ['/throw', 500, 2],
        ['/status/503', 503, 2],
        ['/status/429', 429, 2],
        ['/status/422', 422, 1],
        ['/status/404', 404, 1],
      ] as const) {
        const [key, done] = [randomUUID(), calls]
        for (const to of [app, other]) assert.equal((await send(post(url, key), to)).statusCode, statusCode)
        assert.equal(calls, done + times, url)
      }
    })

    test('replays any body unchanged', async () => {
      for (const url of ['/bytes', '/text', '/empty']) {
        const [key, done] = [randomUUID(), calls]
        const [first, again] = [await send(post(url, key)), await send(post(url, key), other)]
        assert.deepEqual(again.rawPayload, first.rawPayload)
        assert.deepEqual(
          [again.statusCode, again.headers['content-type']],
          [first.statusCode, first.headers['content-type']],
        )
        assert.equal(calls, done + 1)
      }
    })

    test('responds 409 to a repetition if the response cannot be stored', async () => {
      for (const url of ['/stream', '/large', '/hijack']) {
        const [key, done] = [randomUUID(), calls]
        assert.equal((await send(post(url, key))).statusCode, 200)
        const again = await until(async () => {
          const response = await send(post(url, key), other)
          return response.json().code === 'FLEET_ERR_IDEMPOTENCY_IN_FLIGHT' ? undefined : response
        })
        assert.deepEqual([again.statusCode, again.json().code], [409, 'FLEET_ERR_IDEMPOTENCY_ANSWER_LOST'])
        assert.equal(calls, done + 1)
      }
    })

    test('does not replay a response to another caller or without authorization', async () => {
      const key = randomUUID()
      const as = (authorization?: string) =>
        send(post('/private', key, { headers: authorization ? { authorization } : {} }))
      const ann = await as('Bearer ann')
      assert.equal((await as('Bearer ann')).body, ann.body)
      assert.notEqual((await as('Bearer bob')).body, ann.body)
      assert.equal((await as()).statusCode, 401)
    })

    test('expires a response after the ttlMs of its route', async () => {
      const [key, began] = [randomUUID(), performance.now()]
      const { body } = await send(post('/strict', key))
      const again = await send(post('/strict', key))
      if (performance.now() - began < 1_000) assert.equal(again.body, body)
      await until(async () => (await send(post('/strict', key))).body !== body)
    })

    test('global: accepts keys on every POST and PATCH route without `idempotency: false`', async () => {
      const all = await open({ global: true })
      for (const [url, method, times] of [
        ['/others', 'POST', 1],
        ['/off', 'PATCH', 2],
      ] as const) {
        const [key, done] = [randomUUID(), calls]
        for (let n = 0; n < 2; n++) await send(post(url, key, { method }), all)
        assert.equal(calls, done + times, url)
      }
    })
  })
}

let server: RedisServer
before(async () => {
  server = await startRedis()
})
pluginContract('in memory', (options = {}) => build(options))
pluginContract('in Redis', (options = {}) => build(options, server.url))

test('rejects invalid options at boot', async () => {
  const isOptionError = (error: unknown): boolean =>
    error instanceof FleetError && error.code.startsWith('FLEET_ERR_OPTION_')
  await assert.rejects(build({ lockMs: 1 }), isOptionError)
  await assert.rejects(
    build({ whenDown: 'proceed' } as never),
    /`idempotency\.whenDown` is now `onOutage: 'reject' \| 'allow'`/,
  )
  const app = await build({})
  const config = { idempotency: { ttl: 1 } as never }
  assert.throws(() => app.post('/odd', { config }, async () => 1), isOptionError)
})

test('sends a response once it is stored, and an error once its key is free', async (t) => {
  const app = await build({})
  for (const [method, url, status] of [
    ['complete', '/orders', 201],
    ['release', '/throw', 500],
  ] as const) {
    const [asked, written] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const write = MemoryIdempotencyStore.prototype[method] as (...given: unknown[]) => Promise<unknown>
    const slowly = async function (this: MemoryIdempotencyStore, ...given: unknown[]): Promise<unknown> {
      asked.resolve()
      await written.promise
      return write.apply(this, given)
    }
    const slow = t.mock.method(MemoryIdempotencyStore.prototype, method, slowly as never)
    const sent: number[] = []
    const response = Promise.resolve(app.inject(post(url, randomUUID()))).then(({ statusCode }) => {
      sent.push(statusCode)
    })
    await asked.promise
    // Every task that is ready runs before the next one. A response that did not wait would be sent meanwhile.
    for (let i = 0; i < 20; i++) await turn()
    assert.deepEqual(sent, [], method)
    written.resolve()
    await response
    assert.deepEqual(sent, [status])
    slow.mock.restore()
  }
})

test('counts the keys of a client on all instances together', async () => {
  const [one, two] = [await build({ maxKeys: 2 }, server.url), await build({ maxKeys: 2 }, server.url)]
  const ask = async (app: FastifyInstance): Promise<number> =>
    (await app.inject(post('/orders', randomUUID(), { remoteAddress: '10.9.9.9' }))).statusCode
  assert.deepEqual([await ask(one), await ask(two), await ask(one), await ask(two)], [201, 201, 429, 429])
})

describe('without Redis', () => {
  test('rejects requests with a key and serves the others', async () => {
    const own = await startRedis()
    const app = await build({}, own.url)
    await app.ready()
    await own.kill('SIGKILL')
    await until(() => app.redis?.status !== 'ready')
    const response = await app.inject(post('/orders', randomUUID()))
    assert.deepEqual([response.statusCode, response.headers['retry-after']], [503, '1'])
    assert.equal(response.json().code, 'FLEET_ERR_STATE_UNAVAILABLE')
    assert.doesNotMatch(response.body, /redis|connect|stream/i)
    assert.equal((await app.inject(post('/orders'))).statusCode, 201)
  })

  test('runs requests with a key unprotected with `onOutage: allow`', async () => {
    const own = await startRedis()
    const app = await build({ onOutage: 'allow' }, own.url, 200)
    await app.ready()
    await own.kill('SIGSTOP')
    assert.equal((await app.inject(post('/orders', randomUUID()))).statusCode, 201)
    await own.kill('SIGCONT')
  })

  test('sends the response even if it cannot be stored', async () => {
    const own = await startRedis()
    const app = await build({}, own.url)
    const { response } = await inFlight(app, randomUUID())
    await own.kill('SIGKILL')
    slow.response.resolve({ order: 'slow' })
    assert.deepEqual((await response).json(), { order: 'slow' })
  })
})

describe('a command to Redis, or its reply, that is lost', () => {
  /** An instance behind a relay, and one with a direct connection to Redis. */
  async function pair(
    options: IdempotencyOptions,
  ): Promise<[relay: Relay, app: FastifyInstance, other: FastifyInstance]> {
    const relay = await Relay.open(server.port)
    const near = server.url.replace(String(server.port), String(relay.port))
    return [relay, await build(options, near, 1_000), await build(options, server.url)]
  }
  /** Repeats a request until its status is no longer the given one. */
  async function repeated(app: FastifyInstance, key: string, url: string, expected: number) {
    let last: LightMyRequestResponse | undefined
    await until(async () => {
      last = await app.inject(post(url, key))
      return last.statusCode !== expected
    })
    assert.equal(last?.headers['idempotency-replayed'], 'true', last?.body)
    return last as LightMyRequestResponse
  }

  for (const to of ['the same instance', 'another instance'])
    test(`stores the response when Redis is back, for ${to}`, async () => {
      const [relay, app, other] = await pair({ lockMs: 600_000 })
      const key = randomUUID()
      const { response } = await inFlight(app, key)
      relay.refuse()
      await until(() => app.redis?.status !== 'ready')
      slow.response.resolve({ order: 'once' })
      assert.deepEqual((await response).json(), { order: 'once' })
      // The response is not in Redis yet, and the request does not run again.
      assert.equal((await other.inject(post('/slow', key))).statusCode, 409)
      await relay.restore()
      const again = to === 'another instance' ? repeated(other, key, '/slow', 409) : repeated(app, key, '/slow', 503)
      assert.deepEqual((await again).json(), { order: 'once' })
    })

  test('releases the key of a failed request when Redis is back', async () => {
    const [relay, app, other] = await pair({ lockMs: 600_000 })
    const key = randomUUID()
    const { response } = await inFlight(app, key)
    relay.refuse()
    await until(() => app.redis?.status !== 'ready')
    slow.response.reject(new Error('out of order'))
    assert.equal((await response).statusCode, 500)
    slow.response = Promise.withResolvers()
    slow.response.resolve({ order: 'second' })
    await relay.restore()
    const again = await until(async () => {
      const response = await other.inject(post('/slow', key))
      return response.statusCode === 409 ? undefined : response
    })
    assert.deepEqual(again.json(), { order: 'second' })
  })

  for (const onOutage of ['reject', 'allow'] as const)
    test(`${onOutage}: a repetition is not blocked by a claim whose reply was lost`, async () => {
      const [relay, app] = await pair({ lockMs: 600_000, onOutage })
      await app.ready()
      const [key, done] = [randomUUID(), calls]
      relay.delay(600_000)
      const first = await app.inject(post('/orders', key))
      assert.equal(first.statusCode, onOutage === 'allow' ? 201 : 503)
      await relay.restore()
      await until(() => app.redis?.ping())
      const again = await app.inject(post('/orders', key))
      assert.equal(again.statusCode, 201, again.body)
      assert.equal(again.headers['idempotency-replayed'], onOutage === 'allow' ? 'true' : undefined)
      assert.equal(calls, done + 1)
    })
})

describe('processes', () => {
  test('a lock expires after its process died, and not before', async () => {
    const own = await startRedis()
    const client = new Redis(own.url)
    const start = async () => {
      const app = forkApp(new URL('server.fixture.ts', import.meta.url), { env: { REDIS_URL: own.url }, ipc: true })
      return { app, url: `${await until(() => app.messages[0] as string, { what: 'the server' })}/orders` }
    }
    const [holder, other] = await Promise.all([start(), start()])
    const send = (url: string) =>
      fetch(url, {
        method: 'POST',
        headers: { 'idempotency-key': 'k', 'content-type': 'application/json' },
        body: '{}',
      })
    const cut = send(holder.url).then(
      () => 'response',
      () => 'cut',
    )
    await until(async () => (await client.get('calls')) === '1', { what: 'the first request' })
    for (const since = performance.now(); performance.now() - since < 6_000; await sleep(50))
      assert.equal((await send(other.url)).status, 409)
    await holder.app.kill('SIGKILL')
    assert.equal(await cut, 'cut')
    const response = await until(async () => {
      const reply = await send(other.url)
      return reply.status === 200 ? reply : undefined
    })
    assert.deepEqual(await response.json(), { order: 2 })
    assert.deepEqual(await (await send(other.url)).json(), { order: 2 })
    await other.app.stop()
    client.disconnect()
  })
})

test('warns of the routes that the app had before only if `global` is set', async (t) => {
  for (const global of [true, false]) {
    const app = Fastify(patientApp)
    apps.push(app)
    app.post('/early', async () => 1)
    await app.register(identity, { name: 'orders' })
    await app.register(redis, { client: null })
    const warn = t.mock.method(app.log, 'warn')
    await app.register(idempotency, { global })
    const isWarning = ({ arguments: [text] }: { arguments: readonly unknown[] }): boolean =>
      /^`idempotency\.global` does not apply to the routes that were added before/.test(String(text))
    assert.equal(warn.mock.calls.some(isWarning), global)
  }
})
