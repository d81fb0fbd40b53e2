import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { startRedis } from '../helpers/redis.ts'
import { Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { startFleet } from './fleet.ts'
import { releases, startFront } from './haproxy.ts'

/** FLEET_TEST_ROUNDS: how often each instance is replaced and HAProxy reloaded. */
const rounds = Number(process.env.FLEET_TEST_ROUNDS ?? 3)
const redis = await startRedis()

describe('replacing every instance and reloading HAProxy', { concurrency: true }, () => {
  for (const release of releases) {
    test(`fails no request of any method and repeats none on HAProxy ${release.version}`, async (t) => {
      const fleet = await startFleet({ REDIS_URL: redis.url })
      const front = await startFront(release, { ...fleet.env, LB_RATE: '1000000' })
      const inRotation = (): Promise<void> => front.up(...fleet.members.map(({ id }) => id))
      await inRotation()
      const traffic = new Traffic(Number(new URL(front.url).port), 4)
      // Other releases run in a container; one round shows that they behave alike.
      const own = release === releases[0] ? rounds : Math.ceil(rounds / 3)
      for (let round = 0; round < own; round++) {
        for (const member of fleet.members) {
          assert.equal(await member.end('SIGTERM'), 0)
          await member.start({ FLEET_VERSION: `${round}` })
          // As a deployment does. In other rounds the next one ends as soon as this one is ready, noticed or not.
          if (round === 0) await inRotation()
        }
        const loaded = (): number => front.child.stderr.match(/Loading success/g)?.length ?? 0
        const before = loaded()
        await front.child.kill('SIGUSR2')
        await until(() => loaded() > before, { what: 'the reload' })
        const { requests } = traffic
        await until(() => traffic.requests > requests + 50, { what: 'requests after the reload' })
      }
      await traffic.stop(fleet.orders)
      t.diagnostic(`${own} rounds under ${traffic.requests} requests: 0 failed, no POST twice`)
      await front.stop()
      await Promise.all(fleet.members.map((member) => member.end('SIGKILL')))
    })
  }
})
