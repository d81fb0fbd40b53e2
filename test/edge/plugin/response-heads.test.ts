import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { it } from 'node:test'
import Fastify from 'fastify'
import { proxy } from '../../../src/edge/plugin/index.ts'
import { atEnd } from '../at-end.ts'
import { get } from '../front.ts'
import { raw } from '../raw.ts'
import { startUpstreams } from '../upstream.ts'

it('a redirect to any target of the balancer leads to the route, and one to another server leads there', async () => {
  const upstreams = await startUpstreams(3)
  const [one, two, other] = upstreams.map(({ url }) => url)
  let location = ''
  for (const upstream of upstreams) upstream.handler = (_, response) => response.writeHead(302, { location }).end()
  const app = Fastify()
  atEnd(() => app.close())
  app.register(proxy, { prefix: '/api', targets: [one as string, two as string], probe: { type: 'off' } })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  for (const [sent, expected] of [
    [`${one}/x`, '/api/x'],
    [`${two}/x`, '/api/x'],
    [`${other}/x`, `${other}/x`],
  ] as const) {
    location = sent
    for (const _ of [one, two]) assert.equal((await get(`${url}/api/q`)).headers.location, expected)
  }
})

it('a redirect is below the path of the target that sent it', async () => {
  const upstreams = await startUpstreams(2)
  const targets = upstreams.map((upstream, i) => {
    upstream.handler = (_, response) => response.writeHead(302, { location: `/base${i}/x` }).end()
    return `${upstream.url}/base${i}`
  })
  const app = Fastify()
  atEnd(() => app.close())
  app.register(proxy, { prefix: '/api', targets, probe: { type: 'off' } })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  for (const _ of targets) assert.equal((await get(`${url}/api/q`)).headers.location, '/api/x')
})

it('a response without a body has no length, which some clients would wait for', async () => {
  const [upstream] = await startUpstreams(1)
  let status = 204
  if (upstream) upstream.handler = (_, response) => response.writeHead(status, { 'content-length': '0', a: '1' }).end()
  const app = Fastify()
  atEnd(() => app.close())
  const payloads: string[] = []
  app.addHook('onSend', async (_request, _reply, payload) => void payloads.push(typeof payload))
  app.register(proxy, { targets: [upstream?.url ?? ''] })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  for (status of [204, 304, 205, 200]) {
    const { headers, ...response } = await get(url)
    assert.deepEqual([response.status, headers.a], [status, '1'])
    assert.equal(headers['content-length'], [200, 304].includes(status) ? '0' : undefined, String(status))
  }
  assert.deepEqual(payloads, ['undefined', 'undefined', 'object', 'object'], 'what hooks of the app are given')
})

it('a response that comes before the end of its request ends the connection', async (t) => {
  const upstream = createServer((socket) => {
    socket.on('error', () => {}).once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'))
  }).listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  const app = Fastify({ forceCloseConnections: true })
  t.after(async () => {
    await app.close()
    upstream.close()
  })
  await app.register(proxy, {
    targets: [`http://127.0.0.1:${(upstream.address() as AddressInfo).port}`],
    bufferBytes: 0,
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  const isWhole = (text: string): boolean => text.endsWith('ok')
  const early = await raw(url, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx', isWhole)
  assert.match(early, /\r\nconnection: close\r\n/i)
  const whole = await raw(url, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx', isWhole)
  assert.doesNotMatch(whole, /\r\nconnection: close\r\n/i)
})
