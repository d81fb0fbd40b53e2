import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ResponseCounters } from '../../../src/state/history/counters.ts'
import { MemoryHistoryStore } from '../../../src/state/history/memory-store.ts'
import { isRange, pointsOf, routesOf } from '../../../src/state/history/points.ts'
import { maxRoutes, minuteMs, routesMs, startOf, stepMs } from '../../../src/state/history/store.ts'
import { back, counts } from './contract.ts'

const request = (url: string, method = 'GET', config = {}) => ({ method, routeOptions: { url, config } })

describe('the counters of an instance', () => {
  test('count responses by route, method and class, and start again when they are taken', () => {
    const counters = new ResponseCounters()
    const config = {}
    counters.observe(request('/a', 'GET', config), 200, 10)
    counters.observe(request('/a', 'GET', config), 404, 10)
    counters.observe(request('/a', 'POST', config), 503, 0)
    counters.observe({ method: 'GET', routeOptions: { config: {} } }, 404, 70_000)
    assert.deepEqual(counters.takeStep(), counts({ r: 4, c: 2, s: 1, 0: 1, 33: 2, 96: 1 }))
    assert.equal(counters.takeStep().size, 0)
    const routes = counters.takeRoutes()
    assert.deepEqual([...routes.keys()], ['GET /a', 'POST /a', 'GET unknown'])
    assert.deepEqual(routes.get('GET /a'), counts({ r: 2, c: 1, 33: 2 }))
    assert.deepEqual(routes.get('POST /a'), counts({ r: 1, s: 1, 0: 1 }))
    assert.equal(counters.takeRoutes().size, 0)
  })

  test('name the busiest routes and add up the others', () => {
    const counters = new ResponseCounters()
    for (let i = 0; i < 203; i++) {
      const route = request(`/${i}`)
      for (let n = 0; n < (i < 3 ? 1 : 2); n++) counters.observe(route, 200, 1)
    }
    const routes = counters.takeRoutes()
    assert.equal(routes.size, 201)
    assert.deepEqual(routes.get(''), counts({ m: 3, r: 3, 17: 3 }))
    assert.ok(!routes.has('GET /0'))
  })

  test('tell client errors from server errors, and shorten names', () => {
    const counters = new ResponseCounters()
    const config = {}
    for (const status of [200, 399, 400, 499, 500, 599]) counters.observe(request('/a', 'GET', config), status, 1)
    assert.deepEqual(counters.takeStep(), counts({ r: 6, c: 2, s: 2, 17: 6 }))
    counters.observe(request(`/${'x'.repeat(200)}`), 200, 1)
    assert.deepEqual([...counters.takeRoutes().keys()], ['GET /a', `GET /${'x'.repeat(195)}`])
  })

  test('count routes of one name together', () => {
    const counters = new ResponseCounters()
    for (let i = 0; i < 2; i++) counters.observe(request('/same', 'GET', {}), 200, 1)
    assert.deepEqual(counters.takeRoutes().get('GET /same')?.get('r'), 2)
  })
})

