import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify from 'fastify'
import type { Redis } from 'ioredis'
import { fleet } from '../../src/fleet.ts'
import { Tickets } from '../../src/instance/operators/tickets.ts'
import { freePort } from '../helpers/free-port.ts'
import { startNginx } from '../helpers/nginx.ts'
import { startRedis } from '../helpers/redis.ts'
import { cookieOf, enter, json, start, token } from './operators.ts'

test('a link that signs in works once in the whole fleet with Redis, behind a load balancer without affinity', async (t) => {
  const redis = await startRedis()
  const one = await start(t, { redis: { url: redis.url }, operators: { token } })
  const two = await start(t, { redis: { url: redis.url }, operators: { token } })
  const port = await freePort()
  const servers = [one, two].map(({ url }) => `server ${new URL(url).host};`).join(' ')
  const nginx = await startNginx({
    port,
    config: `pid nginx.pid; error_log stderr warn; worker_processes 1; events {}
http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
upstream fleet { ${servers} }
server { listen 127.0.0.1:${port}; location / { proxy_pass http://fleet; proxy_set_header Host $http_host; } } }`,
  })
  t.after(() => nginx.stop())
  const front = `http://127.0.0.1:${port}`
  for (let round = 0; round < 4; round++) {
    const link = new Tickets(token).issue('link', 60_000)
    const responses = await Promise.all([1, 2, 3, 4].map(() => enter(front, { code: link })))
    assert.deepEqual(responses.map(({ status }) => status).sort(), [204, 401, 401, 401])
    const cookie = cookieOf(responses.find(({ status }) => status === 204) as Response)
    const seen = new Set<string>()
    for (let i = 0; i < 4; i++) {
      const state = await fetch(`${front}/fleet/state`, { headers: { cookie } })
      assert.equal(state.status, 200)
      seen.add(((await state.json()) as { servedBy: string }).servedBy)
    }
    assert.equal(seen.size, 2, 'both instances accept the cookie')
  }
  const client = one.app.redis as Redis
  const used = await client.keys('shop:operator-link:*')
  assert.equal(used.length, 4)
  for (const key of used) {
    const leftMs = await client.pttl(key)
    assert.ok(leftMs > 1_000 && leftMs <= 60_000, `a used link is remembered while it is valid: ${leftMs} ms`)
  }
  await redis.stop()
  const lost = await enter(one.url, { code: new Tickets(token).issue('link', 60_000) })
  assert.equal(lost.status, 503)
  assert.equal((await enter(one.url, { token })).status, 204, 'the token needs no Redis')
})

test('a link that signs in works once in the whole fleet, also where `app.redis` is a client of the app itself', async (t) => {
  const { url } = await startRedis()
  const asked: unknown[] = []
  const own = {
    set: async (...command: unknown[]): Promise<string> => {
      asked.push(command)
      return 'OK'
    },
  }
  const link = new Tickets(token).issue('link', 60_000)
  const statuses: number[] = []
  for (let i = 0; i < 2; i++) {
    const app = Fastify()
    t.after(() => app.close())
    app.decorate('redis', own as never)
    await app.register(fleet, {
      ...{ name: 'shop', redis: { url }, operators: { token } },
      lifecycle: { signals: false },
    })
    const payload = { code: link }
    statuses.push((await app.inject({ method: 'POST', url: '/fleet/session', headers: json, payload })).statusCode)
  }
  assert.deepEqual([statuses, asked], [[204, 401], []])
})
