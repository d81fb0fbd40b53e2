import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { type LifecycleOptions, lifecycle } from '../../../src/instance/lifecycle/index.ts'
import { until } from '../../helpers/until.ts'
import { get, open } from './sockets.ts'

async function serve(t: TestContext, options: LifecycleOptions = {}) {
  const app = Fastify()
  const gate = Promise.withResolvers<void>()
  t.after(async () => {
    gate.resolve()
    await app.close()
  })
  await app.register(lifecycle, { signals: false, shutdownTimeoutMs: 60_000, ...options })
  app.get('/', async () => 'hello')
  app.get('/pending', async () => {
    await gate.promise
    return 'done'
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  const waiting = (count: number): Promise<unknown> =>
    until(() => app.fleet.flow?.waiting === count, { what: `${count} requests` })
  return { app, port, release: gate.resolve, waiting }
}

describe('drain', () => {
  it('marks the responses of requests in flight and of later ones', async (t) => {
    const { app, port, release, waiting } = await serve(t)
    const before = await open(port, get('/pending'))
    await waiting(1)
    app.fleet.drain()
    const after = await open(port, get('/'))
    release()
    for (const [socket, body] of [
      [before, 'done'],
      [after, 'hello'],
    ] as const) {
      await until(() => socket.received().includes(body))
      assert.match(socket.received(), /HTTP\/1\.1 200[\s\S]*x-fleet-draining: 1/i)
      assert.match(socket.received(), /connection: close/i)
    }
  })

  it('is reverted for later responses', async (t) => {
    const { app, port } = await serve(t)
    app.fleet.drain()
    app.fleet.undrain()
    const socket = await open(port, get('/'))
    await until(() => socket.received().includes('hello'))
    assert.doesNotMatch(socket.received(), /draining|connection: close/i)
    socket.destroy()
  })

  it('is not reverted once a shutdown has started', async (t) => {
    const { app } = await serve(t, { drainDelayMs: 20 })
    const code = app.fleet.shutdown()
    assert.equal(app.fleet.state, 'draining')
    app.fleet.undrain()
    assert.equal(app.fleet.state, 'draining')
    assert.equal(app.fleet.shutdown(), code, 'there is one shutdown')
    assert.equal(await code, 0)
    assert.equal(app.fleet.state, 'closed')
  })

  it('reports each change of the state once, also after a listener has failed', async (t) => {
    const { app } = await serve(t)
    const states: string[] = []
    app.fleet.onState(() => {
      throw new Error('no')
    })
    app.fleet.onState((state) => void states.push(state))
    for (const command of ['undrain', 'drain', 'drain', 'undrain', 'undrain', 'drain'] as const) app.fleet[command]()
    assert.deepEqual(states, ['draining', 'serving', 'draining'])
    await app.close()
    assert.deepEqual(states, ['draining', 'serving', 'draining', 'closed'])
  })
})

describe('a shutdown during the boot', () => {
  it('is not undone by an app that listens after all', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(lifecycle, { signals: false, shutdownTimeoutMs: 60_000 })
    const gate = Promise.withResolvers<void>()
    app.fleet.onDrained?.(() => gate.promise)
    await app.ready()
    const code = app.fleet.shutdown()
    await app.listen({ port: 0, host: '127.0.0.1' })
    assert.equal(app.fleet.state, 'starting')
    gate.resolve()
    assert.equal(await code, 0)
    assert.deepEqual([app.fleet.state, app.server.listening], ['closed', false])
  })
})

describe('handover', () => {
  it('closes the connections of requests in flight and of later ones, and reports no drain', async (t) => {
    const { app, port, release, waiting } = await serve(t, { drainDelayMs: 60_000 })
    const kept = await open(port, get('/'))
    await until(() => kept.received().includes('hello'))
    const pending = await open(port, get('/pending'))
    await waiting(1)
    const code = app.fleet.shutdown('replaced', { handover: true })
    assert.equal(app.fleet.state, 'serving')
    await until(() => !app.server.listening, { what: 'the end of the listener' })
    kept.write(get('/'))
    await until(() => kept.received().split('hello').length === 3)
    assert.equal(app.fleet.state, 'serving')
    release()
    await until(() => pending.received().includes('done'))
    for (const socket of [kept, pending]) {
      assert.match(socket.received(), /connection: close/i)
      assert.doesNotMatch(socket.received(), /draining/i)
    }
    assert.equal(await code, 0)
    assert.equal(app.fleet.state, 'closed')
  })
})

describe('a request that may be sent to another instance', () => {
  const here = { host: 'here', port: 1 }
  const respond = async (app: FastifyInstance, port: number, peers: object[], headers = 'X-Fleet-Retry: 1\r\n') => {
    Object.assign(app.fleet, { peers: () => peers })
    const socket = await open(port, get('/', headers))
    await until(() => /\r\n\r\n/.test(socket.received()))
    socket.destroy()
    return Number(socket.received().split(' ')[1])
  }

  it('is rejected with 502 while draining if another target serves, and only then', async (t) => {
    const { app, port } = await serve(t)
    Object.assign(app.fleet.instance, here)
    const serving = { ...here, state: 'serving' }
    const other = [{ ...serving, port: 2 }]
    assert.equal(await respond(app, port, other), 200, 'it does not drain')
    app.fleet.drain()
    assert.equal(await respond(app, port, other), 502, 'another port')
    assert.equal(await respond(app, port, [serving, { ...serving, host: 'there' }]), 502, 'another host')
    assert.equal(await respond(app, port, []), 200, 'no other instance')
    assert.equal(await respond(app, port, [serving, serving]), 200, 'workers that share its port')
    assert.equal(await respond(app, port, [{ ...serving, port: 2, state: 'draining' }]), 200, 'the other drains too')
    assert.equal(await respond(app, port, other, ''), 200, 'it must not be sent twice')
    app.fleet.undrain()
    assert.equal(await respond(app, port, other), 200, 'it serves again')
  })
})

describe('drain delay', () => {
  const resolved = async (env: Record<string, string>, options: LifecycleOptions = {}): Promise<unknown> => {
    const before = { ...process.env }
    Object.assign(process.env, env)
    try {
      const app = Fastify()
      await app.register(lifecycle, { signals: false, ...options })
      await app.close()
      return (app.fleet.configuration.lifecycle as { drainDelayMs: number }).drainDelayMs
    } finally {
      for (const name of Object.keys(env)) {
        if (before[name] === undefined) delete process.env[name]
        else process.env[name] = before[name]
      }
    }
  }

  it('is 5 s in production and 0 otherwise, unless DRAIN_DELAY or the option sets it', async () => {
    assert.equal(await resolved({ NODE_ENV: 'test' }), 0)
    assert.equal(await resolved({ NODE_ENV: 'production' }), 5_000)
    assert.equal(await resolved({ NODE_ENV: 'production', DRAIN_DELAY: '0' }), 0)
    assert.equal(await resolved({ NODE_ENV: 'production', DRAIN_DELAY: '70' }), 70)
    assert.equal(await resolved({ NODE_ENV: 'production', DRAIN_DELAY: '70' }, { drainDelayMs: 80 }), 80)
  })
})
