import assert from 'node:assert/strict'
import type { RequestListener } from 'node:http'
import { test } from 'node:test'
import Fastify from 'fastify'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { repeat } from '../helpers/repeat.ts'
import { until } from '../helpers/until.ts'
import { startUpstream, targets } from '../helpers/upstream.ts'
import { type Front, startFront, tally } from './front.ts'

const healthy: RequestListener = (_request, response) => response.end('ok')
/** Reads the whole request, as if to execute it, then closes the connection. */
const dying: RequestListener = (request) => request.resume().once('end', () => request.socket.destroy())
/** Rejects requests that nginx may retry elsewhere, as a draining instance does. */
const draining: RequestListener = (request, response) =>
  request.headers['x-fleet-retry'] === undefined ? healthy(request, response) : response.writeHead(502).end('draining')

/** A separate nginx in front of three instances with these handlers. */
async function three(handlers: readonly RequestListener[], values: Record<string, string> = {}) {
  const instances = await Promise.all(handlers.map((handler, index) => startUpstream('abc'[index] ?? '', handler)))
  const front: Front = await startFront({
    FLEET_TARGETS: targets(...instances),
    FLEET_FAIL_TIMEOUT: '60s',
    FLEET_WORKERS: 1,
    ...values,
  })
  const requestCount = (): number => instances.reduce((sum, { seen }) => sum + seen.length, 0)
  return { front, instances, requestCount }
}

for (const method of ['POST', 'PATCH']) {
  test(`does not repeat a ${method} that was sent`, async () => {
    const { front, requestCount } = await three([dying, dying, dying])
    for (const turn of [1, 2, 3]) {
      const { status, body } = await front.send('/orders', { method, body: 'x'.repeat(100_000) })
      assert.deepEqual([status, JSON.parse(body).statusCode], [502, 502])
      assert.equal(requestCount(), turn)
    }
    // By now all are marked as failed: a request that was not sent goes to the last resort, is sent there, and is not
    // repeated.
    assert.equal((await front.send('/orders', { method, body: 'x' })).status, 502)
    assert.equal(requestCount(), 4)
  })
}

test('does not repeat a POST without a response', async () => {
  const { front, requestCount, instances } = await three([(request) => void request.resume(), healthy, healthy])
  const response = front.send('/orders', { method: 'POST', body: 'x' })
  const { promise: read, resolve } = Promise.withResolvers<void>()
  const look = setInterval(() => requestCount() === 1 && resolve(), 5)
  await read
  clearInterval(look)
  await instances[0]?.stop()
  assert.deepEqual([(await response).status, requestCount()], [502, 1])
})

test('sends a POST to another instance if the first is unreachable', async () => {
  const { front, instances, requestCount } = await three([healthy, healthy, healthy])
  await instances[0]?.stop()
  await instances[1]?.stop()
  const responses = await Promise.all(
    Array.from({ length: 20 }, () => front.send('/orders', { method: 'POST', body: 'x' })),
  )
  for (const { status, by } of responses) assert.deepEqual([status, by], [200, 'c'])
  assert.equal(requestCount(), 20)
})

test('repeats a GET on another instance if the first crashes', async () => {
  const { front } = await three([dying, dying, healthy])
  assert.deepEqual(await tally(9, () => front.send('/')), { c: 9 })
})

test('sends no retryable request to a draining instance, and loses none', async () => {
  const { front, instances } = await three([draining, healthy, draining])
  const counts = await tally(20, () => front.send('/'))
  assert.deepEqual(counts, { b: 20 })
  assert.ok(instances.every(({ seen }) => seen.length > 0))
  assert.deepEqual(await tally(10, () => front.send('/', { method: 'POST' })), { b: 10 })
})

for (const policy of ['round-robin', 'least-conn', 'ip-hash', 'random-two', 'sticky']) {
  test(`${policy}: an instance that is back serves at once after all were marked as failed`, async () => {
    const { front, instances, requestCount } = await three([healthy, healthy, healthy], { FLEET_POLICY: policy })
    for (const instance of instances) await instance.stop()
    const down = await front.send('/', { method: 'POST', body: 'x' })
    const { statusCode, code } = JSON.parse(down.body)
    assert.deepEqual([down.status, statusCode, code, requestCount()], [503, 503, 'LB_ERR_UNAVAILABLE', 0])
    assert.match(String(down.headers['retry-after']), /^\d+$/)
    assert.equal((await front.send('/')).status, 503)
    await instances[1]?.start()
    const post = (): ReturnType<Front['send']> => front.send('/', { method: 'POST', body: 'x' })
    assert.deepEqual(await tally(10, () => front.send('/')), { b: 10 })
    assert.deepEqual(await tally(10, post), { b: 10 })
    assert.equal(requestCount(), 20)
  })
}

test('omits X-Fleet-Retry when all instances are marked as failed, so that a draining one serves', async () => {
  const { front, instances } = await three([draining, draining, healthy])
  assert.deepEqual(await tally(6, () => front.send('/')), { c: 6 })
  await instances[2]?.stop()
  const counts = await tally(10, () => front.send('/'))
  assert.equal((counts.a ?? 0) + (counts.b ?? 0), 10)
})

test('learns that a listener is about to close from an instance that knows no other one', async (t) => {
  const start = async () => {
    const app = Fastify()
    await app.register(lifecycle, { signals: false })
    app.route({ method: ['GET', 'POST'], url: '/', handler: async () => 'ok' })
    t.after(() => app.close())
    const seen: { method: string; status: number; listens: boolean }[] = []
    app.addHook('onResponse', async ({ method }, { statusCode: status }) => {
      seen.push({ method, status, listens: app.server.listening })
    })
    return { app, seen, target: (await app.listen({ port: 0, host: '127.0.0.1' })).slice('http://'.length) }
  }
  const [a, b] = await Promise.all([start(), start()])
  const front = await startFront({
    FLEET_TARGETS: `${a.target} ${b.target}`,
    FLEET_FAIL_TIMEOUT: '60s',
    FLEET_WORKERS: 1,
  })
  const statuses = new Set<number>()
  a.app.fleet.drain()
  const stop = repeat(
    2,
    async (number) => void statuses.add((await front.send('/', { method: number === 0 ? 'GET' : 'POST' })).status),
    5,
  )
  await until(() => new Set(a.seen.map(({ method }) => method)).size === 2, {
    what: 'requests of both methods in the drain',
  })
  assert.equal(await a.app.fleet.shutdown(), 0)
  await stop()
  assert.deepEqual([...statuses], [200])
  const rejected = a.seen.findIndex(({ status }) => status === 502)
  assert.ok(rejected > 1, 'it serves until then')
  assert.deepEqual(a.seen[rejected], { method: 'GET', status: 502, listens: true })
  assert.ok(
    a.seen.slice(rejected).every(({ listens }) => listens),
    'nothing arrives later',
  )
  assert.ok(b.seen.length > 0)
})
