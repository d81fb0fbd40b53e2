import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, test } from 'node:test'
import { freePort } from '../helpers/free-port.ts'
import { startLoad } from '../helpers/load.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { Member } from './fleet.ts'
import { releases, startFront } from './haproxy.ts'
import { startNames } from './names.ts'

const redis = await startRedis()

for (const release of releases) {
  describe(`a name with changing addresses on HAProxy ${release.version}`, () => {
    test('follows added and removed instances without a restart, and loses no request', async (t) => {
      // Like containers: each has its own address, and all use the same ports.
      const port = await freePort(2)
      const env = { REDIS_URL: redis.url, FLEET_NAME: randomUUID(), DRAIN_DELAY: 800 }
      const members = [2, 3, 4, 5, 6].map(
        (n) => new Member(`app-${n}`, { host: `127.0.0.${n}`, port, agentPort: port + 1 }, env),
      )
      const known = new Set<string>()
      const join = async (member: Member): Promise<void> => {
        await member.start()
        known.add(member.host)
      }
      const leave = async (member: Member): Promise<void> => {
        // Docker removes the name when the container has exited.
        assert.equal(await member.end('SIGTERM'), 0)
        known.delete(member.host)
      }
      const [first, second, third, ...more] = members as [Member, Member, Member, ...Member[]]
      for (const member of [first, second, third]) await join(member)

      const front = await startFront(release, {
        LB_SERVICE: `app.test:${port}`,
        LB_SERVICE_AGENT: `${port + 1}`,
        LB_SLOTS: '8',
        LB_NAMESERVER: `127.0.0.1:${await startNames(known)}`,
        LB_RATE: '1000000',
      })
      const inRotation = async (count: number): Promise<void> => {
        const rows = /^fleet,app-\d+,/
        const up = async (): Promise<number> =>
          (await front.api('show stat')).split('\n').filter((row) => rows.test(row) && row.split(',')[17] === 'UP')
            .length
        await until(async () => (await up()) === count, { what: `${count} in rotation` })
      }
      await inRotation(3)
      const load = startLoad(front.url, {
        clients: 4,
        requests: [
          { method: 'GET', path: '/' },
          { method: 'POST', path: '/echo', body: { a: 1 } },
        ],
      })
      for (const member of more) await join(member)
      await inRotation(5)
      await until(() => load.byInstance.size === 5, { what: 'responses of all five' })
      for (const member of [first, second]) await leave(member)
      await inRotation(3)
      await load.stop()
      assert.deepEqual(load.failures, [])
      t.diagnostic(`3, 5 and 3 instances under ${load.passed} requests`)

      const socket = new WebSocket(`${front.url.replace('http', 'ws')}/ws`)
      const received: string[] = []
      socket.addEventListener('message', ({ data }) => received.push(String(data)))
      await until(() => /^app-[456]$/.test(received[0] ?? ''), { what: 'a WebSocket' })
      socket.close()
      await front.stop()
      await Promise.all(members.map((member) => member.end('SIGKILL')))
    })
  })
}
