import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, describe, test } from 'node:test'
import { Pool, request } from 'undici'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { raw } from '../edge/raw.ts'
import { Readers, spellings } from '../edge/spellings.ts'
import { freePort } from '../helpers/free-port.ts'
import { type Load, startLoad } from '../helpers/load.ts'
import { until } from '../helpers/until.ts'
import { Member } from './fleet.ts'
import { type Front, releases, render, startFront } from './haproxy.ts'

/** Starts instances of a pool, by id `POOL-1` …, and waits until they are ready. */
async function startPool(pool: string, count: number): Promise<Member[]> {
  const first = await freePort(2 * count)
  const env = { FLEET_NAME: randomUUID(), FLEET_POOL: pool, TRUST_PROXY: '127.0.0.1', DRAIN_DELAY: 800 }
  const members = Array.from({ length: count }, (_, i) => {
    const address = { host: '127.0.0.1', port: first + i, agentPort: first + count + i }
    return new Member(`${pool}-${i + 1}`, address, env)
  })
  await Promise.all(members.map((member) => member.start()))
  return members
}

const addresses = (members: readonly Member[]): string =>
  members.map(({ host, port, agentPort }) => `${host}:${port}:${agentPort}`).join(' ')

/** With one instance, retries wait for the time to connect. */
const quick = { LB_TIMEOUT_CONNECT: '100ms' }
const unlimited = { LB_RATE: '1000000', LB_RATE_TARPIT: '1000000' }
const routes =
  '/api/v2=v2, /api/v2/old=default //shop.example.com=v2 //shop.example.com/reports=heavy x-version:2=v2 x-version:1=default x-tenant:acme=heavy'

const [main, v2, heavy] = await Promise.all([startPool('default', 2), startPool('v2', 2), startPool('heavy', 1)])
const lists = {
  LB_SERVERS: addresses(main),
  LB_POOLS: 'v2 heavy dead',
  LB_POOL_V2_SERVERS: addresses(v2),
  LB_POOL_HEAVY_SERVERS: addresses(heavy),
  LB_POOL_DEAD_SERVERS: '127.0.0.1:1',
  LB_ROUTES: `${routes} /dead=dead`,
}

async function start(release: (typeof releases)[number], env: Record<string, string> = {}): Promise<Front> {
  const front = await startFront(release, { ...unlimited, ...quick, ...lists, ...env })
  await front.up('app-1', 'app-2', 'pool-v2/app-1', 'pool-v2/app-2', 'pool-heavy/app-1')
  await until(async () => (await front.server('app-1', 'pool-dead')).status === 'DOWN', { what: 'the dead pool' })
  return front
}

