import assert from 'node:assert/strict'
import cluster from 'node:cluster'
import { describe, it, type TestContext } from 'node:test'
import Fastify from 'fastify'
import { health } from '../../src/instance/health/index.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { operators } from '../../src/instance/operators/index.ts'
import { mockTimers } from '../helpers/clock.ts'
import { until } from '../helpers/until.ts'
import { get, open } from './lifecycle/sockets.ts'

/** An instance with a management listener, and a connection to it that is kept open after a response. */
async function serve(t: TestContext, isWorker: boolean) {
  const { isWorker: before } = cluster
  const set = (value: boolean) => void Object.defineProperty(cluster, 'isWorker', { value, configurable: true })
  set(isWorker)
  t.after(() => set(before))
  const app = Fastify()
  t.after(() => app.close())
  await app.register(lifecycle, { signals: false, shutdownTimeoutMs: 600_000 })
  const waits: (() => Promise<unknown>)[] = []
  const { onDrained } = app.fleet
  app.fleet.onDrained = (wait) => {
    waits.push(wait)
    onDrained?.(wait)
  }
  await app.register(operators, { listen: { port: 0 } })
  await app.register(health, { memory: false, eventLoop: false })
  const gate = Promise.withResolvers<string>()
  t.after(() => gate.resolve(''))
  app.get('/pending', () => gate.promise)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const address = () => app.operators.listener?.address
  const kept = await open(address()?.port as number, get('/live'))
  await until(() => kept.received().includes('200 OK'))
  assert.match(kept.received(), /connection: keep-alive[\s\S]*keep-alive: timeout=72\r/i)
  const responses = (): number => kept.received().split('200 OK').length - 1
  const { port } = app.server.address() as { port: number }
  return { app, waits, port, address, kept, responses, release: () => gate.resolve('done') }
}

describe('the management listener of a worker that is replaced', () => {
  it('accepts no more connections at once, and still responds on those it has, which then end', async (t) => {
    const { app, waits, address, kept, responses } = await serve(t, true)
    const code = app.fleet.shutdown('replaced', { handover: true })
    assert.equal(address(), null)
    let isOver = false
    assert.equal(waits.length, 1)
    const wait = waits[0]?.().then(() => {
      isOver = true
    })
    await new Promise(setImmediate)
    assert.equal(isOver, false, 'the shutdown waits for the connection')
    kept.write(get('/live'))
    await until(() => responses() === 2, { what: 'the second response' })
    await wait
    assert.match(kept.received(), /connection: close/i)
    assert.equal(await code, 0)
  })

  it('waits two seconds at most for a connection that stays idle', async (t) => {
    const { app, waits, kept } = await serve(t, true)
    mockTimers(t)
    const code = app.fleet.shutdown('replaced', { handover: true })
    let isOver = false
    const wait = waits[0]?.().then(() => {
      isOver = true
    })
    const pass = async (ms: number): Promise<boolean> => {
      t.mock.timers.tick(ms)
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
      return isOver
    }
    const seen = [await pass(1_999), await pass(1)]
    // The end of the connection ends the wait as well.
    kept.destroy()
    await wait
    assert.equal(await code, 0)
    assert.deepEqual(seen, [false, true])
  })

  it('is open until a shutdown without a successor has drained', async (t) => {
    const { app, port, address, kept, responses, release } = await serve(t, true)
    const pending = await open(port, get('/pending'))
    await until(() => app.fleet.flow?.waiting === 1, { what: 'the request' })
    const code = app.fleet.shutdown('stopped')
    await until(() => !app.server.listening, { what: 'the end of the listener of the app' })
    assert.notEqual(address(), null)
    kept.write(get('/live'))
    await until(() => responses() === 2, { what: 'the second response' })
    assert.doesNotMatch(kept.received(), /connection: close/i)
    release()
    assert.equal(await code, 0)
    assert.equal(address(), null)
    pending.destroy()
  })
})

it('the management listener of a single process stays open in a handover', async (t) => {
  const { app, address, kept } = await serve(t, false)
  const code = app.fleet.shutdown('replaced', { handover: true })
  assert.notEqual(address(), null)
  kept.destroy()
  assert.equal(await code, 0)
})
