import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import ps from '../../src/cli/commands/ps.ts'
import status from '../../src/cli/commands/status.ts'
import fleet from '../../src/index.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { runCommand } from './commands.ts'
import { smallFleet, token } from './small-fleet.ts'

test('shows instances, totals, Redis and checks of a fleet with Redis, and that Redis is gone', async (t) => {
  const redis = await startRedis()
  t.after(() => redis.stop())
  const apps: FastifyInstance[] = []
  t.after(() => Promise.all(apps.map((app) => app.close())))
  let url = ''
  for (const id of ['shop-1', 'shop-2']) {
    const app = Fastify()
    apps.push(app)
    await app.register(fleet, {
      name: 'shop',
      redis: { url: redis.url },
      identity: { id, version: '1.2.3' },
      operators: { token },
      session: { secret: 'a-secret-of-this-test-with-32-bytes!' },
      lifecycle: { signals: false },
    })
    url = await app.listen({ port: 0, host: '127.0.0.1' })
  }
  const said = await until(async () => {
    const now = await runCommand(status, url, '--token', token)
    return /^shop: 2 of 2 .*\nRedis: up, /.test(now.stdout) ? now : undefined
  })
  assert.equal(said.code, 0, said.stderr)
  assert.match(said.stdout, /^shop: 2 of 2 instances serving, [\d.]+ requests\/s, p95 [\d.]+ ms\n/)
  assert.match(said.stdout, /\nRedis: up, [\d.]+ ms; sessions: redis, cache: redis\n/)
  assert.match(
    said.stdout,
    /\nINSTANCE +STATE +VERSION +RPS +P95 MS +LOOP % +MEMORY MB +UP +FAILING\nshop-1 +serving +1\.2\.3 /,
  )
  assert.match(said.stdout, /\nChecks of shop-2:\nCHECK +STATUS +CRITICAL +LATENCY MS +LAST ERROR\n/)
  assert.match(said.stdout, /\nredis +up +no +[\d.]+/)
  const { stdout } = await runCommand(status, url, '--token', token, '--json')
  const json = JSON.parse(stdout)
  assert.deepEqual(
    [json.healthy, json.fleet, json.serving, json.redis.status, json.checkedBy, json.instances.length],
    [true, 'shop', 2, 'up', 'shop-2', 2],
  )

  await redis.stop()
  const without = await until(async () => {
    const now = await runCommand(status, url, '--token', token)
    return /Redis: down/.test(now.stdout) ? now : undefined
  })
  assert.match(without.stdout, /\nRedis: down, \S.*; sessions: redis/)
  const listed = await until(async () => {
    const { stdout } = await runCommand(ps, url, '--token', token)
    return /is down.*: not connected/.test(stdout) ? stdout : undefined
  })
  assert.match(
    listed,
    /^INSTANCE [\s\S]*\n\n(?:check eventLoop .*\n)?check redis of shop-2 is down, not critical: not connected\nWithout Redis, /,
  )
  assert.match(without.stdout, /\nredis +down +no .*\S\n/)
})

test('exits with 1 if no instance serves, and lists those in trouble first', async (t) => {
  const { urls, apps, close } = await smallFleet()
  t.after(close)
  assert.equal((await runCommand(status, `${urls[0]}`, '--token', token)).code, 0)
  apps[2]?.fleet.drain()
  const one = await runCommand(status, `${urls[0]}`, '--token', token)
  assert.equal(one.code, 0)
  assert.match(one.stdout, /^small: 2 of 3 instances serving.*\nRedis: no check; sessions: redis, cache: redis\n/)
  assert.match(one.stdout, /FAILING\nsmall-3 +draining [\s\S]*small-1 +serving /)
  for (const app of apps) app.fleet.drain()
  const none = await runCommand(status, `${urls[0]}`, '--token', token, '--json')
  assert.deepEqual([none.code, JSON.parse(none.stdout).healthy], [1, false])
  const stranger = await runCommand(status, `${urls[0]}`, '--json')
  assert.equal(stranger.code, 2)
  assert.equal(JSON.parse(stranger.stdout).error.code, 'FLEET_ERR_NOT_OPERATOR')
})

test('lists 20 of many instances', async (t) => {
  const { urls, apps, close } = await smallFleet({ instances: 1 })
  t.after(close)
  const self = apps[0]?.fleet.self()
  assert.ok(self)
  const peers = Array.from({ length: 30 }, (_, i) => ({ ...self, id: `many-${i}`, failing: i === 29 ? ['disk'] : [] }))
  Object.assign(apps[0]?.fleet ?? {}, { survey: async () => peers })
  const { code, stdout } = await runCommand(status, `${urls[0]}`, '--token', token)
  assert.equal(code, 1)
  assert.match(stdout, /FAILING\nmany-29 +serving .*disk\nmany-0 /)
  assert.match(stdout, /\nmany-18 [^\n]*\n… and 10 more, see `fleet ps`\n/)
})

