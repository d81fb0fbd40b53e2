import assert from 'node:assert/strict'
import { type IncomingHttpHeaders, request } from 'node:http'
import { connect } from 'node:net'
import { PassThrough } from 'node:stream'
import { after, before, describe, mock, test } from 'node:test'
import type { FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import { build } from '../../src/app/build.ts'
import { TokenBucket } from '../../src/app/connection-limits.ts'
import { FleetError } from '../../src/index.ts'
import { liveObjects } from '../helpers/live-objects.ts'
import { until } from '../helpers/until.ts'

const friend = 'https://friend.example'

describe('the chat of the reference application', () => {
  let app: FastifyInstance
  let port = 0
  before(async () => {
    // No heartbeats: they end connections of clients that do not read as well.
    mock.timers.enable({ apis: ['setInterval'] })
    app = await build({
      logger: false,
      allowOrigins: [friend],
      fleet: { redis: { client: null }, lifecycle: { signals: false } },
    })
    mock.timers.reset()
    await app.listen({ host: '127.0.0.1', port: 0 })
    port = (app.server.address() as { port: number }).port
  })
  after(() => app.close())

  const open: WebSocket[] = []
  after(() => {
    for (const socket of open) socket.terminate()
  })

  /** @returns the socket, or the status of the rejection */
  function join(headers: Record<string, string> = {}): Promise<WebSocket | number> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, { headers })
    return new Promise((resolve, reject) => {
      socket.once('open', () => {
        open.push(socket)
        resolve(socket)
      })
      socket.once('unexpected-response', (_, response) => {
        resolve(response.statusCode ?? 0)
        response.destroy()
      })
      socket.once('error', reject)
    })
  }
  const leave = async (socket: WebSocket | number): Promise<void> => {
    assert.ok(socket instanceof WebSocket)
    socket.terminate()
  }
  const events = (headers: Record<string, string> = {}): Promise<number> =>
    new Promise((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, path: '/events', headers, agent: false }, (response) => {
        resolve(response.statusCode ?? 0)
        response.destroy()
      })
      sent.on('error', reject)
      sent.end()
    })

  test('accepts pages of its own and allowed origins and programs, and rejects all others with 403', async () => {
    for (const origin of [`http://127.0.0.1:${port}`, `https://127.0.0.1:${port}`, friend]) {
      await leave(await join({ origin }))
      assert.equal(await events({ origin }), 200)
    }
    await leave(await join())
    assert.equal(await events(), 200)
    const others = [
      'https://evil.example',
      'null',
      'http://127.0.0.1',
      `http://127.0.0.1:${port}@evil.example`,
      'file://',
      '',
    ]
    for (const origin of others) {
      assert.equal(await join({ origin }), 403, origin)
      assert.equal(await events({ origin }), 403, origin)
    }
    assert.equal(await events({ 'sec-fetch-site': 'cross-site' }), 403)
  })

  test('asks proxies to pass each event on at once, and to store none', async () => {
    const headers = await new Promise<IncomingHttpHeaders>((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, path: '/events', agent: false }, (response) => {
        resolve(response.headers)
        response.destroy()
      })
      sent.on('error', reject)
      sent.end()
    })
    assert.deepEqual([headers['x-accel-buffering'], headers['cache-control']], ['no', 'no-store'])
  })

  test('tells the sender that its message could not be sent', async (t) => {
    t.mock.method(app.fleet, 'publish', async () => {
      throw new FleetError('FLEET_ERR_STATE_UNAVAILABLE')
    })
    const sender = await join()
    assert.ok(sender instanceof WebSocket)
    const received: string[] = []
    sender.on('message', (data) => received.push(JSON.parse(String(data)).code))
    sender.send('{"text":"x"}')
    await until(() => received.length === 1, { what: 'the error' })
    assert.deepEqual(received, ['FLEET_ERR_STATE_UNAVAILABLE'])
    sender.terminate()
  })

  test('keeps no event stream and no WebSocket in memory after its end', async () => {
    // Each WebSocket has a bucket of its own.
    const [streams, buckets] = [liveObjects(PassThrough), liveObjects(TokenBucket)]
    for (let i = 0; i < 30; i++) {
      await until(async () => (await events()) === 200)
      await leave(await join())
    }
    await until(() => liveObjects(PassThrough) <= streams + 5, { what: 'the end of the event streams' })
    await until(() => liveObjects(TokenBucket) <= buckets + 5, { what: 'the end of the WebSockets' })
  })

  test('limits the messages of a client, and closes the connection of one that does not stop', async () => {
    const [flood, listener] = [await join(), await join()]
    assert.ok(flood instanceof WebSocket && listener instanceof WebSocket)
    let [heard, errors] = [0, 0]
    listener.on('message', () => heard++)
    flood.on('message', (data) => String(data).includes('FLEET_ERR_RATE_LIMITED') && errors++)
    const closed = new Promise<number>((resolve) => flood.once('close', resolve))
    for (let i = 0; i < 5000; i++) flood.send('{"text":"x"}')
    assert.equal(await closed, 1008)
    assert.equal(errors, 1)
    assert.ok(heard >= 1 && heard < 200, `${heard} messages`)
    for (const bad of ['', 'null', '{}', '{"text":1}', `{"text":"${'x'.repeat(1001)}"}`]) listener.send(bad)
    const before = heard
    await until(() => heard === before + 5)
    listener.terminate()
  })

  test('disconnects a client that does not stop and does not confirm the close, a second later', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const close = t.mock.method(WebSocket.prototype, 'close')
    const terminate = t.mock.method(WebSocket.prototype, 'terminate')
    const flood = await join()
    assert.ok(flood instanceof WebSocket)
    // It does not read the close frame.
    flood.pause()
    for (let i = 0; i < 200; i++) flood.send('{"text":"x"}')
    const call = await until(() => close.mock.calls.find(({ arguments: [code] }) => code === 1008))
    const ended = (): boolean => terminate.mock.calls.some((one) => one.this === call.this)
    t.mock.timers.tick(999)
    assert.equal(ended(), false)
    t.mock.timers.tick(1)
    assert.equal(ended(), true)
    await until(() => (call.this as WebSocket).readyState === WebSocket.CLOSED)
  })

  test('limits the WebSockets and the event streams of one client, and accepts new ones after others close', async () => {
    const joined: (WebSocket | number)[] = []
    for (let i = 0; i < 60; i++) joined.push(await join())
    const refused = joined.filter((one) => typeof one === 'number')
    assert.ok(refused.length >= 10 && refused.every((status) => status === 429))
    for (const socket of joined) if (socket instanceof WebSocket) socket.terminate()
    await until(async () => {
      const socket = await join()
      return socket instanceof WebSocket
    })

    const streams = Array.from({ length: 60 }, () => connect(port, '127.0.0.1'))
    let [accepted, rejected] = [0, 0]
    for (const stream of streams) {
      stream.on('error', () => {})
      stream.once('data', (data) => (String(data).startsWith('HTTP/1.1 200') ? accepted++ : rejected++))
      stream.write('GET /events HTTP/1.1\r\nHost: a\r\n\r\n')
    }
    await until(() => accepted + rejected === 60)
    assert.ok(accepted <= 50 && rejected >= 10)
    await until(() => streams.filter(({ destroyed }) => !destroyed).length === accepted)
    for (const stream of streams) stream.destroy()
    await until(async () => (await events()) === 200)
  })

  test('disconnects a listener that does not read', async () => {
    const slow = connect(port, '127.0.0.1')
    slow.on('error', () => {})
    slow.write('GET /events HTTP/1.1\r\nHost: a\r\n\r\n')
    await new Promise((resolve) => slow.once('data', resolve))
    slow.pause()
    let closed = false
    slow.once('close', () => {
      closed = true
    })
    const text = 'x'.repeat(1000)
    const message = { id: 'm', text, at: '', from: '' }
    const before = await connections()
    await until(async () => {
      for (let i = 0; i < 500; i++) await app.fleet.publish('room', message)
      return (await connections()) < before
    })
    slow.resume()
    await until(() => closed)
  })
  const connections = (): Promise<number> =>
    new Promise((resolve) => app.server.getConnections((_, count) => resolve(count)))

  test('disconnects a WebSocket that does not read', async () => {
    for (const socket of open) socket.terminate()
    const slow = await join()
    assert.ok(slow instanceof WebSocket)
    let closed = false
    slow.once('close', () => {
      closed = true
    })
    slow.pause()
    await until(async () => (await connections()) === 1)
    const message = { id: 'm', text: 'x'.repeat(1000), at: '', from: '' }
    await until(async () => {
      for (let i = 0; i < 500; i++) await app.fleet.publish('room', message)
      return (await connections()) === 0
    })
    slow.resume()
    await until(() => closed)
  })

  test('forwards valid messages only, so that no client can inject into an event stream', async () => {
    const lines: string[] = []
    const sent = request({ port, path: '/events', agent: false }, (response) => {
      response.setEncoding('utf8').on('data', (text) => lines.push(text))
    })
    sent.end()
    await until(() => lines.join('').includes('hello'))
    const good = { id: 'a', text: 'b\n\nevent: evil\u2028', at: '', from: '' }
    for (const bad of [
      null,
      1,
      'x',
      [],
      {},
      { ...good, id: 'a\nevent: evil' },
      { ...good, text: {} },
      { ...good, from: 1 },
    ])
      await app.fleet.publish('room', bad)
    await app.fleet.publish('room', good)
    await until(() => lines.join('').includes('id: a\n'))
    const text = lines.join('')
    assert.equal(text.match(/^id: /gm)?.length, 1)
    assert.doesNotMatch(text, /^event: evil/m)
    sent.destroy()
  })

  test('rejects a body that is nested too deeply to be serialised with 400', async () => {
    const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels)
    const echo = (payload: string) =>
      app.inject({ method: 'POST', url: '/echo', headers: { 'content-type': 'application/json' }, payload })
    assert.equal((await echo(deep(100))).statusCode, 200)
    for (const levels of [101, 10_000, 130_000]) assert.equal((await echo(deep(levels))).statusCode, 400)
  })
})
