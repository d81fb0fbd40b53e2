import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import type { RequestListener } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, test } from 'node:test'
import { request } from 'undici'
import { until } from '../helpers/until.ts'
import { startUpstream, type Upstream } from '../helpers/upstream.ts'
import { type Front, releases, startFront } from './haproxy.ts'

/** Responds to probes of this path only, so that a check of another path fails. */
const onReady =
  (handler: RequestListener): RequestListener =>
  (incoming, response) =>
    incoming.url === '/ready'
      ? response.end()
      : /^\/(live|alive|health)?$/.test(incoming.url ?? '') && incoming.headers.host === 'fleet'
        ? response.writeHead(503).end()
        : handler(incoming, response)
const echo: RequestListener = ({ headers }, response) => response.end(JSON.stringify(headers))
/** Reads the whole request, as if to execute it, then closes the connection. */
const dying: RequestListener = (incoming) => incoming.resume().once('end', () => incoming.socket.destroy())

/** Two instances without agents, so that only the checks of the front decide. */
async function startTwo(
  release: (typeof releases)[number],
  env: Record<string, string> = {},
  handler: RequestListener = echo,
): Promise<{ front: Front; instances: [Upstream, Upstream]; requests: () => number }> {
  const instances = [await startUpstream('a', onReady(handler)), await startUpstream('b', onReady(handler))] as const
  const front = await startFront(release, { LB_SERVERS: instances.map(({ target }) => target).join(' '), ...env })
  await front.up('app-1', 'app-2')
  const requests = (): number => instances.flatMap(({ seen }) => seen.filter(({ path }) => path !== '/ready')).length
  return { front, instances: [...instances], requests }
}

/** Sends these bytes, and waits for the end of the connection. */
async function raw(front: Front, bytes: string): Promise<string> {
  const { hostname, port } = new URL(front.url)
  const socket = connect(Number(port), hostname)
  socket.write(bytes)
  socket.setTimeout(30_000, () => socket.destroy(new Error('the connection stays open')))
  return text(socket)
}

