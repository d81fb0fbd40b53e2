import assert from 'node:assert/strict'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { metrics } from '../../../src/instance/metrics/index.ts'
import { type OverloadOptions, overload } from '../../../src/instance/overload/index.ts'

const busyMs = 30

/**
 * An app with routes that block the event loop and routes that wait for `release`. Mocked time passes only while the
 * event loop is blocked, so the length of a turn does not depend on the machine.
 */
async function build(
  t: TestContext,
  options: OverloadOptions,
): Promise<{ app: FastifyInstance; release: () => void; send: (url: string) => Promise<LightMyRequestResponse> }> {
  let now = 1_000
  t.mock.method(performance, 'now', () => now)
  t.mock.timers.enable({ apis: ['setInterval'] })
  const app = Fastify()
  t.after(() => app.close())
  await app.register(overload, options)
  await app.register(lifecycle, { signals: false })
  await app.register(metrics)
  const busy = async (): Promise<object> => {
    now += busyMs
    return {}
  }
  const gate = Promise.withResolvers<void>()
  app.get('/busy', busy)
  app.get('/critical', { config: { critical: true } }, busy)
  app.get('/probe', { config: { probe: true } }, busy)
  app.get('/pending', async () => {
    await gate.promise
    return {}
  })
  app.get('/stream', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream' })
    reply.raw.write('data: 1\n\n')
    void gate.promise.then(() => reply.raw.end())
  })
  await app.ready()
  return { app, release: gate.resolve, send: async (url) => await app.inject(url) }
}

describe('overload', () => {
  it('sheds requests late in a long turn of the event loop', async (t) => {
    const { app, send } = await build(t, { burstMs: 10, minRequests: 1, retryAfter: 7 })
    const responses = await Promise.all(Array.from({ length: 5 }, () => send('/busy')))
    assert.deepEqual(
      responses.map(({ statusCode }) => statusCode),
      [200, 503, 503, 503, 503],
    )
    const { headers, body } = responses[1] as (typeof responses)[number]
    assert.equal(headers['retry-after'], '7')
    assert.equal(headers['cache-control'], 'no-store')
    assert.equal(headers['x-instance-id'], app.fleet.instance.id)
    assert.equal(JSON.parse(body).code, 'FLEET_ERR_OVERLOADED')
    assert.deepEqual(app.overload.refused, { turn: 4, concurrency: 0 })
    // The next turn admits requests again.
    await nextTurn()
    assert.equal((await send('/busy')).statusCode, 200)
  })

  it('never sheds probes and critical routes', async (t) => {
    const { app, send } = await build(t, { burstMs: 10, minRequests: 1 })
    const urls = ['/busy', '/critical', '/probe', '/critical', '/probe']
    const responses = await Promise.all(urls.map(send))
    assert.ok(responses.every(({ statusCode }) => statusCode === 200))
    assert.equal(app.overload.refused.turn, 0)
  })

  it('sheds nothing at or below minRequests, however slow', async (t) => {
    const { app, send } = await build(t, { burstMs: 10, minRequests: 4 })
    const statuses = async (count: number): Promise<number[]> =>
      (await Promise.all(Array.from({ length: count }, () => send('/busy')))).map(({ statusCode }) => statusCode)
    assert.deepEqual(await statuses(4), [200, 200, 200, 200])
    await nextTurn()
    assert.deepEqual(await statuses(6), [503, 503, 200, 200, 200, 200])
    assert.deepEqual(app.overload.refused, { turn: 2, concurrency: 0 })
  })

  it('applies the target in the second long turn without an idle moment and serves the newest', async (t) => {
    let now = 0
    t.mock.method(performance, 'now', () => now)
    t.mock.method(performance, 'eventLoopUtilization', () => ({ idle: 0, active: now, utilization: 1 }))
    const app = Fastify()
    t.after(() => app.close())
    await app.register(overload, { targetMs: 20, burstMs: 100, minRequests: 1 })
    app.get('/', async () => {
      now += 30
      return {}
    })
    await app.ready()
    const turn = async (count: number): Promise<number[]> => {
      const responses = await Promise.all(Array.from({ length: count }, () => app.inject('/')))
      await nextTurn()
      return responses.map(({ statusCode }) => statusCode)
    }
    assert.deepEqual(await turn(3), [200, 200, 200])
    assert.deepEqual(await turn(3), [200, 200, 200])
    assert.deepEqual(await turn(3), [503, 503, 200])
  })

  it('serves a burst that takes less than burstMs', async (t) => {
    const { app, send } = await build(t, {})
    const responses = await Promise.all(Array.from({ length: 8 }, () => send('/busy')))
    assert.ok(responses.every(({ statusCode }) => statusCode === 200))
    assert.equal(app.overload.saturated, false)
  })

  it('applies the concurrency limit at all times with latency: true', async (t) => {
    const { app, send, release } = await build(t, { latency: true, burstMs: 60_000 })
    const pending = Array.from({ length: app.overload.limit }, () => send('/pending'))
    const shed = await send('/pending')
    assert.equal(shed.statusCode, 503)
    assert.deepEqual(app.overload.refused, { turn: 0, concurrency: 1 })
    release()
    assert.ok((await Promise.all(pending)).every(({ statusCode }) => statusCode === 200))
    assert.equal((await send('/pending')).statusCode, 200)
  })

  it('does not count responses that have started', async (t) => {
    const { app, send, release } = await build(t, { latency: true, burstMs: 60_000 })
    const streams = Array.from({ length: app.overload.limit * 2 }, () => send('/stream'))
    assert.equal((await send('/busy')).statusCode, 200)
    assert.equal(app.fleet.flow?.waiting, 0)
    release()
    assert.ok((await Promise.all(streams)).every(({ statusCode }) => statusCode === 200))
  })

  it('counts shed requests by reason', async (t) => {
    const { app, send } = await build(t, { burstMs: 10, minRequests: 1 })
    await Promise.all([send('/busy'), send('/busy'), send('/busy')])
    const { body } = await send('/metrics')
    assert.match(body, /^fleet_overload_refused_total\{reason="turn"\} 2$/m)
    assert.match(body, /^fleet_overload_refused_total\{reason="concurrency"\} 0$/m)
    assert.match(body, /^fleet_overload_saturated 0$/m)
    assert.match(body, /^fleet_overload_limit 20$/m)
    Object.defineProperties(app.overload, { saturated: { value: true }, limit: { value: 7 } })
    const later = await app.metrics.metrics()
    assert.match(later, /^fleet_overload_saturated 1$/m)
    assert.match(later, /^fleet_overload_limit 7$/m)
    const saturated = app.metrics.getSingleMetric('fleet_overload_saturated') as { aggregator?: string }
    assert.equal(saturated.aggregator, 'max', 'one worker of several counts')
    assert.match(body, /http_request_duration_seconds_count\{[^}]*route="\/busy",status_code="503"[^}]*\} 2/)
  })

  it('rejects invalid options', async () => {
    for (const wrong of [{ targetMs: 0 }, { burstMs: 1 }, { minRequests: 0 }, { retryAfter: 0 }, { latency: 'yes' }]) {
      await assert.rejects(async () => await Fastify().register(overload, wrong as never), {
        code: 'FLEET_ERR_OPTION_INVALID',
      })
    }
  })
})
