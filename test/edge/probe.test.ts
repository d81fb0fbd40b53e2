import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { after, describe, it } from 'node:test'
import { type ProbeOptions, Prober, type ProbeTarget } from '../../src/edge/probe.ts'
import { until } from '../helpers/until.ts'
import { stub } from './balancer/stub.ts'
import { startUpstreams, type Upstream } from './upstream.ts'

const quick: ProbeOptions = { type: 'http', path: '/ready', intervalMs: 20, timeoutMs: 30_000, rise: 2, fall: 2 }

function probe(options: Partial<ProbeOptions> = {}): { prober: Prober<ProbeTarget>; verdicts: string[] } {
  const verdicts: string[] = []
  const prober = new Prober({ ...quick, ...options }, (_, verdict) => verdicts.push(verdict))
  after(() => prober.close())
  return { prober, verdicts }
}

const targetOf = ({ url }: { url: string }): ProbeTarget => ({ url: new URL(url) })

async function countProbes(upstream: Upstream): Promise<() => number> {
  let count = 0
  upstream.server.on('request', () => count++)
  return () => count
}

describe('a prober', async () => {
  const [upstream] = (await startUpstreams(1)) as [Upstream]

  it('reports once when a target becomes ready, unready, and ready again', async () => {
    upstream.ready = true
    const { prober, verdicts } = probe()
    const probes = await countProbes(upstream)
    prober.watch(targetOf(upstream))
    await until(() => verdicts.length === 1)
    upstream.ready = false
    await until(() => verdicts.length === 2)
    upstream.ready = true
    await until(() => verdicts.length >= 3)
    const before = probes()
    await until(() => probes() > before + 5)
    assert.deepEqual(verdicts, ['pass', 'fail', 'pass'])
    prober.close()
  })

  it('needs `rise` passes or `fall` failures in a row, but only one first probe', async () => {
    // Its own upstream, because a probe of another test may still arrive.
    const [upstream] = (await startUpstreams(1)) as [Upstream]
    upstream.ready = false
    let probes = 0
    upstream.server.on('request', () => probes++)
    const verdicts: [string, number][] = []
    const prober = new Prober({ ...quick, rise: 3, fall: 4 }, (_, verdict) => {
      verdicts.push([verdict, probes])
      probes = 0
      upstream.ready = verdict === 'fail'
    })
    prober.watch(targetOf(upstream))
    await until(() => verdicts.length >= 3)
    prober.close()
    assert.deepEqual(verdicts.slice(0, 3), [
      ['fail', 1],
      ['pass', 3],
      ['fail', 4],
    ])
  })

  it('reports draining after one probe', async () => {
    upstream.ready = true
    const { prober, verdicts } = probe({ fall: 100 })
    prober.watch(targetOf(upstream))
    await until(() => verdicts.length === 1)
    upstream.draining = true
    await until(() => verdicts.length === 2)
    assert.deepEqual(verdicts, ['pass', 'draining'])
    upstream.draining = false
    prober.close()
  })

  it('starts over after doubt() and ignores a probe in flight', async () => {
    upstream.ready = true
    const { prober, verdicts } = probe()
    const target = targetOf(upstream)
    prober.watch(target)
    await until(() => verdicts.length === 1)
    const probes = await countProbes(upstream)
    prober.doubt(target)
    await until(() => verdicts.length === 2)
    assert.ok(probes() >= quick.rise)
    assert.deepEqual(verdicts, ['pass', 'pass'])
    prober.close()
  })

  it('treats a hanging response, a refused connection and invalid HTTP as failures', async () => {
    const hanging = createServer(() => {}).listen(0, '127.0.0.1')
    const nonsense = createTcpServer((socket) => socket.end('hello\r\n\r\n')).listen(0, '127.0.0.1')
    await Promise.all([once(hanging, 'listening'), once(nonsense, 'listening')])
    const ports = [hanging, nonsense].map((server) => (server.address() as AddressInfo).port)
    nonsense.on('connection', (socket) => socket.on('error', () => {}))
    for (const port of [...ports, 1]) {
      const { prober, verdicts } = probe({ timeoutMs: 50 })
      prober.watch(targetOf({ url: `http://127.0.0.1:${port}` }))
      await until(() => verdicts.length > 0)
      assert.deepEqual(verdicts, ['fail'])
      prober.close()
    }
    hanging.closeAllConnections()
    hanging.close()
    nonsense.close()
  })

  it('passes on a TCP connection with type tcp', async () => {
    const server = createTcpServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { prober, verdicts } = probe({ type: 'tcp' })
    prober.watch(targetOf({ url: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}` }))
    await until(() => verdicts.length === 1)
    server.close()
    await until(() => verdicts.length === 2)
    assert.deepEqual(verdicts, ['pass', 'fail'])
    prober.close()
  })

  it('does not probe with type off', () => {
    const { prober, verdicts } = probe({ type: 'off' })
    prober.watch(stub(1))
    assert.deepEqual(verdicts, [])
  })
})
