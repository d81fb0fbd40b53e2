import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { startLoad } from '../helpers/load.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { type Fleet, startFleet } from './fleet.ts'
import { type Front, releases, startFront } from './haproxy.ts'

const redis = await startRedis()
const shared = { REDIS_URL: redis.url }
const unlimited = { LB_RATE: '1000000', LB_RATE_TARPIT: '1000000' }

async function start(release: (typeof releases)[number], fleet: Fleet): Promise<Front> {
  const front = await startFront(release, { ...fleet.env, ...unlimited })
  await front.up(...fleet.members.map(({ id }) => id))
  return front
}

const end = async (fleet: Fleet): Promise<void> => {
  await Promise.all(fleet.members.map((member) => member.end('SIGKILL')))
}

/** Requests per instance from now on, out of about `total`. */
async function share(front: Front, total: number): Promise<Record<string, number>> {
  const load = startLoad(front.url)
  await until(() => load.passed + load.failures.length >= total, { timeoutMs: 60_000, what: `${total} requests` })
  await load.stop()
  assert.deepEqual(load.failures, [])
  return Object.fromEntries(load.byInstance)
}

for (const release of releases) {
  describe(`the rotation on HAProxy ${release.version}`, async () => {
    test('an instance that fails fast attracts no load', async (t) => {
      const fleet = await startFleet(shared, [{}, {}, { FAIL: 1 }])
      const front = await start(release, fleet)
      const load = startLoad(front.url)
      await until(async () => (await front.server('app-3')).weight === 5, {
        timeoutMs: 20_000,
        what: 'the least weight',
      })
      await load.stop()
      const { requests } = await front.server('app-3')
      for (let i = 0; i < 100; i++) await (await fetch(front.url)).text()
      const received = (await front.server('app-3')).requests - requests
      t.diagnostic(`${received} of 100`)
      assert.ok(received < 20)
      await front.stop()
      await end(fleet)
    })

    test('an instance gets requests in proportion to FLEET_WEIGHT', async () => {
      const fleet = await startFleet(shared, [{}, { FLEET_WEIGHT: 50 }, { FLEET_WEIGHT: 1000 }])
      const front = await start(release, fleet)
      const weights = async (): Promise<number[]> =>
        await Promise.all(fleet.members.map(async ({ id }) => (await front.server(id)).weight))
      // 256 is HAProxy's maximum.
      await until(async () => (await weights()).join() === '100,50,256', { what: 'weights from the instances' })
      await front.stop()
      await end(fleet)
    })

    for (const [how, slow] of Object.entries<Record<string, number>>({
      'waits for something else': { SLOW_MS: 100 },
      'has no CPU left': { BLOCK_MS: 40 },
    })) {
      test(`an instance that ${how} gets fewer requests through its agent`, async (t) => {
        const fleet = await startFleet(shared, [{}, {}, slow])
        const front = await start(release, fleet)
        for (const { id } of fleet.members) await front.api(`disable agent fleet/${id}`)
        const { 'app-3': blind = 0, 'app-1': blindly = 0 } = await share(front, 300)
        for (const { id } of fleet.members) await front.api(`enable agent fleet/${id}`)
        const load = startLoad(front.url)
        const slowed = async (): Promise<boolean> => (await front.server('app-3')).weight < 50
        await until(slowed, { what: 'a smaller weight' })
        const seen = await share(front, 600)
        await load.stop()
        const { 'app-3': less = 0, 'app-1': more = 0 } = seen
        t.diagnostic(`app-3 : app-1 without agent ${blind} : ${blindly}, with it ${less} : ${more}`)
        assert.ok(blind > blindly * 0.8, `round robin alone is blind: ${blind} of ${blindly}`)
        assert.ok(less < more / 2, `${less} of ${more}`)
        assert.ok(less > 0, 'enough to show that it has recovered')
        await front.stop()
        await end(fleet)
      })
    }

    test('a draining instance gets no requests while its listener is open, and returns to rotation', async (t) => {
      const fleet = await startFleet(shared)
      const [drained] = fleet.members
      const front = await start(release, fleet)
      const load = startLoad(front.url)
      await until(() => load.byInstance.has(drained.id))
      const began = performance.now()
      await drained.command('drain')
      await until(async () => /DRAIN|DOWN/.test((await front.server(drained.id)).status), {
        what: 'the drain to be seen',
      })
      t.diagnostic(`seen after ${Math.round(performance.now() - began)} ms, agents are checked every 500 ms`)
      // Requests in transit have arrived once others have received some more.
      const { passed } = load
      await until(() => load.passed > passed + 30)
      const { requests } = await front.server(drained.id)
      const direct = await fetch(drained.url)
      assert.equal(direct.status, 200, 'it still serves')
      await until(() => load.passed > passed + 330)
      assert.equal((await front.server(drained.id)).requests, requests)
      await drained.command('undrain')
      await front.up(drained.id)
      await until(async () => (await front.server(drained.id)).requests > requests, { what: 'requests again' })
      await load.stop()
      assert.deepEqual(load.failures, [])
      await front.stop()
      await end(fleet)
    })

    test('a killed instance leaves rotation within 2 s; no GET and only its in-flight POSTs are lost', async (t) => {
      const fleet = await startFleet(shared)
      const [killed] = fleet.members
      const front = await start(release, fleet)
      // First without traffic: only checks detect it.
      for (const clients of [0, 6]) {
        await front.up(killed.id)
        const load = startLoad(front.url, {
          clients,
          requests: [
            { method: 'GET', path: '/' },
            { method: 'POST', path: '/echo', body: { a: 1 } },
          ],
        })
        if (clients > 0) await until(() => load.byInstance.has(killed.id))
        const began = performance.now()
        await killed.end('SIGKILL')
        const out = async (): Promise<boolean> => (await front.server(killed.id)).status.startsWith('DOWN')
        await until(out, { timeoutMs: 2_000, what: 'the killed instance out of the rotation' })
        const after = Math.round(performance.now() - began)
        await killed.start()
        await load.stop()
        const posts = load.failures.filter((failure) => failure.startsWith('POST'))
        t.diagnostic(`${clients} clients: out after ${after} ms, ${load.passed} passed, ${posts.length} POSTs failed`)
        assert.deepEqual(load.failures, posts)
        assert.ok(posts.length <= clients, posts.join('\n'))
      }
      await front.stop()
      await end(fleet)
    })

    test('an instance that comes back starts slowly, whatever its agent reports', async () => {
      const fleet = await startFleet(shared)
      const [killed] = fleet.members
      const front = await startFront(release, { ...fleet.env, LB_SLOWSTART: '60s' })
      await until(async () => (await front.server(killed.id)).check === 'L7OK', { what: 'a check' })
      await killed.end('SIGKILL')
      await until(async () => (await front.server(killed.id)).status.startsWith('DOWN'), { what: 'its end to be seen' })
      await killed.start()
      await front.up(killed.id)
      const early = (await front.server(killed.id)).weight
      assert.ok(early > 0 && early < 50, `weight ${early}`)
      await until(async () => (await front.server(killed.id)).weight > early, { what: 'more weight' })
      await front.stop()
      await end(fleet)
    })

    test('a client with a cookie leaves a draining instance, too', async () => {
      const fleet = await startFleet(shared)
      const front = await startFront(release, { ...fleet.env, LB_STICKY: 'SERVER', LB_STICKY_KEY: 'some key' })
      await front.up(...fleet.members.map(({ id }) => id))
      const first = await fetch(front.url)
      const cookie = (first.headers.get('set-cookie') ?? '').split(';')[0] ?? ''
      const send = async (): Promise<string> => {
        const response = await fetch(front.url, { headers: { cookie } })
        assert.equal(response.status, 200)
        return ((await response.json()) as { servedBy: string }).servedBy
      }
      const mine = ((await first.json()) as { servedBy: string }).servedBy
      assert.equal(await send(), mine)
      await fleet.members.find(({ id }) => id === mine)?.command('drain')
      await until(async () => (await send()) !== mine, { what: 'another instance' })
      await front.stop()
      await end(fleet)
    })

    test('when all instances drain, all are tried', async () => {
      const fleet = await startFleet(shared)
      const front = await start(release, fleet)
      const load = startLoad(front.url)
      await until(() => load.passed > 30)
      for (const member of fleet.members) {
        await member.command('drain')
        await until(async () => (await front.server(member.id)).status !== 'UP', {
          what: `${member.id} out of rotation`,
        })
      }
      const { passed } = load
      await until(() => load.passed > passed + 100)
      await load.stop()
      assert.deepEqual(load.failures, [])
      assert.ok(front.log.some(({ backend }) => backend === 'last_resort'))
      await front.stop()
      await end(fleet)
    })
  })
}
