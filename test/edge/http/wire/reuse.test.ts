import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import { WirePool } from '../../../../src/edge/http/wire/pool.ts'

const bounds = {
  connectTimeoutMs: 60_000,
  responseTimeoutMs: 60_000,
  bodyTimeoutMs: 60_000,
  keepAliveMs: 4000,
  unsafeKeepAliveMs: 150,
  maxHeaderBytes: 1024,
  serverName: undefined,
}

/** A pool to a server that responds with `bytes`, whose clock stands still until the test sets it. */
async function poolOf(t: TestContext, bytes: string) {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    connections++
    sockets.add(socket)
    socket.on('error', () => {}).on('data', () => socket.write(bytes))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const pool = new WirePool({ host: '127.0.0.1', port, ...bounds })
  const clock = { now: 1000 }
  t.mock.method(performance, 'now', () => clock.now)
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    return pool.close()
  })
  const send = (repeatable = true): Promise<number> =>
    new Promise((resolve, reject) => {
      let status = 0
      const handler = {
        onResponseStart: (_: unknown, received: number) => {
          status = received
        },
        onResponseEnd: () => resolve(status),
        onResponseError: (_: unknown, error: Error) => reject(error),
      }
      pool.dispatch({ method: 'GET', path: '/', headers: '', body: null, rejectable: false }, handler, repeatable)
    })
  return { clock, send, connections: () => connections }
}

const ok = (...lines: string[]): string => `${['HTTP/1.1 200 OK', 'Content-Length: 0', ...lines].join('\r\n')}\r\n\r\n`

describe('an idle connection', () => {
  for (const [idleMs, repeatable, line, reused] of [
    [3999, true, 'A: b', true],
    [4000, true, 'A: b', false],
    [149, false, 'A: b', true],
    [150, false, 'A: b', false],
    [150, true, 'A: b', true],
    [0, true, 'Keep-Alive: timeout=2', false],
    [999, true, 'Keep-Alive: timeout=3', true],
    [1000, true, 'Keep-Alive: timeout=3', false],
    [3999, true, 'Keep-Alive: timeout=60', true],
    [4000, true, 'Keep-Alive: timeout=60', false],
  ] as const) {
    it(`is ${reused ? 'used' : 'not used'} after ${idleMs} ms for a request that ${repeatable ? 'can' : 'cannot'} be repeated (${line})`, async (t) => {
      const { clock, send, connections } = await poolOf(t, ok(line))
      await send()
      clock.now += idleMs
      assert.equal(await send(repeatable), 200)
      assert.equal(connections(), reused ? 1 : 2)
    })
  }
})

describe('the head of a response', () => {
  it('may have maxHeaderBytes, without the empty line that ends it', async (t) => {
    const plain = ok('A: ').length - 4
    const fits = await poolOf(t, ok(`A: ${'x'.repeat(1024 - plain)}`))
    assert.equal(await fits.send(), 200)
    const over = await poolOf(t, ok(`A: ${'x'.repeat(1025 - plain)}`))
    await assert.rejects(over.send(), { code: 'UND_ERR_HEADERS_OVERFLOW' })
  })
})
