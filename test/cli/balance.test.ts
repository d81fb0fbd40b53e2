import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { poolsFrom, routesFrom } from '../../src/cli/balance/pools.ts'
import { parseDiscover, parseListen, parseTargetOption } from '../../src/cli/commands/balance.ts'
import { dispatch } from '../../src/cli/dispatch.ts'
import { Output } from '../../src/cli/output.ts'
import { get } from '../edge/front.ts'
import { startUpstreams } from '../edge/upstream.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

const main = new URL('../../src/cli/main.ts', import.meta.url)
const labelled = new URL('labelled.fixture.ts', import.meta.url)

describe('fleet balance', () => {
  for (const mode of [[], ['--tcp']]) {
    it(`balances over its targets and exits without losing a request ${mode.join('')}`, async () => {
      const upstreams = await startUpstreams(2)
      const port = await freePort()
      const targets = upstreams.flatMap(({ url }) => ['--target', url])
      const args = [
        'balance',
        '--listen',
        `127.0.0.1:${port}`,
        ...targets,
        '--policy',
        'least-connections',
        '--json',
        ...mode,
      ]
      const app = forkApp(main, { args })
      const url = `http://127.0.0.1:${port}`
      const names = new Set<string>()
      await until(
        async () => names.add(JSON.parse((await get(url, { headers: { connection: 'close' } })).text).name).size === 2,
        { timeoutMs: 60_000 },
      )
      for (const upstream of upstreams) {
        upstream.handler = (request, response) => setTimeout(() => upstream.response(request, response), 200)
      }
      const seen = upstreams.flatMap((upstream) => upstream.seen).length
      const last = get(url, { headers: { connection: 'close' } })
      await until(() => upstreams.flatMap((upstream) => upstream.seen).length > seen)
      void app.kill('SIGTERM')
      assert.equal((await last).status, 200)
      assert.equal((await app.exit).code, 0)
      const said = JSON.parse(app.stdout)
      assert.deepEqual(
        said.targets.map(({ state }: { state: string }) => state),
        ['up', 'up'],
      )
    })
  }

  it('reads listen addresses and target options', () => {
    assert.deepEqual(parseListen('8080'), { host: '0.0.0.0', port: 8080 })
    assert.deepEqual(parseListen('127.0.0.1:80'), { host: '127.0.0.1', port: 80 })
    assert.deepEqual(parseListen('[::1]:80'), { host: '::1', port: 80 })
    assert.deepEqual(parseTargetOption('http://a:1,weight=50,backup,max=9'), {
      url: 'http://a:1',
      weight: 50,
      backup: true,
      maxConnections: 9,
    })
    for (const text of ['', 'x', '99999', ':80', '1.2.3.4:', '[zz]:1', '[1.2]:1'])
      assert.throws(() => parseListen(text), { code: 'FLEET_ERR_USAGE' })
    for (const text of ['http://a,x', 'http://a,weight=x', 'http://a,backup=1'])
      assert.throws(() => parseTargetOption(text), { code: 'FLEET_ERR_USAGE' })
  })

  it('parses the sources of targets', () => {
    for (const text of ['dns+http://app:3000', 'srv+https://_http._tcp.app', 'registry']) assert.ok(parseDiscover(text))
    for (const text of ['', 'dns+ftp://x', 'http://x', 'dns+http://']) {
      assert.throws(() => parseDiscover(text), { code: 'FLEET_ERR_USAGE' })
    }
  })

  it('reads the pools of a command line', () => {
    const routes = routesFrom('/api/v2=v2 //shop=shop', '--route')
    const none = { target: [], discover: undefined, pool: [], policy: [], canary: [], routes: [] }
    const given = {
      ...none,
      target: ['http://a:1'],
      pool: ['v2=b:1,weight=5,canary,https://c:2', 'v2=d', 'shop=dns+http://shop:3000'],
      policy: ['random', 'v2=least-connections'],
      canary: ['v2=2.5'],
      routes,
    }
    const pools = poolsFrom(given)
    assert.deepEqual(Object.keys(pools), ['default', 'v2', 'shop'])
    assert.deepEqual(pools.default?.targets, [{ url: 'http://a:1' }])
    assert.deepEqual(pools.v2?.targets, [
      { url: 'http://b:1', weight: 5, canary: true },
      { url: 'https://c:2' },
      { url: 'http://d' },
    ])
    assert.equal(typeof pools.shop?.discover, 'function')
    assert.deepEqual(
      Object.values(pools).map(({ policy }) => policy),
      ['random', 'least-connections', 'random'],
    )
    assert.deepEqual(
      Object.values(pools).map(({ canaryPercent }) => canaryPercent),
      [0, 2.5, 0],
    )
    const live = poolsFrom({ ...none, discover: 'registry', routes })
    assert.deepEqual(
      Object.values(live).map(({ discover }) => typeof discover),
      ['function', 'function', 'function'],
    )
    for (const [change, message] of [
      [{ pool: ['v2=b:1'] }, /names the pool shop, which does not exist; add --pool shop=/],
      [{ pool: ['b:1'] }, /--pool b:1 is not NAME=TARGETS/],
      [{ pool: ['V2=b:1'] }, /--pool V2=b:1 is not NAME=TARGETS/],
      [{ pool: ['v2='] }, /--pool v2= is not NAME=TARGETS/],
      [{ pool: ['v2=registry', 'v2=dns+http://x:1'] }, /the pool v2 has two sources/],
      [{ pool: ['v2=b:1,weight=x'] }, /--pool: weight=x must be/],
      [{ policy: ['v9=random'] }, /names the pool v9/],
      [{ policy: ['v2=x'] }, /--policy must be one of/],
      [{ canary: ['v2=101'] }, /--canary must be a number from 0 to 100/],
      [{ target: [], pool: [], routes: [] }, /missing --target/],
    ] as const) {
      assert.throws(() => poolsFrom({ ...given, ...change }), { code: 'FLEET_ERR_USAGE', message })
    }
    assert.throws(() => routesFrom('x', 'FLEET_ROUTES'), {
      code: 'FLEET_ERR_USAGE',
      message: /FLEET_ROUTES: "x" is not/,
    })
  })

  it('serves routes from the pools that instances name in the registry, also from those that start later', async () => {
    const redisServer = await startRedis()
    const port = await freePort()
    const env = { REDIS_URL: redisServer.url, SESSION_SECRET: 'a-secret-that-all-instances-share' }
    const args = ['balance', '--listen', `127.0.0.1:${port}`, '--discover', 'registry', '--json']
    const instance = async (id: string, pool?: string): Promise<App> => {
      const app = forkApp(labelled, { env: { ...env, INSTANCE_ID: id, ...(pool && { FLEET_POOL: pool }) } })
      await app.waitFor(/listening/, 60_000)
      return app
    }
    await instance('a')
    const twice = forkApp(main, { args: [...args, '--listen', String(new URL(redisServer.url).port)], env })
    assert.notEqual((await twice.exit).code, 0)
    assert.match(twice.stderr, /FLEET_ERR_PORT_TAKEN/)
    const front = forkApp(main, { args, env: { ...env, FLEET_ROUTES: '/api/v2=v2' } })
    const url = `http://127.0.0.1:${port}`
    const idOf = async (path: string): Promise<string> => {
      const { status, text } = await get(url + path, { headers: { connection: 'close' } })
      return status === 200 ? JSON.parse(text).id : JSON.parse(text).code
    }
    const settles = (path: string, id: string) =>
      until(async () => (await idOf(path).catch(() => '')) === id, { timeoutMs: 60_000, what: `${path} by ${id}` })
    await settles('/', 'a')
    await settles('/api/v2', 'FLEET_ERR_NO_TARGET')
    const b = await instance('b', 'v2')
    await settles('/api/v2/x', 'b')
    for (let i = 0; i < 10; i++) assert.deepEqual([await idOf('/'), await idOf('/api/v2')], ['a', 'b'])
    await b.kill('SIGTERM')
    await settles('/api/v2', 'FLEET_ERR_NO_TARGET')
    assert.equal(await idOf('/'), 'a')
    void front.kill('SIGTERM')
    assert.equal((await front.exit).code, 0)
  })

  it('reports an invalid command line', async () => {
    const verbs = { balance: () => import('../../src/cli/commands/balance.ts') }
    for (const [args, expected] of [
      [['--target', 'nonsense'], 'FLEET_ERR_TARGET_INVALID'],
      [['--target', 'http://a', '--policy', 'x'], 'FLEET_ERR_USAGE'],
      [['--target', 'http://a', '--listen', 'x'], 'FLEET_ERR_USAGE'],
      [[], 'FLEET_ERR_USAGE'],
      [['--target', 'http://a', '--route', '/x=v2'], 'FLEET_ERR_USAGE .*a route names the pool v2'],
      [['--target', 'http://a', '--route', 'x'], 'FLEET_ERR_USAGE .*--route: "x" is not MATCH=POOL'],
      [['--target', 'http://a', '--tcp', '--pool', 'v2=b:1'], 'FLEET_ERR_USAGE'],
    ] as const) {
      let text = ''
      const stream = { write: (piece: string) => (text += piece) }
      const code = await dispatch(verbs, ['balance', ...args], new Output({ stdout: stream, stderr: stream }))
      assert.notEqual(code, 0)
      assert.match(text, new RegExp(expected))
    }
  })
})
