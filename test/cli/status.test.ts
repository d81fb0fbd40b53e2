import assert from 'node:assert/strict'
import { test } from 'node:test'
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
    return /^shop: 2 of 2/.test(now.stdout) && / up /.test(now.stdout) ? now : undefined
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