/** Stands in for an instance of a fleet. */
async function standIn(t: TestContext, instances: readonly object[], checks: object | undefined, dependencies = {}) {
  const app = Fastify()
  t.after(() => app.close())
  const root = '/api/v1/load-balancer'
  app.get(`${root}/instances`, async () => ({ fleet: 'shop', instances }))
  app.get(`${root}/metrics`, async () => ({ fleet: { rps: 12.5, p95: 80 }, instance: { p95: 3 } }))
  const loadBalancer = { sessionStore: 'memory', cacheStore: 'none', stateless: false }
  app.get(`${root}/health`, async () => ({ instanceId: 'own', loadBalancer, dependencies }))
  if (checks) app.get('/health/detailed', async (_, reply) => reply.code(503).send({ instanceId: 'detailed', checks }))
  return app.listen({ port: 0, host: '127.0.0.1' })
}
const peer = (id: string, more: object = {}): object => ({
  ...{ id, state: 'serving', host: 'h', port: 1, pid: 7, version: '1', color: 'blue', pool: 'default', weight: 100 },
  ...{ rps: 3, p95: 9, eventLoopUtilization: 0.126, memory: 10.6 * 1_048_576, startedAt: new Date().toISOString() },
  ...{ failing: [], ...more },
})

test('shows the totals of the fleet, each check, and what is wrong', async (t) => {
  const checks = {
    redis: { status: 'down', critical: true, latencyMs: 4, lastError: 'ECONNREFUSED' },
    disk: { status: 'up', critical: false, latencyMs: null, lastError: 'earlier' },
    queue: { status: 'pending' },
  }
  const url = await standIn(t, [peer('a'), peer('b', { state: 'draining' }), peer('c', { failing: ['redis'] })], checks)
  const { code, stdout } = await runCommand(status, url)
  assert.equal(code, 1, 'a critical check fails')
  const lines = stdout.split('\n').map((line) => line.trim().replaceAll(/ {2,}/g, ' | '))
  assert.deepEqual(lines.slice(0, 3), [
    'shop: 2 of 3 instances serving, 12.5 requests/s, p95 80 ms',
    'Redis: down, ECONNREFUSED; sessions: memory, cache: none (not stateless)',
    '',
  ])
  assert.deepEqual(
    lines.slice(4, 7).map((line) => line.split(' | ').slice(0, 2).join(' ')),
    ['b draining', 'c serving', 'a serving'],
  )
  assert.match(lines[6] ?? '', /^a \| serving \| 1 \| 3 \| 9 \| 13 \| 11 \| \d+s$/)
  assert.match(lines[5] ?? '', / \| redis$/)
  assert.deepEqual(lines.slice(8, 13), [
    'Checks of detailed:',
    'CHECK | STATUS | CRITICAL | LATENCY MS | LAST ERROR',
    'redis | down | yes | 4 | ECONNREFUSED',
    'disk | up | no',
    'queue | pending',
  ])
  const json = JSON.parse((await runCommand(status, url, '--json')).stdout)
  const { healthy, serving, rps, p95, stores, redis, checkedBy } = json
  assert.deepEqual(
    { healthy, serving, rps, p95, stores, redis, checkedBy },
    {
      ...{ healthy: false, serving: 2, rps: 12.5, p95: 80, redis: checks.redis, checkedBy: 'detailed' },
      stores: { session: 'memory', cache: 'none', stateless: false },
    },
  )
  const listed = await runCommand(ps, url)
  assert.equal(listed.code, 0)
  assert.match(
    listed.stdout,
    /\n\ncheck redis of detailed is down: ECONNREFUSED\nWithout Redis, the other instances are shown as they were last seen\.\n$/,
  )
})

test('takes the state of each check from the instance if details are switched off', async (t) => {
  const url = await standIn(t, [peer('a', { degraded: ['mail'], port: undefined })], undefined, {
    redis: 'up',
    mail: 'down',
  })
  const { code, stdout } = await runCommand(status, url)
  assert.equal(code, 0, 'no critical check fails')
  assert.match(stdout, /^shop: 1 of 1 instance serving, .*\nRedis: up; /)
  assert.match(stdout, /\nChecks of own:\nCHECK +STATUS.*\nredis +up\nmail +down\n/)
  const listed = await runCommand(ps, url)
  assert.match(listed.stdout, /\na +serving +h:- +7 +1 +blue +default +100 +3 +9 +13 +11 +\d+s +mail\n/)
  assert.match(listed.stdout, /\n\ncheck mail of own is down\n$/)
})
