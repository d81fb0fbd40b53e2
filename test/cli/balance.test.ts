import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { exchange } from '../../src/cli/exchange.ts'
import { get } from '../edge/front.ts'
import { startUpstreams } from '../edge/upstream.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

const main = new URL('../../src/cli/main.ts', import.meta.url)
const labelled = new URL('labelled.fixture.ts', import.meta.url)

describe('fleet balance', () => {
  it('checks --probe-path, and takes the address of the client from --trust-proxy only', async () => {
    const [upstream] = await startUpstreams(1)
    const probed = new Set<string>()
    const seen: (string | undefined)[] = []
    assert.ok(upstream)
    upstream.handler = (request, response) => {
      if (request.url === '/healthz') probed.add(request.url)
      seen.push(request.headers['x-forwarded-for'] as string | undefined)
      response.end('{}')
    }
    const common = ['balance', '--port', '0', '--target', upstream.url, '--probe-path', '/healthz']
    for (const [more, expected] of [
      [[], '127.0.0.1'],
      [['--trust-proxy', '127.0.0.1'], '6.6.6.6, 127.0.0.1'],
      // It forwards bytes and leaves headers as they are.
      [['--tcp'], '6.6.6.6'],
    ] as const) {
      const app = forkApp(main, { args: [...common, ...more] })
      const [, port] = await app.waitFor(/listening on \S+:(\d+)/)
      await until(() => probed.has('/healthz'), { what: 'the probe' })
      probed.clear()
      const headers = { 'x-forwarded-for': '6.6.6.6', connection: 'close' }
      assert.equal((await get(`http://127.0.0.1:${port}/`, { headers })).status, 200)
      assert.equal(
        seen.findLast((address) => address !== undefined),
        expected,
      )
      await app.kill('SIGTERM')
    }
  })

  it('listens on --port, or on the address of --listen', async () => {
    const [upstream] = await startUpstreams(1)
    const target = ['--target', `${upstream?.url}`]
    const app = forkApp(main, { args: ['balance', '--port', '0', ...target] })
    const [, port] = await app.waitFor(/listening on http:\/\/\S+:(\d+)/)
    await until(async () => (await fetch(`http://127.0.0.1:${port}/`)).status === 200)
    const listens = async (at: string | undefined, host = '127.0.0.2') =>
      (await exchange({ host, port: Number(at), timeoutMs: 10_000 })).error === undefined
    const isLinux = process.platform === 'linux'
    if (isLinux) assert.ok(await listens(port), 'on every address')
    await app.kill('SIGTERM')
    const admin = String(await freePort())
    const own = forkApp(main, { args: ['balance', '--listen', '127.0.0.1:0', '--admin', admin, ...target] })
    const [, only] = await own.waitFor(/listening on http:\/\/127\.0\.0\.1:(\d+)/)
    for (const at of [only, admin]) {
      assert.ok(await listens(at, '127.0.0.1'), at)
      if (isLinux) assert.equal(await listens(at), false, 'on this address only')
    }
    assert.equal((await fetch(`http://127.0.0.1:${admin}/targets`)).status, 200)
    await own.kill('SIGTERM')
    const both = forkApp(main, { args: ['balance', '--port', '0', '--listen', '0', ...target] })
    assert.equal((await both.exit).code, 2)
    assert.match(both.stderr, /--port and --listen cannot be combined/)
  })

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
    await until(() => twice.ended, { what: 'the end of the second one' })
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
})
