import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { connect as connectH2 } from 'node:http2'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { promisify } from 'node:util'
import { Client, request } from 'undici'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { until } from '../helpers/until.ts'
import { startAgent } from './agent.ts'
import { startFleet } from './fleet.ts'
import { type Front, missing, releases, startFront } from './haproxy.ts'

const fleet = await startFleet()
const names = fleet.members.map(({ id }) => id)

/** Starts HAProxy and waits until it has checked all three instances with its own settings. */
async function start(release: (typeof releases)[number], env: Record<string, string> = {}): Promise<Front> {
  const front = await startFront(release, { ...fleet.env, ...env })
  await front.up(...names)
  await even(front, ...names)
  return front
}

/** Disables the agents: on a busy machine each may report less. */
async function even(front: Front, ...servers: string[]): Promise<void> {
  await front.hold(...servers)
  for (const name of servers) await front.api(`set server fleet/${name} weight 100%`)
}

/** In-flight requests per instance. */
const atWork = async (front: Front): Promise<string> =>
  (await Promise.all(names.map((name) => front.server(name)))).map(({ current }) => current).join()

/** Connections to instances that it has opened for requests. */
async function opened(front: Front): Promise<number> {
  const [head = '', ...lines] = (await front.api('show stat')).split('\n')
  const backend = lines.find((line) => line.startsWith('fleet,BACKEND,')) ?? ''
  return Number(backend.split(',')[head.split(',').indexOf('connect')])
}

const servedBy = async (url: string, headers: Record<string, string> = {}): Promise<string> => {
  const response = await fetch(url, { headers })
  const body = (await response.json()) as { servedBy: string }
  return body.servedBy
}

async function count(times: number, send: () => Promise<string>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (let i = 0; i < times; i++) {
    const name = await send()
    counts[name] = (counts[name] ?? 0) + 1
  }
  return counts
}

/** Sends raw bytes. */
async function raw(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.write(bytes)
  return await text(socket)
}

let made: Promise<string> | undefined
/** A file with a certificate for localhost and its key. */
const certificate = (): Promise<string> => {
  made ??= (async () => {
    const file = join(temporaryFolder('tls'), 'localhost.pem')
    const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    const { stdout } = await promisify(execFile)('openssl', [...kind, '-keyout', '-', '-out', '-', ...subject])
    await writeFile(file, stdout)
    return file
  })()
  return made
}

interface Failure {
  statusCode: number
  code: string
  requestId?: string
}

/** Asserts that a response is an error in the instances' format. */
async function failure(response: Response, status: number, code: string): Promise<void> {
  assert.equal(response.status, status)
  assert.match(response.headers.get('content-type') ?? '', /^application\/json/)
  const body = (await response.json()) as Failure
  assert.equal(body.statusCode, status)
  assert.equal(body.code, code)
  assert.match(body.requestId ?? '', /^[\w-]{36}$/)
  assert.equal(body.requestId, response.headers.get('x-request-id'))
}

if (missing) test('the front on HAProxy 3.2', { skip: missing }, () => {})

