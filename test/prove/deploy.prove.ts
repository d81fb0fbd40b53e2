import assert from 'node:assert/strict'
import { readStatus } from '../../src/cli/deploy/instance-status.ts'
import { DeployedFleet, type FrontName, fronts } from '../fleet/deploy-front.ts'
import { sendRequest, type Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { fleetCommand } from '../host/group.ts'
import { proveInParts } from './parts.ts'
import { type Proof, prove } from './prove.ts'

async function start(proof: Proof, name: FrontName): Promise<DeployedFleet> {
  const fleet = await DeployedFleet.start(name)
  proof.t.after(() => fleet.places.clear())
  return fleet
}

/** Runs a task under load of which no request may fail, and counts it. */
async function underLoad(proof: Proof, fleet: DeployedFleet, task: () => Promise<void>): Promise<Traffic> {
  const traffic = fleet.front.traffic()
  try {
    await traffic.more()
    await task()
    await traffic.more()
    proof.count(await traffic.stop(fleet.places.orders))
    return traffic
  } finally {
    await traffic.halt()
  }
}

for (const name of fronts) {
  proveInParts(
    `fleet deploy rolling --front ${name}: new versions replace every instance`,
    'deploy-no-loss',
    { quick: 1, full: 20, parts: 1 },
    async (proof, rounds) => {
      const fleet = await start(proof, name)
      await underLoad(proof, fleet, async () => {
        for (let round = 1; round <= rounds; round++) {
          const version = `${round + 1}`
          await fleet.passes('rolling', version, ...fleet.targets)
          await fleet.serves([version, version, undefined])
          proof.count({ replaced: 2 })
        }
      })
      const again = await fleet.run('rolling', `${rounds + 1}`, ...fleet.targets)
      assert.equal(again.code, 0, again.stderr)
      assert.match(again.stdout, /nothing to do/)
    },
    { fullOnly: name === 'haproxy' },
  )

  prove(
    `fleet deploy rolling --front ${name}: a build that never becomes ready is rolled back, and gets no request`,
    'deploy-not-ready',
    async (proof) => {
      const fleet = await start(proof, name)
      const traffic = await underLoad(proof, fleet, () =>
        fleet.isRolledBack(/not ready as version stuck/, 'rolling', 'stuck', ...fleet.targets, '--timeout', '8000'),
      )
      assert.deepEqual(traffic.versions, new Set(['1']))
      await fleet.serves(['1', '1', undefined])
    },
    { fullOnly: true },
  )

  prove(
    `fleet deploy rolling --front ${name}: the next run completes one that SIGKILL has interrupted`,
    'deploy-interrupted',
    async (proof) => {
      const fleet = await start(proof, name)
      await underLoad(proof, fleet, async () => {
        const first = fleetCommand(['deploy', 'rolling', ...fleet.common('2'), ...fleet.targets])
        const replaced = async (): Promise<boolean> => (await readStatus(`http://${fleet.a}`)).version === '2'
        await until(replaced, { what: 'the first instance', timeoutMs: 30_000 })
        await first.kill('SIGKILL')
        await fleet.passes('rolling', '2', ...fleet.targets)
      })
      await fleet.serves(['2', '2', undefined])
    },
    { fullOnly: name === 'nginx' },
  )

  prove(
    `fleet deploy canary --front ${name}: one that responds 5xx is stopped`,
    'canary-stopped',
    async (proof) => {
      const fleet = await start(proof, name)
      const traffic = fleet.front.traffic()
      try {
        const why = /the canary is worse: .* % of its responses are 5xx/
        await fleet.isRolledBack(why, 'canary', 'faulty', ...fleet.canary)
      } finally {
        await traffic.halt()
      }
      const ofCanary = traffic.failed.filter(({ status }) => status === 500)
      assert.deepEqual(traffic.failed, ofCanary)
      proof.count({ requests: traffic.requests, failed: 0, ofCanary: ofCanary.length })
      await fleet.serves(['1', '1', undefined])
      await underLoad(proof, fleet, async () => {
        for (let i = 0; i < 20; i++) assert.equal((await sendRequest(fleet.front.port, 'GET', '/')).version, '1')
      })
    },
    { fullOnly: name === 'haproxy' },
  )

  prove(
    `fleet deploy canary --front ${name}: a good one replaces the others, and one without requests does not`,
    'deploy-no-loss',
    async (proof) => {
      const fleet = await start(proof, name)
      await fleet.isRolledBack(/a comparison needs/, 'canary', '2', ...fleet.canary, '--window', '500')
      await fleet.serves(['1', '1', undefined])
      const traffic = await underLoad(proof, fleet, () => fleet.passes('canary', '2', ...fleet.canary))
      assert.deepEqual(traffic.versions, new Set(['1', '2']))
      await fleet.serves(['2', '2', undefined])
    },
    { fullOnly: true },
  )

  prove(
    `fleet deploy blue-green --front ${name}: it switches there and back, and not to a side that is never ready`,
    'deploy-no-loss',
    async (proof) => {
      const fleet = await start(proof, name)
      // HAProxy has a server for green from the start.
      const toGreen = [...fleet.sides, '--to', 'green']
      const traffic = await underLoad(proof, fleet, () =>
        fleet.isRolledBack(/not ready as version stuck, green/, 'blue-green', 'stuck', ...toGreen, '--timeout', '8000'),
      )
      assert.deepEqual(traffic.versions, new Set(['1']))
      await fleet.serves(['1', '1', undefined])
      await underLoad(proof, fleet, async () => {
        await fleet.passes('blue-green', '2', ...toGreen)
        await fleet.serves([undefined, undefined, '2'])
        assert.equal((await sendRequest(fleet.front.port, 'GET', '/')).version, '2')
        await fleet.passes('blue-green', '3', ...fleet.sides)
      })
      await fleet.serves(['3', '3', undefined])
    },
    { fullOnly: true },
  )
}
