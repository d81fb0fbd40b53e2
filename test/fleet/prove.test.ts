import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Report } from '../../src/cli/smoke/report.ts'
import type { FleetReport } from '../../src/cli/up/local-fleet.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { patientEnv } from '../state/redis/patience.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** Runs a verb in its own process, as users do. */
async function fleet<T>(token: string, ...args: string[]): Promise<T> {
  const process = forkApp(main, { args: [...args, '--json'], env: { FLEET_ADMIN_TOKEN: token } })
  const [line] = await process.waitFor(/^[{[].*[}\]]\n/m, 120_000)
  await process.exit
  return JSON.parse(line)
}

// The reference application with all its servers, as seen by a client and by an operator.
describe('the reference application under fleet up', () => {
  let up: App
  let report: FleetReport

  before(async () => {
    const env = { FLEET_PORT: await freePort(), FLEET_BASE_PORT: await freePort(3), ...patientEnv }
    up = forkApp(main, { args: ['up', '--json'], env })
    const [line] = await up.waitFor(/^\{.*\}\n/m, 120_000)
    report = JSON.parse(line)
  })
  after(() => up?.kill('SIGTERM'))

  test('passes every check of fleet test, and a fail-over', async () => {
    const [first] = report.instances
    const proved = await fleet<Report>(
      report.adminToken,
      'test',
      report.front.url,
      '-n',
      '90',
      '--instance',
      first?.url ?? '',
    )
    assert.deepEqual(
      proved.findings.filter(({ status }) => status === 'fail' || status === 'skip'),
      [],
    )
    assert.equal(proved.expectedInstances, report.instances.length)
    const over = await fleet<Report>(
      report.adminToken,
      'test',
      report.front.url,
      '--failover',
      '--instance',
      first?.url ?? '',
    )
    assert.equal(over.verdict, 'pass', JSON.stringify(over.findings))
  })

  test('an operator lists the instances, drains one through another, and undrains it', async () => {
    const [first, second] = report.instances
    const peers = await fleet<{ id: string }[]>(report.adminToken, 'ps', first?.url ?? '')
    assert.deepEqual(peers.map(({ id }) => id).sort(), report.instances.map(({ id }) => id).sort())
    for (const [verb, state] of [
      ['drain', 'draining'],
      ['undrain', 'serving'],
    ] as const) {
      assert.deepEqual(await fleet(report.adminToken, verb, second?.id ?? '', first?.url ?? ''), {
        instanceId: second?.id,
        state,
      })
    }
  })
})