for (const release of releases) {
  describe(`the front on HAProxy ${release.version}`, async () => {
    const front = await start(release)

    test('balances round-robin', async () => {
      assert.deepEqual(await count(30, () => servedBy(front.url)), { 'app-1': 10, 'app-2': 10, 'app-3': 10 })
    })

    test('gives each instance the share that its agent reports', async () => {
      const [one, two, three] = await Promise.all([100, 50, 25].map(startAgent))
      const agents = { LB_AGENT_1: `${one}`, LB_AGENT_2: `${two}`, LB_AGENT_3: `${three}` }
      const own = await startFront(release, { ...fleet.env, ...agents })
      await own.up(...names)
      const weights = async (): Promise<number[]> =>
        (await Promise.all(names.map((name) => own.server(name)))).map(({ weight }) => weight)
      await until(async () => (await weights()).join() === '100,50,25', { what: 'the weights of the agents' })
      await own.hold(...names)
      // A cycle is 7 requests, and must complete with these weights.
      await count(7, () => servedBy(own.url))
      assert.deepEqual(await count(70, () => servedBy(own.url)), { 'app-1': 40, 'app-2': 20, 'app-3': 10 })
      await own.stop()
    })

    test('balances by connections, at random and by address', async () => {
      for (const balance of ['leastconn', 'random(2)', 'source']) {
        const own = await start(release, { LB_BALANCE: balance })
        const counts = await count(60, () => servedBy(own.url))
        assert.equal(Object.keys(counts).length, balance === 'source' ? 1 : 3, `${balance}: ${JSON.stringify(counts)}`)
        await own.stop()
      }
    })

    test('tells an instance the client’s address and replaces a client’s claims', async () => {
      const lies = {
        'x-forwarded-for': '6.6.6.6',
        'x-forwarded-host': 'evil.example',
        'x-forwarded-proto': 'https',
        'x-forwarded-port': '1',
        'x-real-ip': '6.6.6.6',
        forwarded: 'for=6.6.6.6',
        'x-request-id': 'mine',
        'x-fleet-retry': '1',
      }
      const { headers, body } = await request(`${front.url}/seen`, { headers: lies })
      const seen = (await body.json()) as Record<string, string>
      assert.equal(seen['x-forwarded-for'], '127.0.0.1')
      assert.equal(seen['x-forwarded-host'], new URL(front.url).host)
      assert.equal(seen['x-forwarded-proto'], 'http')
      assert.equal(seen['x-forwarded-port'], new URL(front.url).port)
      assert.equal(seen['x-real-ip'], undefined)
      assert.equal(seen.forwarded, undefined)
      assert.equal(seen['x-fleet-retry'], undefined)
      assert.match(seen['x-request-id'] ?? '', /^[\w-]{36}$/)
      assert.equal(headers['x-request-id'], seen['x-request-id'])

      const posted = await fetch(`${front.url}/echo`, {
        method: 'POST',
        body: '{}',
        headers: { 'content-type': 'application/json', 'x-fleet-retry': '1' },
      })
      assert.equal(posted.status, 200)
    })

    test('logs one line of JSON per request, with its id and without the query', async () => {
      const path = '/seen/"\\nobody'
      const { headers } = await request(`${front.url}${encodeURI('/seen')}?token=secret`)
      await raw(front.url, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
      const line = await until(() => front.log.find(({ requestId }) => requestId === headers['x-request-id']))
      assert.equal(line.path, '/seen')
      assert.equal(line.method, 'GET')
      assert.equal(line.status, 200)
      assert.equal(line.backend, 'fleet')
      assert.equal(line.client, '127.0.0.1')
      assert.ok(names.includes(String(line.server)))
      assert.equal(typeof line.msTotal, 'number')
      await until(() => front.log.some((other) => other.path === path), { what: 'a line with an escaped path' })
      assert.doesNotMatch(front.child.stdout, /secret/)
    })

    test('responds 404 to operators’ paths in any spelling', async () => {
      const paths = [
        ...['/metrics', '/fleet', '/fleet/', '/health/detailed', '/api/v1/load-balancer/instances?x=1', '/METRICS'],
        ...['/api/v1/load-balancer', '/%6Detrics', '//metrics', '///fleet', '/api//v1///load-balancer/config'],
        ...['/health%2Fdetailed', '/metrics;x', '/metrics%3Fx', '/%66%6C%65%65%74', '/metrics/'],
      ]
      for (const path of paths) await failure(await fetch(front.url + path), 404, 'LB_ERR_NOT_FOUND')
      const { host } = new URL(front.url)
      for (const target of [`http://${host}/metrics`, '/metrics#x', '/metrics?']) {
        const response = await raw(front.url, `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
        assert.match(response, /^HTTP\/1\.1 40[04] /, target)
        assert.doesNotMatch(response, /# HELP/)
      }
      for (const path of ['/health', '/ready', '/live']) assert.equal((await fetch(front.url + path)).status, 200, path)
      // An application may have such paths.
      assert.match(await (await fetch(`${front.url}/fleets`)).text(), /Route GET:\/fleets not found/)
    })

    test('responds 400 to malformed requests', async () => {
      const response = await raw(front.url, 'GARBAGE\r\n\r\n')
      assert.match(response, /^HTTP\/1\.1 400 /)
    })

    const old = release.version.startsWith('2.') && 'before 3.0 HAProxy sends its own page and ignores `errorfile`'
    test('responds with JSON to malformed requests', { skip: old }, async () => {
      const response = await raw(front.url, 'GARBAGE\r\n\r\n')
      const [head = '', body = ''] = response.split('\r\n\r\n')
      assert.equal(JSON.parse(body).code, 'LB_ERR_BAD_REQUEST')
      assert.match(head, new RegExp(`content-length: ${Buffer.byteLength(body)}$`, 'im'))
    })

    test('compresses text for clients that accept it only', async () => {
      const packed = await request(`${front.url}/big`, { headers: { 'accept-encoding': 'gzip' } })
      assert.equal(packed.headers['content-encoding'], 'gzip')
      assert.ok((await packed.body.arrayBuffer()).byteLength < 1_000)
      const plain = await request(`${front.url}/big`)
      assert.equal(plain.headers['content-encoding'], undefined)
      assert.equal((await plain.body.text()).length, 10_500)
    })

    test('forwards WebSockets, to servers of a separate backend', async () => {
      const socket = new WebSocket(`${front.url.replace('http', 'ws')}/ws`)
      const received: string[] = []
      socket.addEventListener('message', ({ data }) => received.push(String(data)))
      await until(() => names.includes(received[0] ?? ''), { what: 'the greeting' })
      socket.send('hello')
      await until(() => received[1] === 'echo hello', { what: 'the echo' })
      assert.equal(Number((await front.api('show stat')).match(/^websocket,BACKEND,\d+,\d+,(\d+)/m)?.[1]), 1)
      socket.close()
      const line = await until(() => front.log.find(({ path }) => path === '/ws'))
      assert.equal(line.status, 101)
      assert.equal(line.backend, 'websocket')
    })

    test('retries a failed GET on another instance, and never a POST', async () => {
      const requestsTo = async (name: string): Promise<string[]> =>
        (await readFile(fleet.orders, 'utf8')).split('\n').filter((line) => line.startsWith(name))
      const read = `read-${release.version}`
      assert.equal((await fetch(`${front.url}/silent?name=${read}`)).status, 200)
      assert.equal(new Set(await requestsTo(read)).size, 2)
      // A kept-alive connection, which HAProxy would close to make the client repeat the request.
      const client = new Client(front.url)
      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'] as const) {
        const name = `${method}-${release.version}`
        await (await client.request({ method: 'GET', path: '/' })).body.dump()
        const { statusCode, body, headers } = await client.request({ method, path: `/silent?name=${name}` })
        assert.equal(statusCode, 502)
        const { code, requestId } = (await body.json()) as Failure
        assert.deepEqual([code, requestId], ['LB_ERR_BAD_GATEWAY', headers['x-request-id']])
        assert.equal((await requestsTo(name)).length, 1)
        const line = await until(() => front.log.find((line) => line.requestId === requestId))
        assert.deepEqual([line.status, line.method, line.path, line.client], [502, method, '/silent', '127.0.0.1'])
        assert.equal(front.log.filter((line) => line.requestId === requestId).length, 1)
      }
      await client.close()
    })

    test('responds 502 to an HTTP/2 client whose POST was cut, instead of “not processed”', async () => {
      const own = await start(release, { LB_TLS_CERT: await certificate() })
      const session = connectH2(own.https, { ca: await readFile(await certificate()) })
      const send = async (method: string, path: string): Promise<[number, string]> => {
        const stream = session.request({ ':method': method, ':path': path, 'content-type': 'application/json' })
        stream.end(method === 'POST' ? '{}' : undefined)
        const [head] = (await once(stream, 'response')) as [{ ':status': number }]
        return [head[':status'], await text(stream)]
      }
      const name = `h2-${release.version}`
      for (let i = 0; i < 3; i++) assert.equal((await send('GET', '/'))[0], 200)
      assert.equal((await send('POST', '/echo'))[0], 200)
      const [status, body] = await send('POST', `/silent?name=${name}`)
      assert.equal(status, 502)
      assert.equal(JSON.parse(body).code, 'LB_ERR_BAD_GATEWAY')
      assert.equal((await readFile(fleet.orders, 'utf8')).split('\n').filter((line) => line.startsWith(name)).length, 1)
      session.close()
      await own.stop()
    })

    test('responds to browsers with HTML, and to programs with JSON', async () => {
      const own = await start(release, { LB_SERVER_MAXCONN: '1', LB_QUEUE: '100ms' })
      const page = async (path: string, accept: string, method = 'GET'): Promise<[number, string, string]> => {
        const response = await fetch(own.url + path, { method, headers: { accept } })
        const [type = ''] = (response.headers.get('content-type') ?? '').split(';')
        const body = await response.text()
        if (response.headers.has('x-request-id'))
          assert.ok(body.includes(response.headers.get('x-request-id') ?? ''), body)
        assert.equal(response.headers.get('x-lb-error'), null)
        if (response.status >= 400) assert.equal(response.headers.get('cache-control'), 'no-store')
        return [response.status, type, body.slice(0, 15)]
      }
      const browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
      for (const accept of [browser, 'TEXT/HTML', '*/*, text/html;level=1'])
        assert.deepEqual(await page('/metrics', accept), [404, 'text/html', '<!doctype html>'], accept)
      for (const accept of [
        '*/*',
        'application/json',
        'application/json, text/html',
        'text/htmlx',
        'application/ld+json',
      ])
        assert.deepEqual(await page('/metrics', accept), [404, 'application/json', '{"statusCode":4'], accept)
      assert.deepEqual(await page('/a%zz', browser), [400, 'text/html', '<!doctype html>'])
      assert.deepEqual(await page('/a%zz', '*/*'), [400, 'application/json', '{"statusCode":4'])
      const name = `html-${release.version}`
      assert.deepEqual(await page(`/silent?name=${name}`, browser, 'POST'), [502, 'text/html', '<!doctype html>'])
      const busy = Array.from({ length: 3 }, () => fetch(`${own.url}/wait`, { method: 'POST' }))
      await until(async () => (await atWork(own)) === '1,1,1', { what: 'three at work' })
      for (const method of ['GET', 'POST']) {
        assert.deepEqual(await page('/', browser, method), [503, 'text/html', '<!doctype html>'])
        assert.deepEqual(await page('/', '*/*', method), [503, 'application/json', '{"statusCode":5'])
      }
      await fleet.release(busy)
      for (const response of busy) assert.equal((await response).status, 200)
      await own.stop()
    })

    test('shows statistics with the password only, and read-only', async () => {
      assert.equal((await fetch(front.stats)).status, 401)
      const authorization = (password: string): string => `Basic ${btoa(`admin:${password}`)}`
      assert.equal((await fetch(front.stats, { headers: { authorization: authorization('admin') } })).status, 401)
      const headers = { authorization: authorization('a password for tests') }
      const page = await fetch(front.stats, { headers })
      assert.equal(page.status, 200)
      const html = await page.text()
      assert.match(html, /app-3/)
      assert.doesNotMatch(html, /name="?action/)
      const body = new URLSearchParams({ s: 'app-1', action: 'drain', b: '#fleet' })
      await fetch(front.stats, { method: 'POST', headers, body, redirect: 'manual' })
      assert.deepEqual(await count(30, () => servedBy(front.url)), { 'app-1': 10, 'app-2': 10, 'app-3': 10 })
    })

    test('exports metrics on a separate port only', async () => {
      assert.match(await (await fetch(`${front.metrics}/metrics`)).text(), /haproxy_server_status\{proxy="fleet"/)
      assert.equal((await fetch(front.metrics)).status, 404)
      const statusFor = async (host: string): Promise<number> => {
        const response = await request(`${front.metrics}/metrics`, { headers: { host } })
        await response.body.dump()
        return response.statusCode
      }
      for (const host of ['haproxy:8405', '[::1]:8405', '10.0.0.1']) assert.equal(await statusFor(host), 200, host)
      assert.equal(await statusFor('rebound.example:8405'), 404)
      assert.equal((await fetch(`${front.url}/metrics`)).status, 404)
      assert.equal((await fetch(`${front.stats}/metrics`)).status, 401)
    })

    test('the runtime API can drain and weigh a server whose agent is disabled', async () => {
      const own = await start(release)
      await own.api('set server fleet/app-2 state drain')
      assert.equal((await own.server('app-2')).status, 'DRAIN')
      assert.deepEqual(await count(20, () => servedBy(own.url)), { 'app-1': 10, 'app-3': 10 })
      assert.equal((await own.server('app-2')).status, 'DRAIN', 'and it lasts')
      await own.api('set server fleet/app-2 state ready')
      await own.api('set server fleet/app-2 weight 25')
      await until(async () => (await count(45, () => servedBy(own.url)))['app-2'] === 5, { what: 'a ninth' })
      await own.api('enable agent fleet/app-2')
      await until(async () => (await own.server('app-2')).weight === 100, { what: 'the weight of the agent' })
      await own.stop()
    })

    test('keeps a client on its instance by a cookie that reveals no instance', async () => {
      const own = await start(release, { LB_STICKY: 'SERVER', LB_STICKY_KEY: 'some key' })
      const first = await fetch(own.url)
      const { servedBy: mine } = (await first.json()) as { servedBy: string }
      const set = first.headers.get('set-cookie') ?? ''
      assert.match(set, /^SERVER=[0-9a-f]{16}; path=\/; HttpOnly; SameSite=Lax$/)
      const cookie = set.split(';')[0] as string
      assert.deepEqual(await count(20, () => servedBy(own.url, { cookie })), { [mine]: 20 })
      assert.equal(Object.keys(await count(20, () => servedBy(own.url))).length, 3)
      // Instances do not receive the cookie.
      const seen = (await (await fetch(`${own.url}/seen`, { headers: { cookie } })).json()) as { cookie?: string }
      assert.equal(seen.cookie, undefined)
      await own.stop()
    })

    test('limits the requests of one client, and logins earlier', async () => {
      const tries = async () => {
        const own = await start(release, { LB_RATE: '20', LB_RATE_AUTH: '5', LB_RATE_TARPIT: '40' })
        const began = performance.now()
        const logins: Response[] = []
        for (let i = 0; i < 6; i++) logins.push(await fetch(`${own.url}/api/v1/auth/login`, { method: 'POST' }))
        const probes = await Promise.all(Array.from({ length: 30 }, () => fetch(`${own.url}/ready`)))
        const responses: Response[] = []
        for (let i = 0; i < 20; i++) responses.push(await fetch(own.url))
        const patient = await Promise.all(Array.from({ length: 20 }, () => fetch(own.url)))
        // Requests within 10 s, excluding the 5 s of the tarpit, are counted together. Otherwise the test repeats them.
        if (performance.now() - began < 15_000) return { own, logins, probes, responses, patient }
        await own.stop()
        return undefined
      }
      const { own, logins, probes, responses, patient } = await until(tries, { what: 'requests within 10 s' })
      const rejected = logins.pop() as Response
      for (const { status } of logins) assert.equal(status, 200)
      assert.equal(rejected.headers.get('retry-after'), '10')
      await failure(rejected, 429, 'LB_ERR_RATE_LIMITED')
      for (const { status } of probes) assert.equal(status, 200, 'probes are not counted')
      assert.deepEqual(
        responses.map(({ status }) => status),
        responses.map((_, i) => (i < 14 ? 200 : 429)),
      )
      // Further requests are delayed; the log shows the difference from a plain rejection.
      for (const { status } of patient) assert.equal(status, 429)
      await until(() => own.log.some(({ end }) => end === 'PT'), { what: 'the tarpit' })
      await own.stop()
    })

    test('queues requests beyond the limit of its instances', async () => {
      const own = await start(release, { LB_SERVER_MAXCONN: '1', LB_QUEUE: '60s' })
      const nine = Array.from({ length: 9 }, () => fetch(`${own.url}/wait`))
      await until(async () => /^fleet,BACKEND,6,/m.test(await own.api('show stat')), { what: 'six in the queue' })
      assert.equal(await atWork(own), '1,1,1')
      await fleet.release(nine)
      for (const response of nine) assert.equal((await response).status, 200)
      await own.stop()
    })

    test('keeps reusing connections to instances near the limit of client connections', async () => {
      const own = await start(release, { LB_MAXCONN: '100' })
      const clients = Array.from({ length: 70 }, () => new Client(own.url))
      const sendRequest = async (client: Client): Promise<void> => {
        const { statusCode, body } = await client.request({ method: 'GET', path: '/' })
        assert.equal(statusCode, 200)
        await body.dump()
      }
      for (const client of clients) await sendRequest(client)
      const before = await opened(own)
      for (const client of clients) await sendRequest(client)
      const during = (await opened(own)) - before
      assert.ok(during <= 10, `${during} connections for 70 requests`)
      await Promise.all(clients.map((client) => client.close()))
      await own.stop()
    })

    test('rejects requests that are queued for too long', async () => {
      const own = await start(release, { LB_SERVER_MAXCONN: '1', LB_QUEUE: '1s' })
      const busy = Array.from({ length: 3 }, () => fetch(`${own.url}/wait`))
      await until(async () => (await atWork(own)) === '1,1,1', { what: 'three at work' })
      const late = await fetch(own.url)
      assert.equal(late.headers.get('retry-after'), '1')
      await failure(late, 503, 'LB_ERR_UNAVAILABLE')
      await fleet.release(busy)
      for (const response of busy) assert.equal((await response).status, 200)
      await own.stop()
    })

    test('gives a canary the share set in its map at run time', async () => {
      const [, , { host, port, agentPort }] = fleet.members
      // The third slot is empty; the third instance is the canary.
      const noThird = { LB_SERVER_3: '127.0.0.1:1' }
      const env = { LB_CANARY: `${host}:${port}`, LB_CANARY_AGENT: `${agentPort}` }
      const own = await startFront(release, { ...fleet.env, ...noThird, ...env })
      await own.up('app-1', 'app-2')
      await until(async () => (await own.server('canary')).check === 'L7OK', { what: 'the canary to be seen' })
      await until(async () => (await own.server('app-3')).status === 'DOWN', { what: 'the empty place to be seen' })
      await even(own, 'app-1', 'app-2', 'canary')
      assert.deepEqual(await count(20, () => servedBy(own.url)), { 'app-1': 10, 'app-2': 10 })
      const [, map] = /\((\S+canary\.map)\)/.exec(await own.api('show map')) ?? []
      await own.api(`set map ${map} share 100`)
      assert.deepEqual(await count(20, () => servedBy(own.url)), { 'app-3': 20 })
      await own.api(`set map ${map} share 30`)
      const { 'app-3': share = 0 } = await count(300, () => servedBy(own.url))
      assert.ok(share > 50 && share < 130, `${share} of 300`)
      // A canary that crashes costs no request.
      await own.api(`set map ${map} share 100`)
      await own.api('set server fleet/canary addr 127.0.0.1 port 1')
      // HAProxy may still use an idle connection to the former address.
      await until(async () => (await servedBy(own.url)) !== 'app-3', { what: 'the end of idle connections' })
      await even(own, 'app-1', 'app-2')
      assert.deepEqual(await count(10, () => servedBy(own.url)), { 'app-1': 5, 'app-2': 5 })
      await own.api('enable health fleet/canary')
      await until(async () => (await own.server('canary')).status === 'DOWN', { what: 'its end to be seen' })
      assert.deepEqual(await count(10, () => servedBy(own.url)), { 'app-1': 5, 'app-2': 5 })
      await own.stop()
    })

    test('trusts a listed proxy in front of it', async () => {
      const own = await start(release, { LB_RATE: '5' })
      const [, list] = /\((\S+proxies\.lst)\)/.exec(await own.api('show acl')) ?? []
      await own.api(`add acl ${list} 127.0.0.1`)
      const headers = {
        'x-forwarded-for': '6.6.6.6, 203.0.113.7',
        'x-forwarded-proto': 'https',
        'x-request-id': 'from-cdn',
      }
      const { body } = await request(`${own.url}/seen`, { headers })
      const seen = (await body.json()) as Record<string, string>
      assert.equal(seen['x-forwarded-for'], '203.0.113.7', 'whom the proxy itself has seen')
      assert.equal(seen['x-forwarded-proto'], 'https')
      assert.equal(seen['x-request-id'], 'from-cdn')
      const forged = await request(`${own.url}/seen`, { headers: { ...headers, 'x-request-id': '"}{"' } })
      assert.match(((await forged.body.json()) as Record<string, string>)['x-request-id'] ?? '', /^[\w-]{36}$/)
      for (let i = 0; i < 10; i++) {
        const response = await request(own.url, { headers: { 'x-forwarded-for': `203.0.113.${10 + i}` } })
        assert.equal(response.statusCode, 200, 'the clients are counted, not the proxy')
        await response.body.dump()
      }
      await own.stop()
    })

    test('serves TLS 1.2 and later with HTTP/2, and redirects plain HTTP', async () => {
      const own = await start(release, { LB_TLS_CERT: await certificate(), LB_H2_STREAMS: '50' })
      const port = Number(new URL(own.https).port)
      const ca = await readFile(await certificate())
      const protocol = async (version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'): Promise<string | null> => {
        const seclevel = version === 'TLSv1.1' ? { ciphers: 'DEFAULT@SECLEVEL=0' } : {}
        const socket = connectTls({ port, ca, minVersion: version, maxVersion: version, ...seclevel })
        try {
          await once(socket, 'secureConnect')
          return socket.getProtocol()
        } finally {
          socket.destroy()
        }
      }
      assert.equal(await protocol('TLSv1.2'), 'TLSv1.2')
      assert.equal(await protocol('TLSv1.3'), 'TLSv1.3')
      await assert.rejects(protocol('TLSv1.1'), /alert|protocol/i)

      const session = connectH2(own.https, { ca })
      const stream = session.request({ ':path': '/seen' })
      const [head] = (await once(stream, 'response')) as [Record<string, string>]
      const seen = JSON.parse(await text(stream))
      session.close()
      assert.equal(session.alpnProtocol, 'h2')
      assert.equal(session.remoteSettings.maxConcurrentStreams, 50)
      assert.match(head['strict-transport-security'] ?? '', /^max-age=31536000/)
      assert.equal(seen['x-forwarded-proto'], 'https')

      const options = { method: 'POST', headers: { host: 'shop.example' }, body: '{}' } as const
      const redirect = await request(`${own.url}/echo?a=1`, options)
      assert.equal(redirect.statusCode, 308)
      assert.equal(redirect.headers.location, 'https://shop.example/echo?a=1')
      await redirect.body.dump()
      // Health checks need no certificate.
      const probe = await request(`${own.url}/ready`)
      assert.equal(probe.statusCode, 200)
      await probe.body.dump()
      await own.stop()
    })
  })
}
