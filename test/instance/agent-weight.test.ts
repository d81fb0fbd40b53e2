import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, it, type TestContext } from 'node:test'
import Fastify from 'fastify'
import { RecentConnections } from '../../src/base/socket-bounds.ts'
import { type AgentCheckOptions, agentCheck, agentLine, weightFromLoad } from '../../src/instance/agent-check.ts'
import { identity, type Peer } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

/** An instance with an agent, and what the agent says while the instance and its peers have these figures. */
async function agent(t: TestContext, options: AgentCheckOptions = {}, weight = 200) {
  const port = await freePort()
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { id: 'me', weight })
  await app.register(lifecycle, { signals: false })
  await app.register(agentCheck, { port, host: '127.0.0.1', ...options })
  app.health.add('database', () => true)
  await app.listen({ port: 0, host: '127.0.0.1' })
  await until(() => app.fleet.ready)
  const load = app.load.read()
  const say = async (errorRate: number, own: Partial<Peer>, ...others: Partial<Peer>[]): Promise<string> => {
    const self = { ...app.fleet.self(), eventLoopUtilization: 0, p95: 0, ...own }
    app.fleet.self = () => self
    app.fleet.peers = () => [self, ...others.map((other, i) => ({ ...self, id: `p${i}`, rps: 1, ...other }))]
    app.load.read = () => ({ ...load, errorRate })
    return await text(connect(port, '127.0.0.1'))
  }
  return { app, port, say }
}

describe('agent', () => {
  it('reports the weight from the load of the instance, its peers and its failures', async (t) => {
    const { say } = await agent(t)
    assert.equal(await say(0, {}), 'up ready 200%\n')
    assert.equal(await say(0, { eventLoopUtilization: 0.8 }), 'up ready 100%\n')
    assert.equal(await say(0, { p95: 160 }, { p95: 20 }), 'up ready 50%\n')
    assert.equal(await say(0.1, {}), 'up ready 180%\n')
  })

  it('uses its options', async (t) => {
    const { say } = await agent(t, { comfortable: 0.2, slowFactor: 4 })
    assert.equal(await say(0, { eventLoopUtilization: 0.6 }), 'up ready 100%\n')
    assert.equal(await say(0, { eventLoopUtilization: 0, p95: 160 }, { p95: 20 }), 'up ready 100%\n')
  })

  it('reports drain if the instance serves but is not ready', async (t) => {
    const { app, say } = await agent(t)
    app.health.add('other', () => false)
    await app.health.check()
    assert.deepEqual([app.fleet.state, await say(0, {})], ['serving', 'drain\n'])
  })

  it('bounds its connections, and closes them with the app', async (t) => {
    const calls: unknown[] = []
    t.mock.method(RecentConnections.prototype, 'add', (socket: Socket) => void calls.push(socket instanceof Socket))
    t.mock.method(RecentConnections.prototype, 'destroy', () => void calls.push('destroy'))
    const { app, say } = await agent(t)
    for (let i = 0; i < 2; i++) await say(0, {})
    assert.deepEqual(calls, [true, true])
    await app.close()
    assert.deepEqual(calls, [true, true, 'destroy'])
  })

  it('closes a connection after timeoutMs, if the other side does not', async (t) => {
    const { port } = await agent(t, { timeoutMs: 321 })
    const { mock } = t.mock.method(globalThis, 'setTimeout')
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }).resume()
    await once(socket, 'end')
    assert.equal(mock.calls.filter((call) => Number(call.arguments[1]) === 321).length, 1)
    socket.end()
  })

  it('stops listening when the app closes', async (t) => {
    const { app, port } = await agent(t)
    await app.close()
    await assert.rejects(text(connect(port, '127.0.0.1')), { code: 'ECONNREFUSED' })
  })
})

const self = { id: 'me', weight: 100, eventLoopUtilization: 0, p95: 100 } as Peer
const other = { ...self, id: 'a', state: 'serving', rps: 1 } as Peer
const weight = (own: Partial<Peer>, others: Partial<Peer>[], errorRate = 0): number =>
  weightFromLoad({ ...self, ...own }, [self, ...others.map((each) => ({ ...other, ...each }))], errorRate, {
    comfortable: 0.6,
    slowFactor: 2,
  })

describe('weight', () => {
  it('compares with the upper median of the other serving instances that have requests', () => {
    assert.equal(weight({}, [{ p95: 25 }]), 50)
    assert.equal(weight({}, [{ p95: 25 }, { p95: 100 }]), 100)
    assert.equal(weight({}, [{ p95: 9 }, { p95: 25 }, { p95: 100 }]), 50)
    // Its own entry among the peers, with the same 100 ms, does not count.
    assert.equal(weight({}, [{ p95: 25 }, { p95: 200, id: 'me' }]), 50)
    assert.equal(weight({}, [{ p95: 25 }, { p95: 200, state: 'draining' }]), 50)
    assert.equal(weight({}, [{ p95: 25 }, { p95: 200, rps: 0 }]), 50)
  })

  it('takes 10 ms for the time of any faster peer', () => {
    assert.equal(weight({ p95: 20 }, [{ p95: 1 }]), 100)
    assert.equal(weight({ p95: 40 }, [{ p95: 1 }]), 50)
    assert.equal(weight({ p95: 40 }, [{ p95: 12 }]), 60)
  })

  it('is the smaller of both shares, times that of the successful requests, at least 5 % and 1', () => {
    const busy = { eventLoopUtilization: 0.8 }
    assert.equal(weight(busy, [{ p95: 40 }]), 50)
    assert.equal(weight(busy, [{ p95: 10 }]), 20)
    assert.equal(weight(busy, [{ p95: 40 }], 0.5), 25)
    assert.equal(weight({ eventLoopUtilization: 0.97 }, []), 8)
    assert.equal(weight({ eventLoopUtilization: 0.99 }, []), 5)
    assert.equal(weight({ eventLoopUtilization: 1, weight: 1_000 }, [], 1), 50)
    assert.equal(weight({ eventLoopUtilization: 1, weight: 2 }, []), 1)
    assert.equal(weight({ eventLoopUtilization: 0.1 }, []), 100)
  })
})

it('the line has state, administrative state and weight, and ends', () => {
  assert.equal(agentLine(true, 0), 'up ready 0%\n')
  assert.equal(agentLine(false, 100), 'drain\n')
})
