import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import type { WireOptions } from '../../../../src/edge/http/wire/connection.ts'
import { WirePool } from '../../../../src/edge/http/wire/pool.ts'
import type { UpstreamController } from '../../../../src/edge/http/wire/response-head.ts'
import { until } from '../../../helpers/until.ts'

const bounds = {
  host: '127.0.0.1',
  serverName: undefined,
  connectTimeoutMs: 1000,
  responseTimeoutMs: 2000,
  bodyTimeoutMs: 3000,
  keepAliveMs: 4000,
  unsafeKeepAliveMs: 4000,
  maxHeaderBytes: 1024,
}

/** A pool whose clock and checks the test moves on, to a server that sends what the test says. */
async function poolOf(t: TestContext, options: Partial<WireOptions> = {}) {
  const sockets: Socket[] = []
  let received = ''
  const server = createServer((socket) => {
    sockets.push(socket)
    socket
      .on('error', () => {})
      .on('data', (data) => {
        received += data
      })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  let now = 1000
  const checks: { check: () => void; every: number }[] = []
  t.mock.method(performance, 'now', () => now)
  t.mock.method(globalThis, 'setInterval', ((check: () => void, every: number) => {
    const timer = { check, every, unref: () => timer, [Symbol.toPrimitive]: () => 0 }
    checks.push(timer)
    return timer
  }) as never)
  const pool = new WirePool({ ...bounds, port: (server.address() as AddressInfo).port, ...options })
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const seen: string[] = []
  let controller: UpstreamController | undefined
  const send = (responseTimeoutMs?: number): void =>
    pool.dispatch(
      {
        ...{ method: 'GET', path: '/', headers: '', body: null, rejectable: false },
        ...(responseTimeoutMs !== undefined && { responseTimeoutMs }),
      },
      {
        onRequestStart: (given) => {
          controller = given
        },
        onResponseStart: (_, status) => void seen.push(`${status}`),
        onResponseData: (_, chunk) => void seen.push(chunk.toString()),
        onResponseEnd: () => void seen.push('end'),
        onResponseError: (given, error) => void seen.push(given === null ? `not sent: ${error.name}` : error.name),
      },
      true,
    )
  return {
    pool,
    sockets,
    seen,
    send,
    every: () => checks[0]?.every,
    controller: () => controller as UpstreamController,
    requests: () => received.split('\r\n\r\n').length - 1,
    /** Moves the clock on, and then checks the timeouts. */
    pass: (ms: number) => {
      now += ms
      checks[0]?.check()
    },
    respond: async (text: string) => {
      const count = seen.length
      sockets.at(-1)?.write(text)
      await until(() => seen.length > count)
    },
  }
}

const head = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n'

describe('the timeouts of a connection to an upstream', () => {
  it('are checked in a quarter of the shortest, from 10 to 500 ms', async (t) => {
    for (const [options, every] of [
      [{}, 250],
      [{ responseTimeoutMs: 400 }, 100],
      [{ bodyTimeoutMs: 400 }, 100],
      [{ connectTimeoutMs: 400 }, 100],
      [{ connectTimeoutMs: 20 }, 10],
      [{ connectTimeoutMs: 10_000, responseTimeoutMs: 10_000, bodyTimeoutMs: 10_000 }, 500],
      [{ connectTimeoutMs: 10_000, responseTimeoutMs: 10_000, bodyTimeoutMs: 0 }, 250],
    ] as const) {
      const { pool, every: found } = await poolOf(t, options)
      assert.equal(found(), every)
      await pool.close()
      t.mock.restoreAll()
    }
  })

  it('are for the connection', async (t) => {
    const { send, seen, pass } = await poolOf(t)
    send()
    pass(1000)
    assert.deepEqual(seen, [])
    pass(1)
    assert.deepEqual(seen, ['not sent: ConnectTimeoutError'])
  })

  for (const [own, limit] of [
    [undefined, 2000],
    [700, 700],
  ] as const)
    it(`are for the head: ${own === undefined ? 'that of the pool' : 'that of the request'}`, async (t) => {
      const { send, seen, pass, requests, respond } = await poolOf(t)
      send(own)
      await until(() => requests() === 1)
      pass(limit - 1)
      // An interim response is not the head.
      await respond('HTTP/1.1 102 Processing\r\n\r\n')
      pass(1)
      assert.deepEqual(seen, ['102'])
      pass(1)
      assert.deepEqual(seen, ['102', 'HeadersTimeoutError'])
    })

  it('are for the body, from one read to the next', async (t) => {
    const { send, seen, pass, requests, respond } = await poolOf(t)
    send()
    await until(() => requests() === 1)
    pass(2000)
    await respond(head)
    for (const text of ['a', 'b']) {
      pass(3000)
      await respond(text)
    }
    pass(3000)
    assert.deepEqual(seen, ['200', 'a', 'b'])
    pass(1)
    assert.deepEqual(seen, ['200', 'a', 'b', 'BodyTimeoutError'])
  })

  it('do not exist for the body if it is 0', async (t) => {
    const { send, seen, pass, requests, respond } = await poolOf(t, { bodyTimeoutMs: 0 })
    send()
    await until(() => requests() === 1)
    await respond(head)
    pass(1_000_000)
    assert.deepEqual(seen, ['200'])
  })

  it('stop while the client does not read, and start anew when it does', async (t) => {
    const { send, seen, pass, requests, respond, controller } = await poolOf(t)
    send()
    await until(() => requests() === 1)
    await respond(`${head}a`)
    await until(() => seen.length === 2)
    controller().pause()
    assert.equal(controller().paused, true)
    pass(1_000_000)
    assert.deepEqual(seen, ['200', 'a'])
    controller().resume()
    assert.equal(controller().paused, false)
    pass(3000)
    assert.deepEqual(seen, ['200', 'a'])
    pass(1)
    assert.deepEqual(seen, ['200', 'a', 'BodyTimeoutError'])
  })

  it('do not apply to an idle connection, which closes after keepAliveMs', async (t) => {
    const { send, seen, pass, requests, respond, sockets } = await poolOf(t)
    send()
    await until(() => requests() === 1)
    await respond(`${head}abcd`)
    await until(() => seen.at(-1) === 'end')
    pass(4000)
    send()
    // It was not used for this request, at the end of its time.
    await until(() => sockets.length === 2)
    await until(() => sockets[0]?.destroyed === true)
    await until(() => requests() === 2)
    await respond(`${head}abcd`)
    await until(() => seen.filter((each) => each === 'end').length === 2)
    pass(4001)
    await until(() => sockets[1]?.destroyed === true)
  })

  it('tell the handler why it was aborted', async (t) => {
    const { send, seen, requests, controller, sockets } = await poolOf(t)
    send()
    await until(() => requests() === 1)
    const reason = new RangeError('enough')
    controller().abort(reason)
    assert.deepEqual([controller().aborted, controller().reason, seen], [true, reason, ['RangeError']])
    await until(() => sockets[0]?.destroyed === true)
  })
})
