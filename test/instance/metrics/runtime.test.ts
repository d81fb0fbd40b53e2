import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Registry } from 'prom-client'
import { collectRuntime } from '../../../src/instance/metrics/runtime.ts'
import { until } from '../../helpers/until.ts'

const registry = new Registry()
collectRuntime(registry)

/** Since the last call, which should be some samples ago. */
async function lag(): Promise<Record<string, number>> {
  const text = await registry.metrics()
  const lines = [...text.matchAll(/^nodejs_eventloop_lag_(\w+)_seconds (\S+)$/gm)]
  return Object.fromEntries(lines.map(([, figure, seconds]) => [figure as string, Number(seconds)]))
}

test('reports the delay of samples without the sampling interval', async () => {
  const hardlyLate = async (): Promise<boolean> => {
    await sleep(300)
    const { min = 1 } = await lag()
    return min < 0.03
  }
  await until(hardlyLate, { what: 'a look that was hardly late' })
})

test('reports the lag of a blocked event loop', async () => {
  await lag()
  await sleep(200)
  const end = performance.now() + 300
  while (performance.now() < end);
  await sleep(200)
  const { max = 0 } = await lag()
  assert.ok(max >= 0.2 && max < 1e6, `${max} s`)
})
