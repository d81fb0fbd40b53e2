import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client } from 'undici'
import { ask, servers } from '../../src/cli/deploy/haproxy-api.ts'
import type { FleetReport } from '../../src/cli/up/local-fleet.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { startPostgres } from '../helpers/postgres.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const program = fileURLToPath(new URL('fixtures/app.ts', import.meta.url))

interface Up {
  readonly process: App
  readonly url: string
  readonly orders: string
  readonly config: string
  readonly socket: string
  readonly log: string
  readonly notes: string
}

/** `fleet up --front haproxy` with five instances. */
async function up(env: Record<string, string>): Promise<Up> {
  const orders = join(mkdtempSync(join(tmpdir(), 'fleet-orders-')), 'orders')
  after(() => rmSync(dirname(orders), { recursive: true }))
  const ports = { FLEET_PORT: await freePort(), FLEET_BASE_PORT: await freePort(5) }
  const args = ['up', program, '--front', 'haproxy', '--instances', '5', '--json']
  const process = forkApp(join(root, 'src/cli/main.ts'), { args, env: { ...ports, ORDERS: orders, ...env } })
  const [line] = await process.waitFor(/^\{.*\}\n/m, 120_000)
  const { front, notes }: FleetReport = JSON.parse(line)
  const text = notes.join('\n')
  const path = (pattern: RegExp): string => pattern.exec(text)?.[1] ?? assert.fail(text)
  const [config, log, socket] = [/runs (\S+),/, /logs to (\S+),/, /API (\S+)/].map(path) as [string, string, string]
  return { process, url: front.url, orders, config, socket, log, notes: text }
}

describe('fleet up --front haproxy', async () => {
  const [redis, postgres] = await Promise.all([startRedis(), startPostgres()])
  const fleet = await up({ REDIS_URL: redis.url, DATABASE_URL: postgres.url })
  const client = new Client(fleet.url)
  after(async () => {
    await client.close()
    await fleet.process.kill('SIGTERM')
  })

  test('runs the shipped files: only the instances differ', () => {
    // The differences of a copy are its list of instances.
    const diff = (file: string): string[] => {
      try {
        execFileSync('diff', [join(root, 'haproxy', file), join(dirname(fleet.config), file)])
        return []
      } catch (error) {
        return String((error as { stdout: Buffer }).stdout).match(/^[<>] .*$/gm) ?? []
      }
    }
    for (const file of ['errors/503.lf', 'maps/operators.lst', 'maps/pools.map']) assert.deepEqual(diff(file), [])
    const lines = diff('haproxy.cfg')
    const added = lines.filter((line) => line.startsWith('>'))
    assert.equal(added.filter((line) => /^> {3}server app-[1-5] 127\.0\.0\.1:\d+/.test(line)).length, 15)
    assert.equal(added.filter((line) => /agent-port \d+$/.test(line)).length, 5)
    for (const line of lines)
      assert.match(line, /server app-|haproxy-render|LB_SERVERS|LB_POOLS|LB_ROUTES|\.endif|# ----|# … or lists/)
  })

  test('balances over all instances, and takes their weights from their agents', async () => {
    await until(async () => (await servers(fleet.socket, 'fleet')).filter(({ up }) => up).length === 5, {
      what: 'five',
    })
    const stat = async (): Promise<string[]> => (await ask(fleet.socket, 'show stat')).split('\n')
    const agents = async (): Promise<number> =>
      (await stat()).filter((line) => /^fleet,app-\d,/.test(line) && /,L7OK,.*,L7OK,/.test(line)).length
    await until(async () => (await agents()) === 5, { what: 'five agents' })
  })

  test('sends its request id to the instance and logs one line of JSON', async () => {
    const { headers, body } = await client.request({
      method: 'GET',
      path: '/seen',
      headers: { 'x-request-id': 'mine' },
    })
    const seen = (await body.json()) as Record<string, string>
    assert.match(seen['x-request-id'] ?? '', /^[\w-]{36}$/)
    assert.equal(headers['x-request-id'], seen['x-request-id'])
    const lines = (): Record<string, unknown>[] =>
      readFileSync(fleet.log, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Record<string, unknown>)
    const line = await until(() => lines().find(({ requestId }) => requestId === seen['x-request-id']))
    assert.deepEqual([line.path, line.status, line.backend], ['/seen', 200, 'fleet'])
  })

  test('responds 502 with a body to a POST that was cut, which is never repeated', async () => {
    for (const name of ['one', 'two', 'three']) {
      await (await client.request({ method: 'GET', path: '/' })).body.dump()
      const { statusCode, body } = await client.request({ method: 'POST', path: `/silent?name=${name}` })
      assert.equal(statusCode, 502)
      assert.equal(((await body.json()) as { code: string }).code, 'LB_ERR_BAD_GATEWAY')
      assert.equal(
        readFileSync(fleet.orders, 'utf8')
          .split('\n')
          .filter((line) => line.startsWith(name)).length,
        1,
      )
    }
  })

  test('responds to browsers with HTML', async () => {
    const response = await fetch(`${fleet.url}/metrics`, { headers: { accept: 'text/html,*/*;q=0.8' } })
    assert.deepEqual([response.status, response.headers.get('content-type')], [404, 'text/html; charset=utf-8'])
  })

  test('protects its statistics with a password that is shown once', async () => {
    const [, url = '', user, password] = /statistics (\S+), user (\S+), password (\S+);/.exec(fleet.notes) ?? []
    assert.equal((await fetch(url)).status, 401)
    const authorization = `Basic ${btoa(`${user}:${password}`)}`
    assert.match(await (await fetch(url, { headers: { authorization } })).text(), /app-5/)
    const [, metrics = ''] = /metrics (\S+)$/.exec(fleet.notes) ?? []
    assert.match(await (await fetch(metrics)).text(), /haproxy_server_status\{proxy="fleet",server="app-5"/)
  })

  test('limits 900 logins at once from one address', async () => {
    const login = async (): Promise<number> => {
      const response = await fetch(`${fleet.url}/api/v1/auth/login`, { method: 'POST' })
      await response.arrayBuffer()
      return response.status
    }
    const statuses = await Promise.all(Array.from({ length: 900 }, login))
    const count = (status: number): number => statuses.filter((each) => each === status).length
    assert.equal(count(200) + count(429), 900, statuses.join())
    assert.ok(count(429) >= 450, `${count(429)} of 900`)
    const table = await ask(fleet.socket, 'show table rates_auth')
    assert.match(table, /http_req_rate\(10000\)=[1-9]\d\d/)
  })
})
