import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import Fastify from 'fastify'
import { resolveOptions } from '../../src/base/options.ts'
import { probeOptions } from '../../src/edge/probe.ts'
import { geo } from '../../src/geo/index.ts'
import { Regions } from '../../src/geo/regions.ts'
import { identity } from '../../src/instance/identity.ts'
import { clock } from '../helpers/clock.ts'
import { until } from '../helpers/until.ts'

const asia = 'https://asia.example.com'

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

it('the regions are probed until the app closes', async (t) => {
  const { mock } = t.mock.method(Regions.prototype, 'close')
  const app = Fastify()
  await app.register(geo)
  await app.ready()
  assert.equal(mock.callCount(), 0)
  await app.close()
  assert.equal(mock.callCount(), 1)
})

it('a request in absolute form, or that no region is meant for, is not redirected', async (t) => {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(identity, { region: 'eu' })
  const regions = { asia: { url: asia, countries: ['SG'] }, eu: { url: 'https://eu.example.com', countries: ['DE'] } }
  await app.register(geo, { edges: ['127.0.0.1'], redirect: true, regions, probe: { type: 'off' } })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const send = async (target: string, country = 'SG'): Promise<string> => {
    const socket = connect(port, '127.0.0.1')
    socket.write(
      `GET ${target} HTTP/1.1\r\nHost: www.example.com\r\nCF-IPCountry: ${country}\r\nConnection: close\r\n\r\n`,
    )
    return (await text(socket)).slice(0, 12)
  }
  const statuses = await Promise.all([send('/a'), send('http://other.example/a'), send('/a', 'MX')])
  assert.deepEqual(statuses, ['HTTP/1.1 307', 'HTTP/1.1 404', 'HTTP/1.1 404'])
})

describe('a region', () => {
  it('is healthy without a probe if it is that of this instance; a probe finds the others', async (t) => {
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

  it('is probed no more after the end, healthy or not', async (t) => {
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const time = clock(t)
    const probe = { ...resolveOptions('probe', probeOptions), type: 'tcp', intervalMs: 20 } as const
    const at = (port: number) => ({ url: `http://127.0.0.1:${port}`, countries: ['DE'] })
    const regions = new Regions({ gone: at(1), open: at(port) }, undefined, probe)
    t.after(() => {
      regions.close()
      server.close()
    })
    // Between two probes of a region, the next one is its only timer.
    const settled = (): boolean => time.timers() === 2 && time.delays().every((ms) => ms < 100)
    await until(() => settled() && regions.all[0]?.healthy === false)
    assert.equal(regions.all[1]?.healthy, true)
    regions.close()
    assert.equal(time.timers(), 0)
  })
})
