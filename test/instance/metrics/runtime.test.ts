import assert from 'node:assert/strict'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { test } from 'node:test'
import { AggregatorRegistry, Registry } from 'prom-client'
import { collectRuntime } from '../../../src/instance/metrics/runtime.ts'
import { until } from '../../helpers/until.ts'

const registry = new Registry()
collectRuntime(registry)

const loop = monitorEventLoopDelay({ resolution: 50 })
loop.enable()

/** Waits until the event loop was sampled several times, after which the registry has at least one sample. */
async function sampled(): Promise<void> {
  loop.reset()
  await until(() => loop.count >= 3, { what: 'samples of the event loop' })
}

/** The event loop lag since the last call. */
async function lag(): Promise<Record<string, number>> {
  const text = await registry.metrics()
  const lines = [...text.matchAll(/^nodejs_eventloop_lag_(\w+)_seconds (\S+)$/gm)]
  return Object.fromEntries(lines.map(([, figure, seconds]) => [figure as string, Number(seconds)]))
}

test('reports how late the event loop was, not the sampling interval', async () => {
  const hardlyLate = async (): Promise<boolean> => {
    await sampled()
    const { min = 1 } = await lag()
    return min < 0.03
  }
  await until(hardlyLate, { what: 'a sample that was hardly late' })
})

test('reports the lag of a blocked event loop', async () => {
  await lag()
  await sampled()
  const end = performance.now() + 300
  while (performance.now() < end);
  await sampled()
  const { max = 0 } = await lag()
  assert.ok(max >= 0.2 && max < 1e6, `${max} s`)
})

test('combines no figure of several workers to one that none of them has', async () => {
  const snapshots = await Promise.all(
    [0.1, 0.3].map(async (lag) => {
      const metrics = (await registry.getMetricsAsJSON()) as unknown as { name: string; values: { value: number }[] }[]
      const isLag = ({ name }: { name: string }): boolean => name.startsWith('nodejs_eventloop_lag')
      return metrics.filter(isLag).map((metric) => ({ ...metric, values: [{ labels: {}, value: lag }] }))
    }),
  )
  const text = await AggregatorRegistry.aggregate(snapshots as never).metrics()
  const figures = [...text.matchAll(/^nodejs_eventloop_lag(?:_(\w+))?_seconds (\S+)$/gm)]
  assert.equal(figures.length, 8)
  for (const [, figure, value] of figures) assert.equal(Number(value), figure === 'min' ? 0.1 : 0.3, figure)
})
