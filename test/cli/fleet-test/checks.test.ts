import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { CheckContext } from '../../../src/cli/smoke/context.ts'
import { headers } from '../../../src/cli/smoke/headers.ts'
import { health } from '../../../src/cli/smoke/health.ts'
import { operatorPaths } from '../../../src/cli/smoke/operator-paths.ts'
import { sticky } from '../../../src/cli/smoke/sticky.ts'
import type { TargetResponse } from '../../../src/cli/target.ts'
import { context, from, type Handler, inTurn, recorder, response, target } from './stand-ins.ts'

describe('health', () => {
  const now = new Date().toISOString()
  const bodies: Record<string, Record<string, unknown>> = {
    '/live': { alive: true },
    '/alive': { alive: true },
    '/ready': { ready: true, timestamp: now, instanceId: 'a', version: '1', loadBalancerReady: true },
    '/health': {
      status: 'healthy',
      success: true,
      instanceId: 'a',
      color: 'blue',
      version: '1',
      uptime: 1,
      timestamp: now,
    },
  }
  const head = { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' }
  const right: Handler = (path) => ({ headers: head, json: bodies[path], instanceId: 'a' })
  const run = async (handler: Handler, given: Partial<CheckContext> = {}): Promise<string[]> => {
    const { results, said } = recorder()
    await health(context({ front: target(handler), ...given }), results)
    return said()
  }
  /** The fault of one path whose response differs in this. */
  const fault = async (path: string, change: Partial<TargetResponse>): Promise<string> => {
    const said = await run((asked, ...rest) => ({ ...right(asked, ...rest), ...(asked === path && change) }))
    assert.equal(said.filter((line) => line.startsWith('pass')).length, 3)
    return said.find((line) => line.startsWith('fail')) ?? ''
  }

  it('passes each path, asked twice for each instance, at most 20 times, and of each address', async () => {
    const line = (path: string, responses: string): string => `pass ${path}: ${responses}`
    const paths = Object.keys(bodies)
    const say = (responses: string) => paths.map((path) => line(path, responses))
    assert.deepEqual(await run(right), say('2 responses from 1 instance'))
    assert.deepEqual(await run(right, { expected: 3 }), say('6 responses from 1 instance'))
    assert.deepEqual(await run(right, { expected: 11 }), say('20 responses from 1 instance'))
    const next = inTurn(2)
    const both: Handler = (...asked) => ({ ...right(...asked), instanceId: next() })
    const direct = [target(both)]
    assert.deepEqual(await run(both, { direct }), say('3 responses from 2 instances'))
    assert.deepEqual(await run((...asked) => ({ ...right(...asked), instanceId: undefined })), say('2 responses'))
  })

  it('fails a response with a wrong status, type, cache header or error', async () => {
    assert.equal(await fault('/live', { status: 503 }), 'fail /live: 2 of 2 responses wrong: status 503 (http://front)')
    assert.match(await fault('/live', { error: 'ECONNRESET', status: 0 }), /wrong: ECONNRESET /)
    assert.match(await fault('/live', { headers: { ...head, 'content-type': 'text/html' } }), /the body is not JSON/)
    assert.match(await fault('/live', { headers: { 'cache-control': 'no-store' } }), /the body is not JSON/)
    assert.match(
      await fault('/live', { headers: { ...head, 'cache-control': 'max-age=1' } }),
      /Cache-Control is not no-store/,
    )
    assert.match(
      await fault('/live', { headers: { 'content-type': 'application/json' } }),
      /Cache-Control is not no-store/,
    )
  })

  it('fails a body without a member, with one of a wrong type, or with a detail', async () => {
    for (const [path, wrong] of [
      ['/live', { alive: 'true' }],
      ['/alive', { alive: false }],
      ['/ready', { ready: false }],
      ['/ready', { timestamp: 'yesterday' }],
      ['/ready', { timestamp: 3 }],
      ['/ready', { instanceId: '' }],
      ['/ready', { version: 1 }],
      ['/ready', { loadBalancerReady: 'yes' }],
      ['/health', { status: 'ok' }],
      ['/health', { success: 1 }],
      ['/health', { instanceId: undefined }],
      ['/health', { color: null }],
      ['/health', { version: '' }],
      ['/health', { uptime: '1' }],
      ['/health', { timestamp: '' }],
    ] as const) {
      const [[name, value]] = Object.entries(wrong) as [[string, unknown]]
      const said = await fault(path, { json: { ...bodies[path], ...wrong } })
      assert.ok(said.includes(`wrong: \`${name}\` is ${JSON.stringify(value)} `), said)
    }
    for (const status of ['degraded', 'unhealthy'])
      assert.equal(
        await run((path, ...rest) => ({
          ...right(path, ...rest),
          ...(path === '/health' && { json: { ...bodies[path], status } }),
        })).then((said) => said.join().includes('fail')),
        false,
      )
    for (const name of ['host', 'hostname', 'pid', 'checks', 'dependencies', 'error', 'stack'])
      assert.ok(
        (await fault('/health', { json: { ...bodies['/health'], [name]: 0 } })).includes(`it discloses \`${name}\``),
        name,
      )
  })

  it('names the address that is wrong, and advises to proxy a path that is nowhere', async () => {
    const bad = target(() => ({ status: 500 }), 'http://direct')
    const said = await run(right, { direct: [bad] })
    assert.equal(said[0], 'fail /live: 1 of 3 responses wrong: status 500 (http://direct)')
    assert.equal(said[1]?.startsWith('→'), false)
    const gone = await run(() => ({ status: 404 }))
    assert.equal(gone[1], '→ proxy this path to the instances')
  })
})

describe('headers', () => {
  const right = {
    'x-instance-id': 'a',
    'x-served-by': 'a',
    'x-response-time': '1.5ms',
    'x-session-shared': 'true',
    'x-load-balancer-ready': 'true',
    'x-stateless': 'true',
  }
  let id = 0
  const good = (change: object = {}, instanceId = 'a'): TargetResponse =>
    response({ instanceId, headers: { ...right, 'x-request-id': `r${id++}`, ...change } })
  const run = (...sample: TargetResponse[]): string[] => {
    const { results, said } = recorder()
    headers(context({ sample }), results)
    return said()
  }
  const all =
    'X-Instance-Id, X-Served-By, X-Response-Time, X-Session-Shared, X-Load-Balancer-Ready, X-Stateless, X-Request-Id'

  it('passes if every successful response has them', () => {
    assert.deepEqual(run(good(), good({ 'x-response-time': '12 ms' }), response({ status: 500 })), [
      `pass on every response: ${all}`,
    ])
    assert.deepEqual(run(response({ status: 500 })), ['skip no request succeeded'])
  })

  it('fails one that is missing or malformed', () => {
    const [passed, failed, fix] = run(good(), good({ 'x-served-by': undefined }))
    assert.equal(passed, `pass on every response: ${all.replace('X-Served-By, ', '')}`)
    assert.deepEqual([failed, fix], ['fail X-Served-By is missing on 1 of 2 responses', '→ see the option `headers`'])
    for (const [name, value] of [
      ['x-response-time', 'fast'],
      ['x-response-time', '1.5s'],
      ['x-session-shared', 'yes'],
      ['x-load-balancer-ready', '1'],
      ['x-instance-id', 'a b'],
      ['x-stateless', 'TRUE'],
    ])
      assert.match(run(good({ [name ?? '']: value })).join(), new RegExp(`fail X-[\\w-]+ is "${value}"`), name)
  })

  it('fails a request id that occurs twice', () => {
    const said = run(good({ 'x-request-id': 'one' }), good({ 'x-request-id': 'one' }), good({ 'x-request-id': 'two' }))
    assert.equal(said[1], 'fail 3 requests had 2 request ids')
  })

  it('fails state in the memory of one instance of several, and mentions it for a single one', () => {
    const own = { 'x-stateless': 'false' }
    const several = run(good(), good(own, 'b'))
    assert.deepEqual(several.slice(1), [
      'fail b sends `X-Stateless: false`: a client loses its state on another instance',
      '→ set REDIS_URL on each',
    ])
    assert.equal(run(good(own))[1], 'info a sends `X-Stateless: false`')
    assert.equal(run(good({ 'x-session-shared': 'false' }))[1], 'info the application has no sessions')
    assert.equal(run(good({ ...own, 'x-session-shared': 'false' })).length, 2)
  })
})

describe('operators’ paths', () => {
  const run = async (handler: Handler): Promise<string[]> => {
    const { results, said } = recorder()
    await operatorPaths(context({ front: target(handler) }), results)
    return said()
  }
  const hows = ['plainly', 'with a forged X-Forwarded-For', 'with encoded paths'] as const

  it('pass when they respond 404, plainly, with a forged address and with encoded paths', async () => {
    const asked: string[] = []
    const said = await run((path, { method = 'GET', headers }) => {
      asked.push([method, path, ...Object.entries(headers ?? {}).flat()].join(' '))
      return { status: 404 }
    })
    assert.deepEqual(
      said,
      hows.map((how, i) => `pass ${[7, 7, 5][i]} paths respond 404, requested ${how}`),
    )
    const lists = [
      '/health/detailed',
      '/metrics',
      '/fleet',
      ...['health', 'instances', 'metrics', 'config'].map((name) => `/api/v1/load-balancer/${name}`),
    ]
    for (const path of lists) {
      assert.ok(asked.includes(`GET ${path}`), path)
      assert.ok(asked.includes(`GET ${path} x-forwarded-for 127.0.0.1 x-real-ip 127.0.0.1`), path)
    }
    for (const path of [
      '/%6Detrics',
      '/%66leet',
      '/health/%64etailed',
      '/api/v1/load%2Dbalancer/instances',
      '/x/../metrics',
    ])
      assert.ok(asked.includes(`GET ${path}`), path)
  })

  it('fail when one responds with 2xx, or 503 with details', async () => {
    for (const open of [{ status: 200 }, { status: 503, json: {} }]) {
      const said = await run((path) => (path === '/metrics' ? open : { status: 404 }))
      assert.equal(said[0], `fail open to every client, requested plainly: /metrics (${open.status})`)
      assert.match(said[1] ?? '', /^→ reject these paths in the front/)
      assert.equal(said[4], 'pass 5 paths respond 404, requested with encoded paths')
    }
    const disguised = await run((path) => ({ status: path === '/%66leet' ? 200 : 404 }))
    assert.match(disguised.at(-2) ?? '', /^fail .* with encoded paths: \/%66leet \(200\)/)
  })

  it('pass with a remark when another status reveals that they exist', async () => {
    const said = await run((path) =>
      path === '/fleet' ? { status: 401 } : path === '/metrics' ? { status: 0, error: 'X' } : { status: 404 },
    )
    assert.equal(
      said[0],
      'pass 7 paths are closed, requested plainly, but 404 would disclose less: /metrics (X), /fleet (401)',
    )
    const closed = await run(() => ({ status: 503 }))
    assert.match(closed[0] ?? '', /^pass 7 paths are closed/)
  })
})

describe('sticky', () => {
  const run = async (handler: Handler, sample = from({ a: 3, b: 3 })): Promise<string[]> => {
    const { results, said } = recorder()
    await sticky(context({ front: target(handler), sample }), results)
    return said()
  }
  const address = 'info not by address: separate connections of one client reach several instances'

  it('is skipped with one instance', async () => {
    assert.deepEqual(await run(() => ({}), from({ a: 9 })), ['skip stickiness needs at least two responding instances'])
  })

  it('is by connection, by cookie, or neither', async () => {
    const next = inTurn(2)
    assert.deepEqual(await run(() => ({ instanceId: next() })), [
      address,
      'info not by connection: 20 requests over one reached 2 instances',
      'info not by cookie: none is set on /health',
    ])
    const sample = from({ a: 3, b: 3 }, { cookies: ['route=a', 'x=1'] })
    const cookies: (string | undefined)[] = []
    const both = await run((_path, { headers }, connection) => {
      if (connection !== 'connection 1') cookies.push(headers?.cookie)
      return { instanceId: 'a' }
    }, sample)
    assert.deepEqual(both, [
      address,
      'info by connection: a kept-alive connection stays with one instance (a front on layer 4 does)',
      'info by cookie (route, x): a client that sends it back stays with one instance',
    ])
    assert.deepEqual(cookies, Array(20).fill('route=a; x=1'))
    const neither = await run(() => ({ instanceId: next() }), sample)
    assert.equal(neither[2], 'info not by cookie: with route, x sent back, 2 instances respond')
  })
})
