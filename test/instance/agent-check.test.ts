import assert from 'node:assert/strict'
import { connect, Server } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import { agentCheck, weightFromLoad } from '../../src/instance/agent-check.ts'
import type { Peer } from '../../src/instance/identity.ts'
import { lifecycle } from '../../src/instance/lifecycle/index.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

const peer = (id: string, figures: Partial<Peer>): Peer => ({
  ...{
    id,
    host: 'h',
    pid: 1,
    version: '1',
    color: 'none',
    pool: 'default',
    weight: 100,
    startedAt: '',
    state: 'serving',
    lastSeen: '',
  },
  ...{ rps: 10, errorRate: 0, p95: 20, eventLoopUtilization: 0.1, memory: 1, failing: [], degraded: [], checks: [] },
  ...figures,
})
const options = { host: '', comfortable: 0.6, slowFactor: 2 }
const failing = (errorRate: number, self: Partial<Peer>, ...others: Partial<Peer>[]): number => {
  const me = peer('me', self)
  return weightFromLoad(me, [me, ...others.map((figures, i) => peer(`p${i}`, figures))], errorRate, options)
}
const weight = (self: Partial<Peer>, ...others: Partial<Peer>[]): number => failing(0, self, ...others)

describe('weight from load', () => {
  it('is full up to `comfortable` and falls with a busier event loop', () => {
    assert.equal(weight({ eventLoopUtilization: 0.6 }), 100)
    assert.equal(weight({ eventLoopUtilization: 0.8 }), 50)
    assert.equal(weight({ eventLoopUtilization: 1 }), 5)
  })

  it('falls when the instance is slower than its peers, in any order', () => {
    for (const others of [
      [20, 30, 900],
      [900, 20, 30],
      [30, 900, 20],
    ]) {
      const peers = others.map((p95) => ({ p95 }))
      assert.equal(weight({ p95: 60 }, ...peers), 100)
      assert.equal(weight({ p95: 120 }, ...peers), 50)
    }
  })

  it('falls with the error rate, although failures are fast', () => {
    assert.equal(failing(0.25, { p95: 1 }, { p95: 50 }), 75)
    assert.equal(failing(1, { p95: 1 }, { p95: 50 }), 5)
  })

  it('is a share of the configured weight', () => {
    assert.equal(weight({ weight: 10, eventLoopUtilization: 0.8 }), 5)
    assert.equal(weight({ weight: 250 }), 250)
    assert.equal(weight({ weight: 1, eventLoopUtilization: 1 }), 1, 'enough to show that it has recovered')
    assert.equal(weight({ weight: 0 }), 0)
  })

  it('ignores peers that do not serve and small differences', () => {
    assert.equal(weight({ p95: 500 }), 100)
    assert.equal(weight({ p95: 500 }, { p95: 10, state: 'draining' }, { p95: 10, rps: 0 }), 100)
    assert.equal(weight({ p95: 18 }, { p95: 1 }), 100)
  })
})

describe('agent check', () => {
  it('sends drain while draining, and the whole line afterwards', async (t) => {
    const port = await freePort()
    const app = Fastify()
    t.after(() => app.close())
    await app.register(lifecycle, { signals: false })
    await app.register(agentCheck, { port, host: '127.0.0.1' })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const send = async (): Promise<string> => await text(connect(port, '127.0.0.1'))
    await until(async () => (await send()) === 'up ready 100%\n')
    app.fleet.drain()
    assert.equal(await send(), 'drain\n')
    app.fleet.undrain()
    assert.match(await send(), /^up ready \d+%\n$/)
  })

  it('listens only if a port is set', async (t) => {
    const { mock } = t.mock.method(Server.prototype, 'listen')
    const listeners = async (options: object): Promise<number> => {
      mock.resetCalls()
      const app = Fastify()
      await app.register(lifecycle, { signals: false })
      await app.register(agentCheck, options)
      await app.listen({ port: 0, host: '127.0.0.1' })
      await app.close()
      return mock.callCount()
    }
    assert.equal(await listeners({}), 1)
    const address = { port: await freePort(), host: '127.0.0.1' }
    assert.equal(await listeners(address), 2)
    const [agent] = mock.calls.filter((call) => (call.arguments[0] as { port?: number }).port === address.port)
    assert.deepEqual(agent?.arguments[0], address)
    assert.ok(
      agent?.this instanceof Server && agent.this.listenerCount('error') > 0,
      'for connections that cannot be accepted',
    )
  })
})
