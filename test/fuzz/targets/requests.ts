import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { fleet } from '../../../src/fleet.ts'
import { exchange, statuses } from '../engine/exchange.ts'
import type { Target } from '../engine/target.ts'

const request = (line: string, ...lines: string[]): string =>
  `${[`${line} HTTP/1.1`, 'Host: a', ...lines].join('\r\n')}\r\n\r\n`
const json = ['Content-Type: application/json', 'Content-Length: 13']

let app: FastifyInstance
let port: number

async function start(): Promise<void> {
  app = Fastify({ logger: false })
  await app.register(fleet, {
    rateLimit: false,
    overload: false,
    operators: { loopback: false },
    session: { secret: 'a secret of thirty-two bytes and more' },
    jwt: { secret: 'a secret of thirty-two bytes and more' },
    redis: { client: null },
  })
  app.post('/login', async (req) => {
    req.session.userId = 'a'
    return { ok: true }
  })
  app.get('/me', async (req) => ({ user: req.session.userId ?? null, country: req.geo.country ?? null }))
  app.get('/account', { onRequest: app.authenticate }, async (req) => req.user)
  app.post('/orders', { config: { idempotency: true } }, async (asked) => asked.body ?? null)
  app.get('/cached', { config: { cache: { ttlMs: 1000, vary: ['accept-language'] } } }, async () => ({ at: 1 }))
  await app.listen({ port: 0, host: '127.0.0.1' })
  port = (app.server.address() as AddressInfo).port
}

/** To any input an instance responds without a 5xx or a stack, and closes the connection. */
export default {
  seeds: [
    request('GET /me', 'Cookie: fleet.sid=abc.def', 'CF-IPCountry: DE'),
    request('POST /login', 'Content-Length: 0') + request('GET /cached', 'Accept-Language: de'),
    `${request('POST /orders', 'Idempotency-Key: "a"', ...json)}{"a":[1,"b"]}`,
    `${request('POST /orders', 'Idempotency-Key: b', 'Content-Type: application/json', 'Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\n\r\n`,
    request('GET /account', 'Authorization: Bearer a.b.c'),
    request('GET /health') + request('GET /ready') + request('GET /live') + request('GET /metrics'),
    request('OPTIONS /me', 'Origin: https://a.example', 'Access-Control-Request-Method: PUT'),
    request('GET /api/v1/geo/endpoint', 'X-Forwarded-For: 1.1.1.1, ::1', 'Forwarded: for="[::1]"'),
    request('GET /api/v1/load-balancer/status') + request('GET /fleet') + request('POST /api/v1/load-balancer/drain'),
    request('PUT /%zz?a[b]=%00') + request('GET /__proto__', '__proto__: x', 'constructor: y'),
    request('GET /me', 'Upgrade: websocket', 'Connection: upgrade') + request('CONNECT a:1'),
  ],
  dictionary: [
    ...[
      '\r\n',
      '\0',
      '%00',
      '%zz',
      '__proto__',
      'constructor',
      '{"__proto__":{"a":1}}',
      '[',
      '"',
      '\xff',
      '\xa0',
      '; ',
    ],
    ...[
      'Cookie: fleet.sid=',
      'Authorization: Bearer ',
      'Idempotency-Key: ',
      'Content-Type: text/plain\r\n',
      'Expect: 100-continue\r\n',
    ],
    ...[
      'X-Forwarded-Proto: https\r\n',
      'X-Request-Id: \xe9\r\n',
      'If-None-Match: *\r\n',
      'Accept-Encoding: gzip\r\n',
      'x-fleet-retry: 1\r\n',
    ],
    ...[
      'x-fleet-cache-load: 1\r\n',
      'Origin: null\r\n',
      'Accept-Language: x\r\n',
      'Content-Length: 5\r\n',
      'HTTP/1.0',
      'HTTP/2.0',
    ],
  ],
  async prepare() {
    await start()
    return () => app.close()
  },
  async run(input) {
    const text = await exchange(port, input)
    const seen = statuses(text)
    // Node responds 501 and 505 to an unknown coding or version.
    assert.ok(!seen.some((status) => status >= 500 && status !== 501 && status !== 505), text)
    assert.doesNotMatch(text, /node_modules|\bat .*\.[jt]s:\d/, 'a stack reaches the client')
    return seen.join(' ')
  },
} satisfies Target
