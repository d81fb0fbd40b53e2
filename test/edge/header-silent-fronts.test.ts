import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import { createTcpProxy } from '../../src/edge/tcp/index.ts'
import { fleet } from '../../src/fleet.ts'
import { freePort } from '../helpers/free-port.ts'
import { startHaproxy } from '../helpers/haproxy.ts'
import { startNginx } from '../helpers/nginx.ts'
import { sendRequest, startFront } from '../nginx/front.ts'
import { atEnd } from './at-end.ts'
import { quickProbe } from './front.ts'

const token = 'an-operator-token-of-more-than-32-bytes'

/** An instance that its fronts connect to from loopback. */
async function start(production: boolean): Promise<{ port: number; state: () => string }> {
  const app = Fastify()
  atEnd(() => app.close())
  if (production) process.env.NODE_ENV = 'production'
  process.env.FLEET_ALLOW_MEMORY = '1'
  await app.register(fleet, {
    lifecycle: { signals: false },
    redis: { client: null },
    session: false,
    jwt: false,
    ...(production ? {} : { operators: { token, allow: ['127.0.0.1'] } }),
  })
  await app.ready()
  delete process.env.NODE_ENV
  delete process.env.FLEET_ALLOW_MEMORY
  const port = Number(new URL(await app.listen({ port: 0, host: '127.0.0.1' })).port)
  return { port, state: () => app.fleet.state }
}

const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  .map((name) => `${name}_temp_path ${name};`)
  .join(' ')

/** Programs that forward requests without adding a header. Each returns the port that it listens on. */
const fronts: Record<string, (instance: number) => Promise<number>> = {
  'fleet balance --tcp': async (instance) => {
    const proxy = createTcpProxy({ targets: [`tcp://127.0.0.1:${instance}`], probe: { ...quickProbe, type: 'tcp' } })
    atEnd(() => proxy.close())
    await proxy.listen()
    return proxy.address?.port ?? 0
  },
  'the shipped nginx with FLEET_TCP=on': async (instance) => {
    const port = await freePort()
    await startFront({ FLEET_TARGETS: `127.0.0.1:${instance}`, FLEET_TCP: 'on', FLEET_TCP_PORT: port })
    return port
  },
  'nginx with nothing but proxy_pass': async (instance) => {
    const port = await freePort()
    const config = `pid nginx.pid; error_log stderr warn; events {} http { access_log off; ${folders}
      server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${instance}; } } }`
    await startNginx({ port, config })
    return port
  },
  'HAProxy in mode tcp': async (instance) => {
    const port = await freePort()
    const config = `
defaults
  mode tcp
  timeout connect 2s
  timeout client 10s
  timeout server 10s
listen front
  bind 127.0.0.1:${port}
  server instance 127.0.0.1:${instance}
`
    await startHaproxy({ port, config })
    return port
  },
}

describe('a front that adds no header gives clients no operator access', { concurrency: 2 }, async () => {
  // One after the other, because both read the environment of this process.
  const instances = { 'in production': await start(true), 'with a token': await start(false) }
  for (const [name, startSilent] of Object.entries(fronts)) {
    for (const [which, instance] of Object.entries(instances)) {
      it(`${name}, before an instance ${which}`, async () => {
        const port = await startSilent(instance.port)
        for (const host of ['127.0.0.1', 'localhost', `127.0.0.1:${instance.port}`, 'shop.example']) {
          for (const path of ['/metrics', '/fleet/state', '/health/detailed', '/api/v1/load-balancer/config']) {
            assert.equal((await sendRequest(port, path, { headers: { host } })).status, 404, `${host} ${path}`)
            assert.equal(
              (await sendRequest(instance.port, path, { headers: { host } })).status,
              404,
              `${host} ${path}, directly`,
            )
          }
          const headers = { host, 'content-type': 'application/json' }
          const drained = await sendRequest(port, '/api/v1/load-balancer/drain', { method: 'POST', headers })
          assert.equal(drained.status, 404)
        }
        assert.equal(instance.state(), 'serving')
      })
    }
  }
})
