import assert from 'node:assert/strict'
import { type AddressInfo, connect } from 'node:net'
import { Readable } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { shortcuts } from '../../src/base/internals/shortcuts.ts'
import { StaticHeaders, staticHeaders } from '../../src/instance/static-headers.ts'

const block = { 'x-one': '1', 'x-two': 'two; "2"', 'x-three': '3' }

async function build(t: TestContext): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(staticHeaders)
  for (const [name, value] of Object.entries(block)) app.staticHeaders.set(name, value)
  app.addHook('onSend', async (_request, reply) => void reply.header('x-late', 'now'))
  app.get('/', async () => ({}))
  app.get('/none', async (_request, reply) => reply.code(204).send())
  app.get('/changed', async (_request, reply) => reply.header('X-Two', 'other').send({}))
  app.get('/removed', async (_request, reply) => reply.removeHeader('X-One').send({}))
  app.get('/more', async (_request, reply) => reply.header('set-cookie', ['a=1', 'b=2']).send({}))
  app.get('/raw', async (_request, reply) => {
    reply.raw.setHeader('x-raw', 'yes')
    return {}
  })
  app.get('/seen', async (_request, reply) => ({
    one: reply.getHeader('X-One'),
    has: reply.hasHeader('x-two'),
    all: reply.getHeaders()['x-three'],
    gone: reply.removeHeader('x-three').hasHeader('x-three'),
    two: reply.header('x-two', 'mine').getHeader('x-two'),
  }))
  app.get('/stream', async (_request, reply) => reply.header('x-two', 'mine').send(Readable.from(['{}'])))
  app.get('/written', (_request, reply) => {
    reply.raw.writeHead(200, { 'X-Two': 'mine', 'Content-Length': '2' })
    reply.raw.end('{}')
  })
  app.get('/hijacked', (_request, reply) => {
    reply.hijack()
    reply.raw.end('raw')
  })
  app.get('/hijacked-later', (_request, reply) => {
    reply.removeHeader('x-two')
    reply.raw.setHeader('x-three', 'raw')
    reply.hijack()
    reply.raw.end('raw')
  })
  app.get('/split', async (_request, reply) => reply.header('x-late', 'a\r\nx-evil: 1').send({}))
  app.get('/evil', async (_request, reply) => reply.header('x-four', 'a\r\nx-evil: 1').send({}))
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

/** The response head as sent on the wire, which `inject` does not do. */
async function head(app: FastifyInstance, path: string): Promise<string[]> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.end(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
  let text = ''
  for await (const chunk of socket.setEncoding('latin1')) text += chunk
  const lines = (text.split('\r\n\r\n', 1)[0] as string).split('\r\n')
  return lines.filter((line) => !line.startsWith('Date:'))
}

const lines = (headers: Record<string, string>): string[] =>
  Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
const json = lines({ 'content-type': 'application/json; charset=utf-8', 'content-length': '2' })

describe('static headers on the wire', () => {
  const ok = 'HTTP/1.1 200 OK'
  const end = 'Connection: close'
  const all = lines(block)
  const cases: Record<string, string[]> = {
    '/': [ok, ...all, 'x-late: now', ...json, end],
    '/none': ['HTTP/1.1 204 No Content', ...all, 'x-late: now', end],
    '/changed': [ok, 'x-one: 1', 'x-two: other', 'x-three: 3', 'x-late: now', ...json, end],
    '/removed': [ok, 'x-two: two; "2"', 'x-three: 3', 'x-late: now', ...json, end],
    '/more': [ok, ...all, 'x-late: now', 'set-cookie: a=1', 'set-cookie: b=2', ...json, end],
    '/raw': [ok, 'x-raw: yes', ...all, 'x-late: now', ...json, end],
    '/stream': [ok, 'x-one: 1', 'x-two: mine', 'x-three: 3', 'x-late: now', end, 'Transfer-Encoding: chunked'],
    // Without the shortcut, a response that is written past Fastify lacks the static headers.
    '/written': [
      ok,
      ...(shortcuts.headerText ? ['x-one: 1', 'x-three: 3'] : []),
      'X-Two: mine',
      'Content-Length: 2',
      end,
    ],
    '/hijacked': [ok, ...all, end, 'Content-Length: 3'],
    '/hijacked-later': [ok, 'x-one: 1', 'x-three: raw', end, 'Content-Length: 3'],
    '/split': [ok, ...all, 'x-late: now', ...json, end],
  }
  for (const [path, expected] of Object.entries(cases)) {
    it(`appear once each: ${path}`, async (t) => {
      assert.deepEqual((await head(await build(t), path)).sort(), expected.sort())
    })
  }

  it('are visible to a handler, on the wire and with inject', async (t) => {
    const app = await build(t)
    const { port } = app.server.address() as AddressInfo
    const seen = { one: '1', has: true, all: '3', gone: false, two: 'mine' }
    const result = await fetch(`http://127.0.0.1:${port}/seen`)
    assert.deepEqual(await result.json(), seen)
    assert.deepEqual([result.headers.get('x-one'), result.headers.get('x-three')], ['1', null])
    assert.deepEqual((await app.inject('/seen')).json(), seen)
    assert.equal((await app.inject('/')).headers['x-one'], '1')
  })

  it('change for later responses', async (t) => {
    const app = await build(t)
    app.staticHeaders.set('X-Two', 'later')
    assert.ok((await head(app, '/')).includes('x-two: later'))
    app.staticHeaders.delete('X-One')
    assert.deepEqual(
      (await head(app, '/')).filter((line) => /^x-(one|two|three)/.test(line)),
      ['x-two: later', 'x-three: 3'],
    )
  })

  it('change in the reply at hand, whether they are written as text or, as on HTTP/2, added to it', async (t) => {
    for (const http2 of [false, true]) {
      const app = Fastify(http2 ? ({ http2 } as object) : {}) as FastifyInstance
      t.after(() => app.close())
      await app.register(staticHeaders)
      app.staticHeaders.set('x-one', 'before')
      app.get('/', async (_request, reply) => {
        app.staticHeaders.update(reply, 'x-one', 'now')
        return {}
      })
      assert.equal((await app.inject('/')).headers['x-one'], 'now')
    }
    const [added, sent] = [new Map<string, unknown>(), new StaticHeaders()]
    const header = (name: string, value: unknown): unknown => added.set(name, value)
    const reply = { raw: { hasHeader: () => false }, hasHeader: (name: string) => added.has(name), header }
    sent.set('x-one', 'before')
    sent.apply(reply as never)
    assert.equal(added.get('x-one'), 'before')
    sent.update(reply as never, 'x-one', 'now')
    assert.equal(added.get('x-one'), 'now')
  })

  it('reject line breaks, and so do the headers beside them', async (t) => {
    const app = await build(t)
    assert.throws(() => app.staticHeaders.set('x-two', 'a\r\nx-evil: 1'), { code: 'ERR_INVALID_CHAR' })
    assert.throws(() => app.staticHeaders.set('x two', 'a'), { code: 'ERR_INVALID_HTTP_TOKEN' })
    app.staticHeaders.set('x-four', '4')
    const sent = (await head(app, '/')).filter((line) => /^x.(one|two|three|four|evil)/.test(line))
    assert.deepEqual(sent, [...lines(block), 'x-four: 4'], 'what was rejected is not kept')
    const result = await head(app, '/evil')
    assert.match(result[0] as string, / 500 /)
    assert.ok(!result.some((line) => line.startsWith('x-evil')))
  })
})