/** An upstream that records the targets of requests other than probes. */
async function startRecorder(): Promise<{ address: string; urls: string[]; close: () => void }> {
  const urls: string[] = []
  const server = createServer(({ url = '' }, response) => {
    if (url !== '/ready') urls.push(url)
    response.end('ok')
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, urls, close: () => server.close() }
}

const clients = new Map<string, Pool>()
/** Sends the path as it is, which `fetch` would normalise. */
const send = (front: Front, path: string, headers: Record<string, string> = {}, method: 'GET' | 'POST' = 'GET') => {
  const client = clients.get(front.url) ?? new Pool(front.url)
  clients.set(front.url, client)
  return client.request({ path, headers, method })
}
after(() => Promise.all([...clients.values()].map((client) => client.destroy())))

/** The pool that responds, or the status of the front. */
async function poolOf(...args: Parameters<typeof send>): Promise<string> {
  const response = await send(...args)
  await response.body.dump()
  return String(response.headers['x-instance-id'] ?? response.statusCode).replace(/-\d$/, '')
}

async function file(front: Front, name: string): Promise<string> {
  const [, path = assert.fail(name)] = new RegExp(`\\((\\S+/${name})\\)`).exec(await front.api('show map')) ?? []
  return path
}

for (const release of releases) {
  describe(`pools on HAProxy ${release.version}`, async () => {
    const front = await start(release)

    test('sends every spelling of a path to the pool of the longest route', async () => {
      const paths: Record<string, readonly string[]> = {
        v2: [
          ...[
            '/api/v2',
            '/api/v2/',
            '/api/v2/x?y=/z',
            '/api/v2?x',
            '/%61pi/v2/x',
            '//api///v2/x',
            '/API/V2/x',
            '/api/v2/older',
          ],
          ...[
            '/api;a=b/v2;c/x',
            '/api%2Fv2%2Fx',
            '/api\\v2',
            '/api/v2%3Fx',
            '/api/v2%23x',
            '/api/v2;x=y',
            '/;x/api/v2',
          ],
        ],
        default: [
          '/',
          '/api/v20',
          '/api/v2x/y',
          '/api',
          '/x/api/v2',
          '/api/v2/old',
          '/api/v2/OLD/x',
          '/?/api/v2',
          '/api-v2/x',
        ],
        dead: [],
      }
      for (const [pool, list] of Object.entries(paths))
        for (const path of list)
          for (const method of ['GET', 'POST'] as const) assert.equal(await poolOf(front, path, {}, method), pool, path)
      for (const path of ['/api/v2/../x', '/x/..%2fapi/v2', '/api/v2/..;/x'])
        assert.equal(await poolOf(front, path), '404')
    })

    test('passes no spelling of a path to the default pool that an instance there would route as the path', async () => {
      const readers = new Readers(['/api/v2'])
      await readers.listen()
      const recorders = await Promise.all([startRecorder(), startRecorder()])
      const [others, routed] = recorders
      const own = await startFront(release, {
        ...unlimited,
        LB_SERVERS: others.address,
        LB_POOLS: 'v2',
        LB_POOL_V2_SERVERS: routed.address,
        LB_ROUTES: '/api/v2=v2',
      })
      await own.up('app-1', 'pool-v2/app-1')
      for (const target of spellings('/api/v2').flatMap((each) => [each, `${each}/x`])) {
        await raw(own.url, `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
        for (const url of others.urls.splice(0))
          assert.ok(!(await readers.reaches(url)), `${target} is passed to the default pool as ${url}`)
      }
      assert.ok(routed.urls.length > 60, `${routed.urls.length} spellings reach the pool`)
      await own.stop()
      await readers.close()
      for (const { close } of recorders) close()
    })

    test('prefers a header to a host, and a host to a path', async () => {
      const shop = { host: 'shop.example.com' }
      for (const [path, headers, pool] of [
        ['/', shop, 'v2'],
        ['/', { host: 'SHOP.example.com.:8080' }, 'v2'],
        ['/', { host: 'xshop.example.com' }, 'default'],
        ['/', { host: 'shop.example.com.evil.example' }, 'default'],
        ['/Reports//x', shop, 'heavy'],
        ['/reportsx', shop, 'v2'],
        ['/api/v2/old', shop, 'v2'],
        ['/', { 'x-version': '2' }, 'v2'],
        ['/', { 'X-Version': '20' }, 'default'],
        ['/reports', { ...shop, 'x-version': '1' }, 'default'],
        ['/api/v2', { 'x-version': '1' }, 'default'],
        ['/', { 'x-tenant': 'acme', 'x-version': '2' }, 'v2'],
        ['/api/v2', { 'x-tenant': 'acme' }, 'heavy'],
        ['/', { 'x-tenant': 'ACME' }, 'default'],
        ['/', { 'x-version': '2, 1' }, 'default'],
        ['/', { 'x-lb-pool': 'v2' }, 'default'],
      ] as const)
        for (const method of ['GET', 'POST'] as const)
          assert.equal(await poolOf(front, path, headers, method), pool, `${method} ${path} ${JSON.stringify(headers)}`)
    })

    test('responds 503 for the paths of a dead pool only', async () => {
      for (const method of ['GET', 'POST'] as const)
        for (const accept of ['*/*', 'text/html']) {
          const { statusCode, headers, body } = await send(front, '/dead/x', { accept }, method)
          assert.equal(statusCode, 503)
          assert.equal(headers['retry-after'], '1')
          assert.match(await body.text(), accept === '*/*' ? /"code":"LB_ERR_UNAVAILABLE"/ : /<!doctype html>/)
        }
      assert.equal(await poolOf(front, '/deadly'), 'default')
    })

    test('switches a route, and a pool to maintenance, at run time', async () => {
      const [paths, headers, maintenance] = await Promise.all(
        ['pools.map', 'headers.map', 'maintenance.map'].map((name) => file(front, name)),
      )
      await front.api(`set map ${paths} /api/v2/ heavy`)
      await front.api(`add map ${paths} /new/ v2`)
      await front.api(`add map ${paths} /wrong/ nowhere`)
      await front.api(`set map ${headers} x-version:2 heavy`)
      assert.equal(await poolOf(front, '/api/v2/x'), 'heavy')
      assert.equal(await poolOf(front, '/new'), 'v2')
      assert.equal(await poolOf(front, '/wrong'), '503')
      assert.equal(await poolOf(front, '/wrong', {}, 'POST'), '503')
      assert.equal(await poolOf(front, '/', { 'x-version': '2' }), 'heavy')
      await front.api(`set map ${paths} /api/v2/ v2`)
      await front.api(`set map ${headers} x-version:2 v2`)
      assert.equal(await poolOf(front, '/api/v2/x'), 'v2')

      await front.api(`set map ${maintenance} v2 on`)
      const { statusCode, body, headers: sent } = await request(`${front.url}/api/v2/x`)
      assert.deepEqual([statusCode, sent['retry-after']], [503, '30'])
      assert.equal(((await body.json()) as { code: string }).code, 'LB_ERR_MAINTENANCE')
      assert.equal(await poolOf(front, '/'), 'default')
      await front.api(`set map ${maintenance} v2 off`)
      assert.equal(await poolOf(front, '/api/v2/x'), 'v2')
    })

    test('forwards a WebSocket to its pool', async () => {
      for (const [path, pool] of [
        ['/ws', 'default'],
        ['/api/v2/ws', 'v2'],
      ] as const) {
        const socket = new WebSocket(`${front.url.replace('http', 'ws')}${path}`)
        const received: string[] = []
        socket.addEventListener('message', ({ data }) => received.push(String(data)))
        await until(() => received[0]?.startsWith(pool), { what: `a greeting of ${pool}` })
        socket.close()
      }
    })

    test('has limits, timeouts, a canary and a cache for each pool', async () => {
      const own = await start(release, {
        LB_POOL_V2_RATE: '10',
        LB_POOL_HEAVY_TIMEOUT: '500ms',
        LB_POOL_V2_CANARY: `127.0.0.1:${heavy[0]?.port}`,
        LB_POOL_V2_CANARY_AGENT: `${heavy[0]?.agentPort}`,
      })
      const statuses: string[] = []
      for (let i = 0; i < 12; i++) statuses.push(await poolOf(own, '/api/v2/x'))
      assert.equal(statuses.filter((each) => each === '429').length, 2, statuses.join())
      assert.equal(await poolOf(own, '/'), 'default')
      assert.equal(await poolOf(own, '/wait', { 'x-tenant': 'acme' }), '504')
      await own.api(`set map ${await file(own, 'canary.map')} v2 100`)
      await own.api(`add map ${await file(own, 'rates.map')} v2 1000`)
      await own.api(`set map ${await file(own, 'rates.map')} v2 1000`)
      await until(async () => (await poolOf(own, '/api/v2/x')) === 'heavy', { what: 'the canary' })
      assert.equal(await poolOf(own, '/'), 'default')

      const styles = async (headers: Record<string, string>): Promise<string> =>
        (await request(`${own.url}/static/a.css`, { headers })).body.text()
      const first = await styles({})
      assert.equal(await styles({}), first, 'cached')
      assert.match(await styles({ 'x-tenant': 'acme' }), /^heavy-1/)
      await own.stop()
    })
  })

  describe(`two pools under load on HAProxy ${release.version}`, async () => {
    test('draining, killing and rolling one pool fails no request of either', async (t) => {
      const front = await start(release)
      const get = (path: string) => ({ method: 'GET', path }) as const
      const post = (path: string) => ({ method: 'POST', path, body: { a: 1 } }) as const
      const run = (own: string): Load =>
        startLoad(front.url, { clients: 3, requests: [get(`${own}/`), post(`${own}/echo`)] })
      const reads = (own: string): Load => startLoad(front.url, { clients: 3, requests: [get(`${own}/`)] })
      let total = 0
      const underLoad = async (load: typeof run, task: () => Promise<void>): Promise<void> => {
        const loads = { default: load(''), v2: load('/api/v2') }
        for (const one of Object.values(loads)) await until(() => one.passed > 30, { what: 'load' })
        await task()
        for (const [pool, one] of Object.entries(loads)) {
          const { passed } = one
          await until(() => one.passed > passed + 30, { what: 'more load' })
          await one.stop()
          assert.deepEqual(one.failures, [], pool)
          for (const id of one.byInstance.keys()) assert.match(id, new RegExp(`^${pool}-`))
          total += one.passed
        }
      }
      const [first, second] = v2 as [Member, Member]
      await underLoad(run, async () => {
        await first.command('drain')
        await until(async () => (await front.server('app-1', 'pool-v2')).status !== 'UP', { what: 'the drain' })
        await first.command('undrain')
        await front.up('pool-v2/app-1')
      })
      // A killed instance loses its in-flight requests; only a GET may be repeated.
      await underLoad(reads, async () => {
        await second.end('SIGKILL')
        await until(async () => (await front.server('app-2', 'pool-v2')).status !== 'UP', { what: 'the end' })
        await second.start()
        await front.up('pool-v2/app-2')
      })
      await underLoad(run, async () => {
        for (const [i, member] of v2.entries()) {
          assert.equal(await member.end('SIGTERM'), 0)
          await member.start()
          await front.up(`pool-v2/app-${i + 1}`)
        }
      })
      // Without any instance of its own, a pool takes none of another.
      const other = startLoad(front.url, { clients: 2, requests: [get('/')] })
      for (const member of v2) await member.end('SIGKILL')
      await until(async () => (await poolOf(front, '/api/v2/x')) === '503', { what: '503' })
      for (let i = 0; i < 30; i++) assert.equal(await poolOf(front, '/api/v2/x'), '503')
      await other.stop()
      assert.deepEqual(other.failures, [])
      await Promise.all(v2.map((member) => member.start()))
      await front.up('pool-v2/app-1', 'pool-v2/app-2')
      t.diagnostic(`${total} requests of two pools, 0 failed`)
      await front.stop()
    })
  })
}

describe('scripts/haproxy-render', () => {
  const fails = (env: Record<string, string>, says: RegExp): void =>
    assert.throws(() => render(temporaryFolder('render'), env), says)

  test('rejects wrong lists and says what is wrong', () => {
    const pool = { LB_POOLS: 'v2', LB_POOL_V2_SERVERS: '127.0.0.1:1' }
    fails({ LB_SERVERS: '127.0.0.1' }, /LB_SERVERS must list HOST:PORT or HOST:PORT:AGENT_PORT, got 127\.0\.0\.1/)
    fails({ LB_SERVERS: '127.0.0.1:1"' }, /LB_SERVERS must list/)
    fails({ ...pool, LB_POOL_V2_SERVERS: 'x:y' }, /LB_POOL_V2_SERVERS must list/)
    fails({ LB_POOLS: 'V2' }, /LB_POOLS must list names .* got V2/)
    fails({ LB_POOLS: 'v2-x' }, /the pool v2-x needs either LB_POOL_V2_X_SERVERS or LB_POOL_V2_X_SERVICE/)
    fails({ ...pool, LB_POOL_V2_SERVICE: 'app:3000' }, /needs either/)
    fails({ ...pool, LB_POOLS: 'v2 v2' }, /lists the pool v2 twice/)
    fails({ LB_POOLS: 'default' }, /`default` always exists/)
    fails({ ...pool, LB_ROUTES: '/api=v3' }, /LB_ROUTES: \/api=v3 names the pool "v3", which is not in LB_POOLS/)
    fails({ ...pool, LB_POOL_V2_TIMEOUTS: '1s' }, /LB_POOL_V2_TIMEOUTS is no variable of a pool/)
    fails({ ...pool, LB_POOL_V3_SERVERS: '127.0.0.1:1' }, /LB_POOL_V3_SERVERS is no variable of a pool/)
    fails({ ...pool, LB_ROUTES: '/Api=v2 /api/=default' }, /LB_ROUTES has two routes for \/api\//)
    for (const route of ['/api', 'api=v2', '/a%20b=v2', '/a?b=v2', '//=v2', 'x version:2=v2', 'x:=v2', '/a;b=v2'])
      fails({ ...pool, LB_ROUTES: route }, /LB_ROUTES/)
  })
})
