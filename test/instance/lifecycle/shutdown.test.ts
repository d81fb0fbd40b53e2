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
  /** Waits until the instance has looked at its sockets at this time. */
  seen(): Promise<void>
}

/** An instance in which time passes as the test says. */
async function start(t: TestContext): Promise<{ app: FastifyInstance; port: number; clock: Clock }> {
  const clock: Clock = {
    now: 1_000,
    async seen() {
      const before = read.mock.callCount()
      // Each look reads the clock once.
      await until(() => read.mock.callCount() >= before + 2, { what: 'two looks' })
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

async function refuses(port: number): Promise<boolean> {
  try {
    const socket = await open(port)
    socket.destroy()
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
  }
}

it('serves a request that a front sends on a kept-alive connection after the listener has closed', async (t) => {
  const { app, port } = await start(t)
  const kept = await open(port, get('/'))
  await until(() => kept.received().includes('hello'))
  const left = app.fleet.shutdown()
  await until(() => refuses(port), { what: 'the end of the listener' })
  kept.write(get('/again'))
  await until(() => kept.received().includes('and again'), { what: 'the answer on the old connection' })
  assert.match(kept.received(), /connection: close/i)
  assert.equal(await left, 0)
})

it('closes a connection on which nothing came for a while, and not sooner', async (t) => {
  const { app, port, clock } = await start(t)
  const kept = await open(port, get('/'))
  await until(() => kept.received().includes('hello'))
  const left = app.fleet.shutdown()
  await clock.seen()
  clock.now += quietMs - 1
  await clock.seen()
  assert.equal(kept.readyState, 'open')
  clock.now += 1
  assert.equal(await left, 0)
})
