import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import { resolveOptions } from '../../src/base/options.ts'
import { probeOptions } from '../../src/edge/probe.ts'
import { geo } from '../../src/geo/index.ts'
import { Regions } from '../../src/geo/regions.ts'
import { until } from '../helpers/until.ts'

describe('geo in an app without fleet', () => {
  it('brings the identity that it needs', async (t) => {
    const app = Fastify()
    t.after(() => app.close())
    await app.register(geo)
    app.get('/', async (request) => request.geo)
    assert.deepEqual((await app.inject('/')).json(), { source: 'none' })
    assert.equal(app.hasDecorator('fleet'), true)
  })
})

describe('the region of this instance', () => {
  it('is healthy without a probe, which finds the others', async (t) => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    let probes = 0
    server.on('connection', (socket) => {
      probes++
      socket.destroy()
    })
    const probe = { ...resolveOptions('probe', probeOptions), type: 'tcp', intervalMs: 20 } as const
    const closed = { url: 'http://127.0.0.1:1', countries: ['DE'] }
    const open = { url: `http://127.0.0.1:${port}`, countries: ['DE'] }
    const regions = new Regions({ own: closed, gone: closed, other: open }, 'own', probe)
    t.after(() => {
      regions.close()
      server.close()
    })
    const health = (): boolean[] => regions.all.map(({ healthy }) => healthy)
    await until(() => probes > 1 && health()[1] === false)
    assert.deepEqual(health(), [true, false, true])
    regions.close()
  })
})
