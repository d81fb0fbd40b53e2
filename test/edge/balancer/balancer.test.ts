import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { describe, it, type TestContext } from 'node:test'
import timers from 'node:timers/promises'
import { fetch as undiciFetch } from 'undici'
import { Balancer, type BalancerOptions } from '../../../src/edge/balancer/balancer.ts'
import { Outliers } from '../../../src/edge/balancer/outliers.ts'
import { StickyCookie } from '../../../src/edge/balancer/policies/sticky-cookie.ts'
import { Target } from '../../../src/edge/balancer/target.ts'
import { Prober } from '../../../src/edge/probe.ts'
import { clock } from '../../helpers/clock.ts'
import { mockBuiltins } from '../../helpers/mock-builtins.ts'
import { until } from '../../helpers/until.ts'
import { quickProbe } from '../front.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'

import { balance, get, nameOf } from './balance.ts'

describe('a balancer', async () => {
  const upstreams = await startUpstreams(3)
  const balancer = await balance(upstreams)

  it('spreads requests over its targets', async () => {
    const names = await Promise.all(Array.from({ length: 9 }, () => get(balancer).then(nameOf)))
    assert.deepEqual(names.toSorted(), ['u0', 'u0', 'u0', 'u1', 'u1', 'u1', 'u2', 'u2', 'u2'])
  })

  it('is a dispatcher for Node’s fetch and for undici’s', async () => {
    const init = { method: 'POST', body: 'hello', dispatcher: balancer.dispatcher } as never
    for (const send of [fetch, undiciFetch as unknown as typeof fetch]) {
      const response = await send('http://shop.example/path?q=1', init)
      const seen = (await response.json()) as { url: string; body: string }
      assert.deepEqual([seen.url, seen.body], ['/path?q=1', 'hello'])
    }
  })

  it('forwards a path unchanged, even one that looks like another host', async () => {
    for (const path of ['//evil.example/x', '/%2e./x?a=//b', '//evil.example?q', '/:80/x']) {
      const seen = JSON.parse((await get(balancer, path)).text)
      assert.equal(seen.url, path === '/%2e./x?a=//b' ? '/x?a=//b' : path)
    }
  })

  it('sends bodies of every kind, and aborts on a signal', async () => {
    for (const body of ['text', Buffer.from('text'), Readable.from(['te', 'xt'])]) {
      assert.equal(JSON.parse((await get(balancer, '/', { method: 'PUT', body })).text).body, 'text')
    }
    const abort = AbortSignal.abort()
    await assert.rejects(get(balancer, '/', { signal: abort }), { name: 'AbortError' })
  })

  it('releases every in-flight slot it took', async () => {
    await until(() => balancer.targets.every(({ inflight }) => inflight === 0))
  })
})

describe('a draining target', () => {
  it('is asked to reject safe requests when another target is up', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams)
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'DELETE', 'PATCH'] as const) {
      let requested: unknown
      for (const upstream of upstreams) {
        upstream.handler = (request, response) => {
          requested = request.headers['x-fleet-retry']
          response.end()
        }
      }
      await get(balancer, '/', { method })
      assert.equal(requested, ['GET', 'HEAD', 'OPTIONS'].includes(method) ? '1' : undefined, method)
    }
    await balancer.remove(balancer.targets[1] as never)
    let sent: unknown = 'nothing'
    ;(upstreams[0] as Upstream).handler = (request, response) => {
      sent = request.headers['x-fleet-retry']
      response.end()
    }
    await get(balancer)
    assert.equal(sent, undefined)
  })

  it('leaves rotation with its first response that reports draining, without a failed request', async () => {
    const upstreams = await startUpstreams(3)
    const balancer = await balance(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    ;(upstreams[1] as Upstream).draining = true
    const names = []
    for (let i = 0; i < 9; i++) names.push(nameOf(await get(balancer)))
    assert.ok(!names.includes('u1'))
    assert.deepEqual(
      balancer.targets.map(({ state }) => state),
      ['up', 'draining', 'up'],
    )
    assert.equal(upstreams[1]?.seen.length, 0)
  })

  it('still serves requests that cannot go to another target', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams, { probe: { ...quickProbe, intervalMs: 60_000 } })
    for (const upstream of upstreams) upstream.draining = true
    for (let i = 0; i < 6; i++) {
      const { status } = await get(balancer, '/', { method: i % 2 ? 'POST' : 'GET', body: i % 2 ? 'x' : undefined })
      assert.equal(status, 200)
    }
    assert.deepEqual(
      balancer.targets.map(({ state }) => state),
      ['draining', 'draining'],
    )
  })

  it('returns to rotation when it is ready again', async () => {
    const upstreams = await startUpstreams(2)
    const balancer = await balance(upstreams)
    const [first] = upstreams as [Upstream]
    first.draining = true
    await until(() => balancer.targets[0]?.state === 'draining')
    first.draining = false
    await until(() => balancer.targets[0]?.state === 'up')
  })
})

