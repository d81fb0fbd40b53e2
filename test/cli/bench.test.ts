import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { performance } from 'node:perf_hooks'
import { describe, it, type TestContext } from 'node:test'
import type { BenchReport } from '../../src/cli/bench/measure.ts'
import command from '../../src/cli/commands/bench.ts'
import { startListening } from '../edge/listening.ts'
import { freePort } from '../helpers/free-port.ts'
import { runCommand } from './commands.ts'
import { type SmallFleet, type SmallFleetOptions, smallFleet } from './small-fleet.ts'

const short = ['--duration', '1', '--warmup', '0', '--connections', '4']

async function fleetFor(t: TestContext, options: SmallFleetOptions = {}): Promise<SmallFleet> {
  const fleet = await smallFleet({ instances: 2, ...options })
  t.after(() => fleet.close())
  return fleet
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

describe('fleet bench', () => {
  it('counts every request once, by instance', async (t) => {
    let served = 0
    const fleet = await fleetFor(t, {
      extend: (app) =>
        void app.get('/hello', async () => {
          served++
          return {}
        }),
    })
    const { code, stdout } = await runCommand(command, fleet.front, '--path', '/hello', '--json', ...short)
    const report = JSON.parse(stdout) as BenchReport
    assert.equal(code, 0)
    // The first request checks that the target responds.
    assert.equal(report.requests, served - 1)
    assert.equal(report.failed, 0)
    assert.deepEqual(report.errors, {})
    assert.deepEqual(report.instances.map(({ instance }) => instance).sort(), fleet.apps.map(idOf).sort())
    assert.equal(sum(report.instances.map(({ requests }) => requests)), report.requests)
    assert.ok(report.p50 > 0 && report.p50 <= report.p95 && report.p95 <= report.p99 && report.p99 <= report.max)
    assert.ok(Math.abs(report.rate - report.requests / report.seconds) < report.rate / 50, String(report.rate))
  })

  it('lists the failures, says that it was busy itself, and exits with 1', async (t) => {
    t.mock.method(performance, 'eventLoopUtilization', () => ({ idle: 0, active: 1, utilization: 0.9 }))
    const fleet = await fleetFor(t, {
      extend: (app) => {
        let turn = 0
        app.get('/odd', async (_request, reply) => reply.code(turn++ % 2 === 0 ? 200 : 500).send({}))
      },
    })
    const { code, stdout, stderr } = await runCommand(command, fleet.front, '--path', '/odd', ...short)
    assert.equal(code, 1)
    assert.match(stderr, /this process was busy 90 % of the time/)
    assert.match(stdout, /failed {2}\d+ × 500/)
    assert.match(stdout, /^all +\d+/m)
  })

  it('keeps the rate and measures from the time a request was due', async (t) => {
    const holdMs = 40
    const fleet = await fleetFor(t, {
      instances: 1,
      extend: (app) =>
        void app.get('/slow', async () => {
          await new Promise((resolve) => setTimeout(resolve, holdMs))
          return {}
        }),
    })
    // One connection does 25 per second; of 100 per second most wait for it.
    const requested = [fleet.front, '--path', '/slow', '--rate', '100', '--json', ...short, '--connections', '1']
    const report = JSON.parse((await runCommand(command, ...requested)).stdout) as BenchReport
    assert.ok(report.requests > 40, String(report.requests))
    assert.ok(report.p95 > holdMs * 5, String(report.p95))
    assert.ok((report.errors['no connection was free'] ?? 0) > 10, JSON.stringify(report.errors))
  })

  it('exits with 2 for an unreachable target or an invalid command line', async () => {
    const unreachable = await runCommand(command, `http://127.0.0.1:${await freePort()}`, ...short)
    assert.equal(unreachable.code, 2)
    assert.match(unreachable.stderr, /FLEET_ERR_UNREACHABLE/)
    const slow = createServer((_request, response) => setTimeout(() => response.end(), 1_000))
    const url = `http://127.0.0.1:${await startListening(slow)}`
    const late = await runCommand(command, url, '--timeout', '50', ...short)
    assert.deepEqual([late.code, /FLEET_ERR_UNREACHABLE/.test(late.stderr)], [2, true], late.stderr)
    for (const wrong of [[], ['a', 'b'], ['http://x', '--rate', '0'], ['http://x', '--path', 'y'], ['ftp://x']]) {
      const { code, stderr } = await runCommand(command, ...wrong)
      assert.equal(code, 2)
      assert.match(stderr, /FLEET_ERR_USAGE/)
    }
  })
})

const idOf = (app: SmallFleet['apps'][number]): string => app.fleet.instance.id
