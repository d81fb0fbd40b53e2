import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { text } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import { WebSocket } from 'ws'
import { type App, forkApp } from '../../helpers/fork-app.ts'
import { until } from '../../helpers/until.ts'
import { within } from '../../helpers/within.ts'
import { get, open } from './sockets.ts'

const fixture = new URL('./lifecycle.fixture.ts', import.meta.url)
const several = new URL('./several.fixture.ts', import.meta.url)

async function start(env: Record<string, string | number> = {}, ipc = false): Promise<{ app: App; port: number }> {
  const app = forkApp(fixture, { env: { DRAIN_DELAY: 0, ...env }, ipc })
  const [, port] = await app.waitFor(/listening at http:\/\/(?:127\.0\.0\.1|\[::1\]|localhost):(\d+)/)
  return { app, port: Number(port) }
}

interface HttpResponse {
  status: number
  headers: IncomingMessage['headers']
  body: string
}

function sendRequest(
  port: number,
  path: string,
  { method = 'GET', agent, headers }: { method?: string; agent?: Agent; headers?: Record<string, string> } = {},
): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    request({ port, host: '127.0.0.1', path, method, agent: agent ?? new Agent(), headers }, async (response) => {
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: await text(response) })
    })
      .on('error', reject)
      .end()
  })
}

/**
 * Asserts that nothing delays the exit. Node checks for incomplete requests after 30 s, and Fastify keeps idle
 * connections for 72 s.
 *
 * @throws if the exit takes more than 5 s from now
 */
async function exitsSoon(app: App): Promise<void> {
  await within(5_000, 'the exit', () => app.ended, [app.pid])
  assert.deepEqual(app.ended, { code: 0, signal: null })
}

