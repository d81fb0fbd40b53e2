import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify from 'fastify'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import { askLoad } from '../../../src/edge/balancer/load.ts'
import { Target } from '../../../src/edge/balancer/target.ts'
import { health } from '../../../src/instance/health/index.ts'
import { until } from '../../helpers/until.ts'
import { atEnd } from '../at-end.ts'
import { startUpstreams, type Upstream } from '../upstream.ts'
import { balancerDefaults } from './stub.ts'

interface Instance {
  readonly url: string
  /** Completes every pending `/wait` request. */
  release(): void
}

async function start(name: string): Promise<Instance> {
  const app = Fastify()
  const { promise, resolve } = Promise.withResolvers<void>()
  await app.register(health)
  app.get('/', async () => ({ name }))
  app.get('/wait', async () => {
    await promise
    return { name }
  })
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  atEnd(() => app.close())
  return { url, release: () => resolve() }
}

test('an instance reports its requests in flight, and a balancer sends less to one that is busy for others', async () => {
  const [busy, idle] = await Promise.all([start('busy'), start('idle')])
  assert.equal((await fetch(`${busy.url}/ready`)).headers.get('x-fleet-load'), null, 'the request did not ask for it')

  // Requests of another client, which the balancer cannot see.
  const others = Array.from({ length: 60 }, () => fetch(`${busy.url}/wait`))
  const targets = [busy, idle].map(({ url }) => new Target({ url }, balancerDefaults.connections)) as [Target, Target]
  await until(async () => (await askLoad(targets[0], '/ready')).inflight === 60, { what: 'sixty at work' })
  assert.equal((await askLoad(targets[1], '/ready')).inflight, 0)
  await Promise.all(targets.map((target) => target.disconnect()))

  const balancer = new Balancer([busy.url, idle.url], { policy: 'prequal' })
  await balancer.ready()
  const counts: Record<string, number> = { busy: 0, idle: 0 }
  for (let i = 0; i < 200; i++) {
    const { body } = await balancer.request('/')
    const { name } = (await body.json()) as { name: string }
    // Prequal compares only once both targets were probed.
    if (i >= 50) counts[name] = (counts[name] ?? 0) + 1
  }
  assert.ok((counts.busy ?? 0) < 40, JSON.stringify(counts))
  await balancer.close()

  busy.release()
  for (const response of others) await (await response).text()
})

test('the latency of a target is the one it reports, or the one its clients see if that is higher', async () => {
  const [upstream] = (await startUpstreams(1)) as [Upstream]
  upstream.handler = (_, response) => response.setHeader('x-fleet-load', 'inflight=3, latency=5').end()
  const target = new Target({ url: upstream.url }, balancerDefaults.connections)
  target.latency.observe(1, performance.now())
  assert.deepEqual(await askLoad(target, '/'), { inflight: 3, latencyMs: 5 })
  target.latency.observe(3_600_000, performance.now())
  const { inflight, latencyMs } = await askLoad(target, '/')
  assert.equal(inflight, 3)
  assert.ok(latencyMs > 5, `${latencyMs}`)
  await target.disconnect()
})