describe('what readers get', () => {
  const write = { process: 'a 1', back, routes: new Map() }

  test('is a point for each complete step with data, with the percentiles of all instances', async () => {
    const store = new MemoryHistoryStore()
    const now = Date.now()
    const start = now - (now % stepMs) - 2 * stepMs
    // One instance with 90 requests of up to 10 ms, and another one with 10 of up to a second.
    await store.add({ ...write, start, counts: counts({ n: 1, r: 90, c: 5, 33: 90, u: 200, k: 1_000 }) })
    await store.add({ ...write, start, counts: counts({ n: 1, r: 10, s: 3, x: 2, 66: 10, u: 600, k: 3_000 }) })
    await store.add({ ...write, start: start + stepMs, counts: counts({ n: 1, u: 250, k: 1_000 }) })
    await store.add({ ...write, start: start + 2 * stepMs, counts: counts({ n: 1 }) })
    const late = start + 2 * stepMs + 4_000
    const { points } = await pointsOf(store, late, '15m', 0)
    assert.deepEqual(points, [
      {
        ...{ at: start, instances: 2, requests: 100, clientErrors: 5, serverErrors: 3, shed: 2 },
        ...{ p50: 10.1, p95: 1_014, p99: 1_014, loop: 0.4, memory: 4_096_000 },
      },
      {
        ...{ at: start + stepMs, instances: 1, requests: 0, clientErrors: 0, serverErrors: 0, shed: 0 },
        ...{ p50: null, p95: null, p99: null, loop: 0.25, memory: 1_024_000 },
      },
    ])
    const early = await pointsOf(store, late - 1, '1h', 0)
    assert.deepEqual(
      [early.stepMs, early.points.map(({ at }) => at)],
      [stepMs, [start]],
      'the second may be incomplete',
    )
    assert.deepEqual(
      (await pointsOf(store, late, '15m', start)).points.map(({ at }) => at),
      [start + stepMs],
    )
    assert.deepEqual((await pointsOf(store, late, '15m', start + stepMs)).points, [])
  })

  test('has no instances if one only wrote what it did until it stopped', async () => {
    const store = new MemoryHistoryStore()
    const start = startOf(Date.now(), minuteMs) - minuteMs
    await store.add({ ...write, start, counts: counts({ r: 3 }) })
    for (const range of ['15m', '24h'] as const) {
      const { points } = await pointsOf(store, start + 2 * minuteMs, range, 0)
      assert.partialDeepStrictEqual(points, [{ at: start, instances: 0, requests: 3, loop: 0, memory: 0 }])
    }
  })

  test('covers the whole range, in steps of ten seconds or a minute', async () => {
    const store = new MemoryHistoryStore()
    const asked: [kind: string, starts: readonly number[]][] = []
    store.counts = async (kind, starts) => {
      asked.push([kind, starts])
      return []
    }
    const now = 1_800_000_000_000
    for (const range of ['15m', '1h', '24h'] as const) await pointsOf(store, now + 5_000, range, 0)
    assert.deepEqual(
      asked.map(([kind, starts]) => [kind, starts[0], starts.at(-1), starts.length]),
      [
        ['step', now - 900_000, now - stepMs, 90],
        ['step', now - 3_600_000, now - stepMs, 360],
        ['minute', now - 86_400_000, now - minuteMs, 1_440],
      ],
    )
    assert.deepEqual(['15m', '1h', '24h', '2h', 'toString', 15].map(isRange), [true, true, true, false, false, false])
  })

  test('is a point for each minute of a day', async () => {
    const store = new MemoryHistoryStore()
    const now = Date.now()
    const minute = now - (now % minuteMs) - 2 * minuteMs
    for (let i = 0; i < 6; i++)
      await store.add({ ...write, start: minute + i * stepMs, counts: counts({ n: 1, r: 1, u: 500, k: 2_000 }) })
    await store.add({ ...write, start: minute, counts: counts({ n: 1, u: 500, k: 2_000 }) })
    const { stepMs: step, points } = await pointsOf(store, now, '24h', 0)
    assert.equal(step, minuteMs)
    assert.partialDeepStrictEqual(points, [{ at: minute, instances: 2, requests: 6, loop: 0.5, memory: 4_096_000 }])
  })

  test('is the busiest routes, and how many are missing', async () => {
    const store = new MemoryHistoryStore()
    const now = Date.now()
    const start = startOf(now, routesMs)
    const routes = new Map([
      ['GET /a', counts({ r: 60, c: 1, 33: 60 })],
      ['POST /b c', counts({ r: 120, s: 2, 33: 120 })],
      ['', counts({ r: 5, m: 4 })],
    ])
    for (const at of [start, start - minuteMs])
      await store.add({ ...write, start: at, counts: counts({ n: 1 }), routes })
    const report = await routesOf(store, start + minuteMs)
    const { routes: late } = await routesOf(store, start + 6 * minuteMs)
    assert.equal(late[0]?.rps, 0.44, 'since the first three minutes with requests')
    const { routes: latest } = await routesOf(store, start + 15 * minuteMs - 1)
    assert.equal(latest[0]?.requests, 120, 'of the last 15 minutes')
    assert.deepEqual(await routesOf(store, start + 20 * minuteMs), { windowMs: 900_000, omitted: 0, routes: [] })
    assert.deepEqual(report, {
      ...{ windowMs: 900_000, omitted: 4 },
      routes: [
        {
          ...{ method: 'POST', route: '/b c', requests: 240, clientErrors: 0, serverErrors: 4, rps: 1 },
          ...{ p50: 10.1, p95: 10.1, p99: 10.1 },
        },
        {
          ...{ method: 'GET', route: '/a', requests: 120, clientErrors: 2, serverErrors: 0, rps: 0.5 },
          ...{ p50: 10.1, p95: 10.1, p99: 10.1 },
        },
      ],
    })
  })

  test('is at most 200 routes, and the number of all others', async () => {
    const store = new MemoryHistoryStore()
    const start = startOf(Date.now(), routesMs)
    const names = Array.from({ length: 2 * maxRoutes }, (_, i) => `GET /${i}`)
    for (const [i, at] of [start, start - minuteMs].entries()) {
      const routes = new Map(names.slice(i * 150, i * 150 + maxRoutes).map((name) => [name, counts({ r: 1 })]))
      await store.add({ ...write, start: at, counts: counts({ n: 1 }), routes })
    }
    const { routes, omitted } = await routesOf(store, start + minuteMs)
    assert.deepEqual([routes.length, omitted, routes[49]?.requests, routes[50]?.requests], [maxRoutes, 150, 2, 1])
  })
})