describe('lifecycle of an instance', { concurrency: 4 }, () => {
  const post = { method: 'POST', headers: { 'content-type': 'application/json' } }
  const long = { DRAIN_DELAY: 600_000, SHUTDOWN_TIMEOUT: 600_000 }

  it('reports the drain at once and serves requests during the drain delay', async () => {
    const { app, port } = await start(long)
    assert.equal((await sendRequest(port, '/ready')).status, 200)
    void app.kill('SIGTERM')
    const ready = await until(async () => {
      const response = await sendRequest(port, '/ready')
      return response.status === 503 ? response : undefined
    })
    assert.equal(JSON.parse(ready.body).reason, 'draining')
    assert.equal((await sendRequest(port, '/live')).status, 200)
    assert.equal((await sendRequest(port, '/health')).status, 200)
    const agent = new Agent({ keepAlive: true })
    const served = await sendRequest(port, '/', { agent })
    assert.equal(served.status, 200)
    assert.equal(served.headers.connection, 'close')
    assert.equal(served.headers['x-fleet-draining'], '1')
    assert.equal(served.headers['x-load-balancer-ready'], 'false')
    await app.kill('SIGKILL')
  })

  it('exits 0 after the drain delay and not earlier', async () => {
    const { app, port } = await start({ DRAIN_DELAY: 400 })
    const before = performance.now()
    void app.kill('SIGTERM')
    assert.deepEqual(await app.exit, { code: 0, signal: null })
    assert.ok(performance.now() - before >= 400)
    await assert.rejects(sendRequest(port, '/'), { code: 'ECONNREFUSED' })
  })

  it('finishes a slow request with Connection: close before it exits', async () => {
    const { app, port } = await start()
    const slow = sendRequest(port, '/pending', { agent: new Agent({ keepAlive: true }) })
    await app.waitFor(/\/pending/)
    void app.kill('SIGTERM')
    const response = await slow
    assert.equal(response.status, 200)
    assert.equal(response.headers.connection, 'close')
    assert.equal((await app.exit).code, 0)
  })

  it('sends Connection: close in hijacked responses', async () => {
    const { app, port } = await start()
    const raw = sendRequest(port, '/raw-pending', { agent: new Agent({ keepAlive: true }) })
    await app.waitFor(/raw-pending/)
    void app.kill('SIGTERM')
    assert.equal((await raw).headers.connection, 'close')
    assert.equal((await app.exit).code, 0)
  })

  it('is not delayed by connections that are idle, turn idle late, sent nothing or half a request', async () => {
    const { app, port } = await start({ SHUTDOWN_TIMEOUT: 600_000, FIXTURE_TIMER: '1' })
    const idle = await open(port, get('/'))
    await until(() => idle.received().includes('hello'))
    const late = await open(port, `${get('/')}${get('/pending')}`)
    await until(() => late.received().includes('hello'))
    await app.waitFor(/\/pending/)
    await open(port)
    await open(port, 'GET / HTTP/1.1\r\nHost: x\r\n')
    void app.kill('SIGTERM')
    await until(() => late.received().includes('"pending"'))
    await exitsSoon(app)
  })

  it('closes WebSockets with 1012, also if the client does not respond', async () => {
    const { app, port } = await start()
    const clients = [1, 2, 3].map(() => new WebSocket(`ws://127.0.0.1:${port}/ws`))
    await Promise.all(clients.map((client) => once(client, 'open')))
    const silent = await open(
      port,
      get(
        '/ws',
        'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n',
      ),
    )
    await until(() => silent.received().includes('101 Switching'))
    const closed = Promise.all(clients.map((client) => once(client, 'close')))
    void app.kill('SIGTERM')
    for (const [code] of await closed) assert.equal(code, 1012)
    assert.equal((await app.exit).code, 0)
  })

  for (const path of ['/events', '/event-stream']) {
    it(`ends the event stream ${path} with a shutdown event`, async () => {
      const { app, port } = await start()
      const stream = await open(port, get(path, 'Accept: text/event-stream\r\n'))
      await until(() => stream.received().includes('data: first'))
      void app.kill('SIGTERM')
      await once(stream, 'close')
      assert.match(stream.received(), /event: shutdown\ndata: \{"reason":"service restart"\}\n\n/)
      assert.equal((await app.exit).code, 0)
      assert.doesNotMatch(app.stdout, /"level":[56]0/)
    })
  }

  it('sends GOAWAY to HTTP/2 clients and finishes their streams', async () => {
    const { app, port } = await start({ FIXTURE_HTTP2: '1' })
    const session = connectHttp2(`http://127.0.0.1:${port}`)
    const goAway = once(session, 'goaway')
    const stream = session.request({ ':path': '/pending' })
    const body = text(stream)
    await app.waitFor(/\/pending/)
    void app.kill('SIGTERM')
    await goAway
    assert.deepEqual(JSON.parse(await body), { pending: true })
    assert.equal((await app.exit).code, 0)
  })

  it('exits at once on a second signal', async () => {
    const { app, port } = await start({ SHUTDOWN_TIMEOUT: 60_000 })
    const cut = assert.rejects(sendRequest(port, '/slow?ms=30000'))
    await app.waitFor(/slow\?ms/)
    void app.kill('SIGTERM')
    await app.waitFor(/draining/)
    await until(() => app.ended ?? void app.kill('SIGINT'), { what: 'the exit' })
    assert.deepEqual(app.ended, { code: 1, signal: null })
    assert.match(app.stdout, /second signal/)
    await cut
  })

  it('takes signals in quick succession for one, as npm, yarn and process groups send them', async () => {
    const { app, port } = await start()
    const slow = sendRequest(port, '/pending')
    await app.waitFor(/\/pending/)
    for (const signal of ['SIGINT', 'SIGINT', 'SIGTERM'] as const) process.kill(app.pid, signal)
    assert.equal((await slow).status, 200)
    assert.deepEqual(await app.exit, { code: 0, signal: null })
    assert.doesNotMatch(app.stdout, /second signal/)
  })

  it('is not ended by the hangup of its terminal while it drains', async () => {
    const { app, port } = await start({ DRAIN_DELAY: 600_000 })
    void app.kill('SIGINT')
    await app.waitFor(/"draining"/)
    void app.kill('SIGHUP')
    assert.equal((await sendRequest(port, '/slow?ms=100')).status, 200)
    assert.equal(app.ended, undefined)
    await app.kill('SIGKILL')
  })

  it('cuts requests at the deadline, logs their method, route and age, and exits 1', async () => {
    const { app, port } = await start({ SHUTDOWN_TIMEOUT: 500 })
    const cut = assert.rejects(sendRequest(port, '/slow?ms=30000&secret=1'))
    await app.waitFor(/slow\?ms/)
    void app.kill('SIGTERM')
    await cut
    assert.equal((await app.exit).code, 1)
    const line = app.stdout.split('\n').find((entry) => entry.includes('cut at the shutdown deadline'))
    const entry = JSON.parse(line ?? '{}')
    assert.equal(entry.method, 'GET')
    assert.equal(entry.route, '/slow')
    assert.ok(entry.ageMs > 0)
    assert.match(app.stdout, /plugins close/)
  })

  it('exits 1 if a plugin never closes, although nothing else keeps the process alive', async () => {
    const { app } = await start({ SHUTDOWN_TIMEOUT: 300, FIXTURE_HANG_CLOSE: '1' })
    void app.kill('SIGTERM')
    assert.equal((await app.exit).code, 1)
    assert.match(app.stdout, /a plugin did not close/)
  })

  it('shuts down on pm2’s shutdown message', async () => {
    const { app } = await start({}, true)
    app.send('shutdown')
    assert.deepEqual(await app.exit, { code: 0, signal: null })
  })

  it('drains on a fatal error and fails liveness', async () => {
    const { app, port } = await start(long)
    await sendRequest(port, '/throw-later', { method: 'POST' })
    await until(async () => (await sendRequest(port, '/live')).status === 503)
    assert.equal((await sendRequest(port, '/')).status, 200)
    await app.waitFor(/uncaught in a timer/)
    await app.kill('SIGKILL')
  })

  it('exits 1 after a fatal error', async () => {
    const { app, port } = await start()
    await sendRequest(port, '/throw-later', { method: 'POST' })
    assert.deepEqual(await app.exit, { code: 1, signal: null })
    assert.match(app.stdout, /uncaught in a timer/)
  })

  it('serves requests during the drain also after a second fatal error', async () => {
    const { app, port } = await start(long)
    await sendRequest(port, '/throw-later', { method: 'POST' })
    await app.waitFor(/uncaught in a timer/)
    // Until a second signal would end the process.
    await sendRequest(port, '/slow?ms=400')
    await sendRequest(port, '/throw-later', { method: 'POST' })
    // Until the error has been thrown.
    assert.equal((await sendRequest(port, '/slow?ms=50')).status, 200)
    assert.equal(app.ended, undefined)
    await app.kill('SIGKILL')
  })

  it('is not ended by a rejected promise of fleet that other code handles, as pm2 does', async () => {
    const { app, port } = await start({ FIXTURE_REJECTIONS: 'logged' })
    await sendRequest(port, '/reject', { method: 'POST' })
    await app.waitFor(/rejected: FLEET_ERR_STATE_UNAVAILABLE/)
    assert.equal((await sendRequest(port, '/live')).status, 200)
    void app.kill('SIGTERM')
    assert.deepEqual(await app.exit, { code: 0, signal: null })
  })

  it('is not killed by a signal that is repeated while its last plugin closes', async () => {
    const { app } = await start({ FIXTURE_SIGNAL_AGAIN: '1' })
    void app.kill('SIGTERM')
    assert.equal((await app.exit).signal, null)
    assert.match(app.stdout, /the last plugin closes/)
  })

  it('exits during startup', async () => {
    const app = forkApp(fixture, { env: { FIXTURE_SLOW_BOOT: '1', DRAIN_DELAY: 60_000, SHUTDOWN_TIMEOUT: 60_000 } })
    await app.waitFor(/booting/)
    void app.kill('SIGTERM')
    assert.equal((await app.exit).code, 0)
  })

  for (const [cause, code] of [
    ['error', 1],
    ['signal', 0],
  ] as const) {
    it(`exits ${code} soon after ${cause === 'error' ? 'an error' : 'a signal'} while a plugin that never loads delays the boot`, async () => {
      const app = forkApp(fixture, { env: { FIXTURE_HANG_BOOT: cause, SHUTDOWN_TIMEOUT: 600_000 } })
      await app.waitFor(cause === 'error' ? /lost during the boot/ : /booting/)
      if (cause === 'signal') void app.kill('SIGTERM')
      await within(5_000, 'the exit', () => app.ended, [process.pid, app.pid])
      assert.deepEqual(app.ended, { code, signal: null })
    })
  }

  it('prints a fatal error on stderr if the log of the app is silent', async () => {
    const app = forkApp(fixture, {
      env: { FIXTURE_HANG_BOOT: 'error', LOG_LEVEL: 'silent', SHUTDOWN_TIMEOUT: 600_000 },
    })
    assert.deepEqual(await app.exit, { code: 1, signal: null })
    assert.match(app.stderr, /^Error: lost during the boot\n {4}at /m)
  })

  it('closes every address of localhost', async () => {
    const { app, port } = await start({ FIXTURE_HOST: 'localhost', SHUTDOWN_TIMEOUT: 600_000 })
    const kept = await open(port, get('/'))
    await until(() => kept.received().includes('hello'))
    void app.kill('SIGTERM')
    await exitsSoon(app)
  })

  it('drains and undrains through the operators’ API', async () => {
    const { app, port } = await start()
    const drained = await sendRequest(port, '/api/v1/load-balancer/drain', post)
    assert.equal(JSON.parse(drained.body).state, 'draining')
    assert.equal((await sendRequest(port, '/ready')).status, 503)
    assert.equal((await sendRequest(port, '/')).headers.connection, 'close')
    await sendRequest(port, '/api/v1/load-balancer/undrain', post)
    assert.equal((await sendRequest(port, '/ready')).status, 200)
    const agent = new Agent({ keepAlive: true })
    assert.equal((await sendRequest(port, '/', { agent })).headers.connection, 'keep-alive')
    agent.destroy()
    void app.kill('SIGTERM')
    assert.equal((await app.exit).code, 0)
  })

  it('serves a retryable request if there is no other instance', async () => {
    const { app, port } = await start()
    await sendRequest(port, '/api/v1/load-balancer/drain', post)
    assert.equal((await sendRequest(port, '/', { headers: { 'x-fleet-retry': '1' } })).status, 200)
    void app.kill('SIGTERM')
    await app.exit
  })
})

describe('several apps in one process', { concurrency: 4 }, () => {
  for (const [codes, expected] of [
    ['0,0', 0],
    ['0,3,1', 3],
    ['2,0', 2],
    ['0,fails', 1],
  ] as const)
    it(`exit with ${expected} after the last one has closed: ${codes}`, async () => {
      const app = forkApp(several, { env: { FIXTURE_CODES: codes } })
      assert.deepEqual(await app.exit, { code: expected, signal: null })
      assert.deepEqual(
        app.stdout.trim().split('\n'),
        codes.split(',').map((code) => `closed ${code}`),
      )
    })
})
