import '../helpers/cleanup.ts'
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import type { FleetReport } from '../../src/cli/up/local-fleet.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { startPostgres } from '../helpers/postgres.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { startUpstream } from '../helpers/upstream.ts'
import { nginx, sendRequest } from '../nginx/front.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const program = fileURLToPath(new URL('fixtures/cut.ts', import.meta.url))
const shipped = fileURLToPath(new URL('../../nginx/', import.meta.url))
const orders = join(temporaryFolder('orders'), 'orders')
writeFileSync(orders, '')
const v2 = await startUpstream('v2')

describe('fleet up --front nginx', () => {
  let up: App
  let port = 0
  let folder = ''
  before(async () => {
    const [redis, postgres] = [await startRedis(), await startPostgres()]
    up = forkApp(main, {
      args: ['up', program, '--front', 'nginx', '--json'],
      env: {
        FLEET_PORT: await freePort(),
        FLEET_BASE_PORT: await freePort(3),
        REDIS_URL: redis.url,
        DATABASE_URL: postgres.url,
        ORDERS: orders,
        FLEET_POOLS: 'v2',
        FLEET_POOL_V2_TARGETS: v2.target,
        FLEET_ROUTES: '/api/v2=v2',
        FLEET_BODY_MAX: '1k',
      },
    })
    const [line] = await up.waitFor(/^\{.*\}\n/m, 120_000)
    const { front } = JSON.parse(line) as FleetReport
    port = Number(new URL(front.url).port)
    // nginx shows its command line as the title of the process, from shortly after it listens. Before, NUL separates the arguments.
    const command = readFileSync(`/proc/${front.pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
    folder = / -p (\S+)/.exec(command)?.[1] ?? assert.fail(command)
  })
  after(() => up?.kill('SIGTERM'))

  test('runs the shipped files', async () => {
    const args = ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr', '-T']
    const shown = execFileSync(await nginx(), args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: 1 << 24,
    })
    // Not included: alternatives, and what only TLS needs.
    const others = /\/(?:tls|retry-off)\.conf$|snippets\/reload\//
    for (const file of globSync(`${shipped}{nginx.conf,snippets/**/*.conf}`).filter((file) => !others.test(file)))
      assert.ok(shown.includes(readFileSync(file, 'utf8')), file)
    assert.match(shown, /\n {2}server 127\.0\.0\.1:\d+ max_fails=1 fail_timeout=2s;\n {2}server /)
    assert.ok(shown.includes(`listen 127.0.0.1:${port} `), 'for this machine only')
    assert.doesNotMatch(shown, /ssl_certificate|auth_basic/)
  })

  test('responds 429 to most of 900 logins at once', async () => {
    const login = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' }
    const responses = await Promise.all(
      Array.from({ length: 900 }, () => sendRequest(port, '/api/v1/auth/login', login)),
    )
    const count = (wanted: number): number => responses.filter(({ status }) => status === wanted).length
    assert.equal(count(200) + count(429), 900)
    assert.ok(count(200) >= 1 && count(200) < 20, `${count(200)} logins`)
  })

  test('sends instances a request id, logs it in JSON, and caches /static/', async () => {
    const { body, headers } = await sendRequest(port, '/seen')
    const id = JSON.parse(body)['x-request-id']
    assert.match(id, /^[0-9a-f]{32}$/)
    assert.equal(headers['x-request-id'], id)
    const log = join(folder, 'run/access.log')
    const line = await until(
      () =>
        existsSync(log) &&
        readFileSync(log, 'utf8')
          .split('\n')
          .find((text) => text.includes(id)),
      { what: 'the log' },
    )
    const { status, pool, path } = JSON.parse(String(line))
    assert.deepEqual([status, pool, path], [200, 'default', '/seen'])
    const states = [await sendRequest(port, '/static/a.css'), await sendRequest(port, '/static/a.css')]
    assert.deepEqual(
      states.map((response) => response.headers['x-cache-status']),
      ['MISS', 'HIT'],
    )
  })

  test('takes the variables of nginx.env from its environment', async () => {
    assert.equal((await sendRequest(port, '/api/v2/x')).by, 'v2')
    assert.equal((await sendRequest(port, '/seen', { method: 'POST', body: 'x'.repeat(1_025) })).status, 413)
  })

  test('responds 502 to a POST whose instance was killed, and never repeats it', async () => {
    for (let turn = 1; turn <= 2; turn++) {
      const accept = turn === 1 ? 'application/json' : 'text/html'
      const { status, body } = await sendRequest(port, '/cut', { method: 'POST', headers: { accept } })
      assert.equal(status, 502)
      assert.match(body, turn === 1 ? /^\{"statusCode":502,/ : /^<!doctype html>/)
      assert.equal(readFileSync(orders, 'utf8'), 'order\n'.repeat(turn))
    }
  })
})