describe('the end of', () => {
  const urls = ['http://10.0.0.1:1', 'http://10.0.0.2:1']
  /** A balancer that records which targets were disconnected, and which the prober doubts. */
  function balancerOf(t: TestContext, options: BalancerOptions = { probe: { type: 'off' } }) {
    const calls: string[] = []
    t.mock.method(Prober.prototype, 'watch', () => undefined)
    for (const method of ['doubt', 'unwatch'] as const)
      t.mock.method(Prober.prototype, method, (target: Target) => void calls.push(`${method} ${target.url.hostname}`))
    t.mock.method(Outliers.prototype, 'forget', (target: Target) => void calls.push(`forget ${target.url.hostname}`))
    t.mock.method(Target.prototype, 'disconnect', async function (this: Target) {
      calls.push(`disconnect ${this.url.hostname}`)
    })
    const balancer = new Balancer(urls, options)
    t.after(() => balancer.close())
    calls.length = 0
    const [target] = balancer.targets as [Target]
    return { balancer, target, calls }
  }

  it('its time in rotation closes the idle connections of a target, and those of a removed one', async (t) => {
    const { balancer, target, calls } = balancerOf(t)
    balancer.drain(target)
    assert.deepEqual(calls, ['forget 10.0.0.1', 'disconnect 10.0.0.1', 'doubt 10.0.0.1'])
    calls.length = 0
    balancer.undrain(target)
    assert.deepEqual([target.state, calls], ['up', ['forget 10.0.0.1']])
    calls.length = 0
    await balancer.remove(target)
    assert.deepEqual(calls, ['unwatch 10.0.0.1', 'forget 10.0.0.1', 'disconnect 10.0.0.1'])
  })

  it('a drain leaves alone a target that does not drain, and a second drain changes nothing', (t) => {
    const { balancer, target, calls } = balancerOf(t)
    for (const state of ['down', 'ejected', 'up'] as const) {
      balancer.context.rotation.move(target, state)
      calls.length = 0
      balancer.undrain(target)
      assert.deepEqual([target.state, calls], [state, []])
    }
    balancer.drain(target)
    calls.length = 0
    balancer.drain(target)
    assert.deepEqual([target.state, calls], ['draining', []])
  })

  it('a drain needs new probes, if there are any', (t) => {
    const { balancer, target, calls } = balancerOf(t, {})
    balancer.context.rotation.move(target, 'up')
    balancer.drain(target)
    calls.length = 0
    balancer.undrain(target)
    assert.deepEqual([target.state, calls], ['draining', ['doubt 10.0.0.1']])
  })

  it('a balancer leaves no timer behind, neither of its probes nor of its search for outliers', async (t) => {
    const time = clock(t)
    const balancer = new Balancer(['http://127.0.0.1:1'], { probe: { type: 'tcp' } })
    await until(() => balancer.targets[0]?.state === 'down')
    assert.equal(time.timers(), 2)
    await balancer.close()
    assert.equal(time.timers(), 0)
  })

  it('a start with a source of targets leaves no timer behind', async (t) => {
    const waits: (AbortSignal | undefined)[] = []
    mockBuiltins(t, () =>
      t.mock.method(timers, 'setTimeout', (_ms: number, _value: unknown, { signal }: { signal?: AbortSignal } = {}) => {
        waits.push(signal)
        return new Promise(() => {})
      }),
    )
    const discover: BalancerOptions['discover'] = (listener) => {
      listener([])
      return () => {}
    }
    const balancer = new Balancer([], { discover, probe: { type: 'off' } })
    t.after(() => balancer.close())
    await balancer.ready()
    assert.deepEqual(
      waits.map((signal) => signal?.aborted),
      [true],
    )
  })

  it('an outage that a refused connection shows needs new probes', (t) => {
    const { balancer, target, calls } = balancerOf(t, {})
    balancer.context.rotation.move(target, 'up')
    calls.length = 0
    balancer.context.recordOutcome(target, 0, 'refused', performance.now())
    assert.deepEqual([target.state, calls], ['down', ['forget 10.0.0.1', 'disconnect 10.0.0.1', 'doubt 10.0.0.1']])
  })

  it('a balancer is that of its policy, and of the one that a cookie falls back to', async () => {
    let closed = 0
    const policy = { pick: (targets: readonly Target[]) => targets[0] as Target, close: () => closed++ }
    const balancer = new Balancer(urls, { policy, probe: { type: 'off' } })
    await balancer.close()
    assert.equal(closed, 1)
    const sticky = { ...{ secret: 'x'.repeat(32), cookie: 'c', maxAge: 0 }, secure: false }
    new StickyCookie(sticky, policy).close()
    assert.equal(closed, 2)
  })
})
