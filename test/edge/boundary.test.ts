import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { createServer, type Socket } from 'node:net'
import { after, describe, it } from 'node:test'
import { resolveOptions } from '../../src/base/options.ts'
import { Balancer } from '../../src/edge/balancer/balancer.ts'
import type { Source } from '../../src/edge/balancer/discovery.ts'
import type { Policy } from '../../src/edge/balancer/policies/index.ts'
import type { Target } from '../../src/edge/balancer/target.ts'
import { caught, guard, internalErrors } from '../../src/edge/boundary.ts'
import { Prober, probeOptions } from '../../src/edge/probe.ts'
import { until } from '../helpers/until.ts'
import { atEnd } from './at-end.ts'
import { front, get, quickProbe } from './front.ts'
import { startUpstreams } from './upstream.ts'

const warnings: Error[] = []
const collect = (warning: Error): void => void warnings.push(warning)
process.on('warning', collect)
after(() => process.off('warning', collect))

/** The error of an application's own policy. */
const failing = (after: number): Policy => {
  let picks = 0
  return {
    pick(targets) {
      if (picks++ >= after) throw new TypeError('picked badly\nand said so')
      return targets[0] as Target
    },
  }
}

describe('the boundary', () => {
  it('counts an exception, ends the connection that it belongs to, and never throws', () => {
    const before = internalErrors()
    const failed: unknown[] = []
    guard(
      'a test',
      (_: number) => assert.fail('once'),
      (error, argument) => failed.push(error.message, argument),
    )(7)
    caught('a test', 'no error', () => {
      throw new Error('twice')
    })
    assert.deepEqual(failed, ['once', 7])
    assert.equal(internalErrors(), before + 3)
  })

  it('logs one line for many exceptions', async () => {
    for (let i = 0; i < 100; i++) caught('a test', new Error('again'))
    await until(() => warnings.length > 0)
    assert.equal(warnings.length, 1)
    const [warning] = warnings as [Error & { code?: string }]
    assert.equal(warning.code, 'FLEET_WARN_PROXY_INTERNAL')
    assert.match(warning.message, /^internal error in a test: "AssertionError: once" at .*boundary\.test\.ts:\d+/)
    assert.doesNotMatch(warning.message, /\n/)
  })

  it('responds 502 to an exception in a policy, over HTTP/1.1 and HTTP/2, and counts it', async () => {
    const upstreams = await startUpstreams(1)
    const { url, proxy } = await front(upstreams, { policy: failing(1) })
    assert.equal((await get(`${url}/x`)).status, 200)
    const before = internalErrors()
    for (let i = 0; i < 3; i++) {
      const { status, text } = await get(`${url}/x`)
      assert.deepEqual([status, JSON.parse(text).code], [502, 'FLEET_ERR_UPSTREAM_FAILED'])
      assert.doesNotMatch(text, /picked badly/)
    }
    assert.match(proxy.metrics(), new RegExp(`^fleet_proxy_internal_errors_total ${before + 3}$`, 'm'))
    await until(() => /^fleet_proxy_inflight 0$/m.test(proxy.metrics()))

    const file = (name: string): string => readFileSync(new URL(`fixtures/localhost.${name}`, import.meta.url), 'utf8')
    const secure = await front(upstreams, { policy: failing(0), tls: { key: file('key'), cert: file('crt') } })
    const session = connect(secure.url, { ca: file('crt') })
    atEnd(() => session.destroy())
    const [headers] = await once(session.request({ ':path': '/' }), 'response')
    assert.equal(headers[':status'], 502)
  })

  it('keeps a balancer running when a listener throws', async () => {
    const [upstream] = await startUpstreams(1)
    const balancer = new Balancer([upstream?.url ?? ''], { probe: quickProbe })
    atEnd(() => balancer.close())
    let reported = 0
    balancer.onState(() => {
      reported++
      throw new Error('a listener')
    })
    const before = internalErrors()
    await until(() => balancer.targets[0]?.state === 'up')
    assert.equal(reported, 1)
    assert.equal(internalErrors(), before + 1)
    assert.equal((await balancer.request('/x')).statusCode, 200)
  })

  it('skips invalid entries in the list of a source', async () => {
    const [upstream] = await startUpstreams(1)
    const url = upstream?.url ?? ''
    const sources: Source[] = [
      (listener) => {
        listener([{ url: 'no url' }, null, { url, weight: 'much' }, { url }] as never)
        return () => {}
      },
      (listener) => {
        listener(undefined as never)
        listener([{ url }])
        return () => {}
      },
    ]
    for (const discover of sources) {
      const balancer = new Balancer([], { probe: quickProbe, discover })
      atEnd(() => balancer.close())
      await balancer.ready()
      assert.deepEqual(
        balancer.targets.map((target) => target.url.origin),
        [url],
      )
    }
  })
})

describe('a probe', () => {
  it('closes the connection of a target whose response never ends', async () => {
    const open = new Set<Socket>()
    const server = createServer((socket) => {
      open.add(socket)
      socket.on('close', () => open.delete(socket)).on('error', () => socket.destroy())
      socket.once('data', () => {
        const more = (): void => {
          while (!socket.destroyed && socket.write('x'.repeat(10_000)));
        }
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        socket.on('drain', more)
        more()
      })
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    atEnd(() => server.close())
    const { port } = server.address() as { port: number }
    let verdicts = 0
    const options = resolveOptions('probe', probeOptions, quickProbe)
    const prober = new Prober(options, (_, verdict) => {
      assert.equal(verdict, 'pass')
      verdicts++
    })
    prober.watch({ url: new URL(`http://127.0.0.1:${port}`) })
    await until(() => verdicts === 1)
    prober.close()
    await until(() => open.size === 0)
  })
})

describe('Balancer.request', () => {
  it('sends a path that begins with // unchanged', async () => {
    const [upstream] = await startUpstreams(1)
    const balancer = new Balancer([upstream?.url ?? ''], { probe: quickProbe })
    atEnd(() => balancer.close())
    for (const [path, requested] of [
      ['//evil.example/x?y=1', '//evil.example/x?y=1'],
      ['/a?b=c#d', '/a?b=c'],
      ['/a', '/a'],
    ] as const) {
      const { body } = await balancer.request(path)
      assert.equal(((await body.json()) as { url: string }).url, requested)
    }
  })
})
