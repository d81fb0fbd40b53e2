import assert from 'node:assert/strict'
import { it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { quietMs } from '../../../src/instance/lifecycle/shutdown.ts'
import { until } from '../../helpers/until.ts'
import { get, open } from './sockets.ts'

interface Clock {
  /** In milliseconds. */
  now: number
  /** Waits until the instance has checked its sockets at this time. */
  seen(): Promise<void>
}

/** An instance whose clock the test controls. */
async function start(t: TestContext): Promise<{ app: FastifyInstance; port: number; clock: Clock }> {
  const clock: Clock = {
    now: 1_000,
    async seen() {
      const before = read.mock.callCount()
      // Each check reads the clock once.
      await until(() => read.mock.callCount() >= before + 2, { what: 'two checks' })
    },
  }
  const read = t.mock.method(performance, 'now', () => clock.now)
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false })
  app.get('/', async () => 'hello')
  app.get('/again', async () => 'and again')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  return { app, port, clock }
}

async function isClosed(port: number): Promise<boolean> {
  try {
    const socket = await open(port)
    socket.destroy()
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
  }
}

it('serves a request on a keep-alive connection after the listener has closed', async (t) => {
  const { app, port } = await start(t)
  const kept = await open(port, get('/'))
  await until(() => kept.received().includes('hello'))
  const exitCode = app.fleet.shutdown()
  await until(() => isClosed(port), { what: 'the end of the listener' })
  kept.write(get('/again'))
  await until(() => kept.received().includes('and again'), { what: 'the response on the old connection' })
  assert.match(kept.received(), /connection: close/i)
  assert.equal(await exitCode, 0)
})

it('closes a connection that was quiet for quietMs and not earlier', async (t) => {
  const { app, port, clock } = await start(t)
  const kept = await open(port, get('/'))
  await until(() => kept.received().includes('hello'))
  const exitCode = app.fleet.shutdown()
  await clock.seen()
  clock.now += quietMs - 1
  await clock.seen()
  assert.equal(kept.readyState, 'open')
  clock.now += 1
  assert.equal(await exitCode, 0)
})
