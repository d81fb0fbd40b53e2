import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { build } from '../../src/app/build.ts'
import { until } from '../helpers/until.ts'

test('every 15 s event streams get a comment, and WebSockets that did not respond to the last ping are closed', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const app = await build({ logger: false, fleet: { redis: { client: null }, lifecycle: { signals: false } } })
  t.after(() => app.close())
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as { port: number }
  const join = async (autoPong: boolean) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, { autoPong })
    t.after(() => socket.terminate())
    const seen = { pings: 0, messages: 0 }
    socket.on('ping', () => seen.pings++)
    socket.on('message', () => seen.messages++)
    await once(socket, 'open')
    return { socket, seen }
  }
  const [alive, silent] = [await join(true), await join(false)]
  let streamed = ''
  const events = request({ host: '127.0.0.1', port, path: '/events', agent: false }, (response) => {
    response.setEncoding('utf8').on('data', (text: string) => {
      streamed += text
    })
  }).end()
  events.on('error', () => undefined)
  t.after(() => events.destroy())
  await until(() => streamed.includes('hello'), { what: 'the event stream' })
  /** A message passes through the same connection as a pong before it. */
  const settle = async (): Promise<void> => {
    const before = alive.seen.messages
    alive.socket.send('{"text":"x"}')
    await until(() => alive.seen.messages > before, { what: 'the message' })
  }

  t.mock.timers.tick(14_999)
  await settle()
  assert.deepEqual([alive.seen.pings, silent.seen.pings], [0, 0])
  assert.doesNotMatch(streamed, /^: /m)
  t.mock.timers.tick(1)
  await until(() => alive.seen.pings === 1 && silent.seen.pings === 1, { what: 'the pings' })
  await settle()
  await until(() => /^: still here$/m.test(streamed), { what: 'the comment' })
  const closed = once(silent.socket, 'close')
  t.mock.timers.tick(15_000)
  assert.equal((await closed)[0], 1006, 'without a close frame')
  await until(() => alive.seen.pings === 2, { what: 'the second ping' })
  assert.equal(alive.socket.readyState, WebSocket.OPEN)
})