for (const release of releases) {
  describe(`the defences of HAProxy ${release.version}`, async () => {
    const { front, instances } = await startTwo(release)
    const seenBy = async (headers: Record<string, string>): Promise<Record<string, string>> =>
      (await request(`${front.url}/x`, { headers })).body.json() as Promise<Record<string, string>>

    test('removes the names under which frameworks accept another URL from a client', async () => {
      const names = ['forwarded-path', 'forwarded-prefix', 'forwarded-scheme', 'forwarded-server', 'forwarded-ssl']
      names.push('forwarded-uri', 'original-host', 'original-uri', 'original-url', 'rewrite-url', 'host')
      const lies = Object.fromEntries(names.map((name) => [`x-${name}`, 'evil']))
      assert.doesNotMatch(JSON.stringify(await seenBy(lies)), /evil/)
    })

    test('keeps what a trusted proxy says about the request', async () => {
      const [, list] = /\((\S+proxies\.lst)\)/.exec(await front.api('show acl')) ?? []
      await front.api(`add acl ${list} 127.0.0.1`)
      const said = { 'x-forwarded-host': 'shop.example', 'x-forwarded-port': '443', 'x-forwarded-prefix': '/shop' }
      const seen = await seenBy(said)
      await front.api(`del acl ${list} 127.0.0.1`)
      assert.deepEqual(
        Object.keys(said).map((name) => seen[name]),
        Object.values(said),
      )
      const untrusted = await seenBy(said)
      const own = [new URL(front.url).host, new URL(front.url).port, undefined]
      assert.deepEqual(
        Object.keys(said).map((name) => untrusted[name]),
        own,
      )
    })

    test('rejects a Host that is a list or a URL, and a path with an invalid escape or a dot segment', async () => {
      const status = async (path: string, host = 'x'): Promise<string> =>
        (await raw(front, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)).slice(9, 12)
      for (const host of ['a,b', 'a/b', 'a@b', 'http://a']) assert.equal(await status('/', host), '400', host)
      for (const path of ['/a%zz', '/a%0', '/a%00b']) assert.equal(await status(path), '400', path)
      for (const path of ['/x/../y', '/x/./y', '/x/%2e%2e/y', '/x%2f../y', '/x\\..\\y', '/..;/y', '/x/..%3b'])
        assert.equal(await status(path), '404', path)
      for (const path of ['/...', '/a..b', '/a%2fb']) assert.equal(await status(path), '200', path)
    })

    test('opens its runtime API and its inner socket to its own user only', async () => {
      const sockets = (await front.api('show cli sockets')).match(/\/\S+\.sock(?=[\s,]|$)/gm) ?? []
      const [path = assert.fail('no socket')] = sockets
      assert.equal(statSync(path).mode & 0o777, 0o660)
      assert.equal(statSync(`${path}.once`).mode & 0o777, 0o600)
    })

    test('limits connections: the clients’, and twice as many in all', async () => {
      const info = await front.api('show info')
      assert.match(info, /^Maxconn: 8500$/m)
      const [head = '', ...rows] = (await front.api('show stat')).split('\n')
      const row = rows.find((line) => line.startsWith('front,FRONTEND,')) ?? ''
      assert.equal(row.split(',')[head.split(',').indexOf('slim')], '4096')
    })

    test('takes an instance out of rotation that listens but is not ready, and returns it', async () => {
      const [first] = instances
      const handler = first.handler
      first.handler = (incoming, response) =>
        incoming.url === '/ready' ? response.writeHead(503).end() : handler(incoming, response)
      await until(async () => (await front.server('app-1')).status === 'DOWN', { what: 'its end in rotation' })
      const before = first.seen.filter(({ path }) => path === '/x').length
      for (let i = 0; i < 6; i++) await seenBy({})
      assert.equal(first.seen.filter(({ path }) => path === '/x').length, before)
      first.handler = handler
      await front.up('app-1')
    })

    test('sends requests to instances that are all out of rotation, and repeats no POST there', async () => {
      const own = await startTwo(release, {}, dying)
      for (const name of ['app-1', 'app-2']) await own.front.api(`set server fleet/${name} health down`)
      for (const name of ['app-1', 'app-2']) await own.front.api(`disable health fleet/${name}`)
      for (const name of ['app-1', 'app-2']) await own.front.api(`set server fleet/${name} health down`)
      const posted = await request(`${own.front.url}/x`, { method: 'POST', body: '{}' })
      await posted.body.dump()
      assert.deepEqual([posted.statusCode, own.requests()], [502, 1])
      const [, second] = own.instances
      second.handler = onReady(echo)
      assert.equal((await request(`${own.front.url}/x`)).statusCode, 200)
      await own.front.stop()
    })

    test('ends requests whose head, and connections whose next request, comes too late', async () => {
      const [late, idle] = [{ LB_TIMEOUT_REQUEST: '200ms' }, { LB_TIMEOUT_KEEP_ALIVE: '300ms' }]
      for (const [env, bytes, response] of [
        [late, 'GET /x HTTP/1.1\r\nHost: x\r\n', /^HTTP\/1\.1 408 /],
        [idle, 'GET /x HTTP/1.1\r\nHost: x\r\n\r\n', /^HTTP\/1\.1 200 /],
      ] as const) {
        const own = await startTwo(release, env)
        assert.match(await raw(own.front, bytes), response)
        await own.front.stop()
      }
    })

    test('responds 504 to a request whose instance is silent, and repeats no POST', async () => {
      const own = await startTwo(release, { LB_TIMEOUT: '300ms' }, (incoming) => void incoming.resume())
      const { statusCode, body } = await request(`${own.front.url}/x`, { method: 'POST', body: '{}' })
      assert.equal(((await body.json()) as { code: string }).code, 'LB_ERR_TIMEOUT')
      // The instance may read the request only after its time is over.
      await until(() => own.requests() > 0, { what: 'the request' })
      assert.deepEqual([statusCode, own.requests()], [504, 1])
      await own.front.stop()
    })

    test('ends an idle WebSocket after LB_TIMEOUT_TUNNEL, not after LB_TIMEOUT', async () => {
      const own = await startTwo(release, { LB_TIMEOUT: '1s', LB_TIMEOUT_TUNNEL: '6s', LB_TIMEOUT_CLIENT: '1s' })
      const headers = 'Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
      // The pair of RFC 6455, section 1.3.
      const [key, accept] = ['dGhlIHNhbXBsZSBub25jZQ==', 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=']
      for (const instance of own.instances)
        instance.onUpgrade((_request, socket) => {
          socket.on('error', () => {}).once('end', () => socket.end())
          socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers}Sec-WebSocket-Accept: ${accept}\r\n\r\n`)
          setTimeout(() => socket.write('late'), 1_800)
        })
      const upgrade = `GET /ws HTTP/1.1\r\nHost: x\r\n${headers}Sec-WebSocket-Key: ${key}\r\n\r\n`
      assert.match(await raw(own.front, upgrade), /^HTTP\/1\.1 101 [\s\S]*\r\n\r\nlate$/)
      await own.front.stop()
    })
  })
}
