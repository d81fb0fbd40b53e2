import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { type Fleet, Member, startFleet } from '../haproxy/fleet.ts'
import { type Front, missing, releases, startFront } from '../haproxy/haproxy.ts'
import { startNames } from '../haproxy/names.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { Traffic } from '../helpers/traffic.ts'
import { until } from '../helpers/until.ts'
import { lazy } from './fronts.ts'
import { type Proof, prove } from './prove.ts'

const redis = lazy(startRedis)
const unlimited = { LB_RATE: '1000000', LB_RATE_TARPIT: '1000000' }
const portOf = (front: Front): number => Number(new URL(front.url).port)
const onlyReads = (front: Front): Traffic => new Traffic(portOf(front), 6, 'mixed', { methods: ['GET'] })
const fullOnly = { fullOnly: true }

/** Requests of each instance from now on, out of about `total`. */
async function share(front: Front, fleet: Fleet, proof: Proof, total: number): Promise<Record<string, number>> {
  const traffic = onlyReads(front)
  await traffic.more(total)
  proof.count(await traffic.stop(fleet.orders))
  return Object.fromEntries(traffic.byInstance)
}

for (const [index, release] of [releases[0], releases[1]].entries()) {
  const version = index === 0 && release ? release.version.split('.').slice(0, 2).join('.') : '3.2'

  type Task = (proof: Proof, front: Front, fleet: Fleet) => Promise<void>
  /** Runs a task with HAProxy in front of three instances with these variables. */
  const withFleet =
    (task: Task, own: Parameters<typeof startFleet>[1] = [], env: Record<string, string> = {}) =>
    async (proof: Proof): Promise<void> => {
      if (!release) return proof.skip(missing ?? '')
      const fleet = await startFleet({ REDIS_URL: (await redis()).url }, own)
      const front = await startFront(release, { ...fleet.env, ...unlimited, ...env })
      try {
        await front.up(...fleet.members.map(({ id }) => id))
        await task(proof, front, fleet)
      } finally {
        await front.stop()
        await Promise.all(fleet.members.map((member) => member.end('SIGKILL')))
      }
    }

  const failsFast: Task = async (proof, front) => {
    const traffic = onlyReads(front)
    await until(async () => (await front.server('app-3')).weight === 5, { what: 'the least weight' })
    await traffic.halt()
    const { requests } = await front.server('app-3')
    for (let i = 0; i < 100; i++) await (await fetch(front.url)).text()
    const received = (await front.server('app-3')).requests - requests
    proof.note(`the failing instance received ${received} of 100 requests`)
    assert.ok(received < 20)
  }

  const weights: Task = async (_proof, front, fleet) => {
    const reported = async (): Promise<number[]> =>
      await Promise.all(fleet.members.map(async ({ id }) => (await front.server(id)).weight))
    // 256 is HAProxy's maximum.
    await until(async () => (await reported()).join() === '100,50,256', { what: 'weights from the instances' })
  }

  const slower: Task = async (proof, front, fleet) => {
    for (const { id } of fleet.members) await front.api(`disable agent fleet/${id}`)
    const { 'app-3': blind = 0, 'app-1': blindly = 0 } = await share(front, fleet, proof, 300)
    for (const { id } of fleet.members) await front.api(`enable agent fleet/${id}`)
    const traffic = onlyReads(front)
    await until(async () => (await front.server('app-3')).weight < 50, { what: 'a smaller weight' })
    const { 'app-3': less = 0, 'app-1': more = 0 } = await share(front, fleet, proof, 600)
    proof.count(await traffic.stop(fleet.orders))
    proof.note(`slow : fast without agent ${blind} : ${blindly}, with it ${less} : ${more}`)
    assert.ok(blind > blindly * 0.8, `round robin alone is blind: ${blind} of ${blindly}`)
    assert.ok(less < more / 2, `${less} of ${more}`)
    assert.ok(less > 0, 'enough to show that it has recovered')
  }

  const slowStart: Task = async (_proof, front, fleet) => {
    const [killed] = fleet.members
    await killed.end('SIGKILL')
    await until(async () => (await front.server(killed.id)).status.startsWith('DOWN'), { what: 'its end to be seen' })
    await killed.start()
    await front.up(killed.id)
    const early = (await front.server(killed.id)).weight
    assert.ok(early > 0 && early < 50, `weight ${early}`)
    await until(async () => (await front.server(killed.id)).weight > early, { what: 'more weight' })
  }

  const cookie: Task = async (_proof, front, fleet) => {
    const first = await fetch(front.url)
    const given = (first.headers.get('set-cookie') ?? '').split(';')[0] ?? ''
    const send = async (): Promise<string> => {
      const response = await fetch(front.url, { headers: { cookie: given } })
      assert.equal(response.status, 200)
      return ((await response.json()) as { servedBy: string }).servedBy
    }
    const mine = ((await first.json()) as { servedBy: string }).servedBy
    assert.equal(await send(), mine)
    await fleet.members.find(({ id }) => id === mine)?.command('drain')
    await until(async () => (await send()) !== mine, { what: 'another instance' })
  }

  const allDrain: Task = async (proof, front, fleet) => {
    const traffic = new Traffic(portOf(front), 6)
    for (const member of fleet.members) {
      await member.command('drain')
      await until(async () => (await front.server(member.id)).status !== 'UP', { what: `${member.id} out of rotation` })
    }
    await traffic.more(100)
    proof.count(await traffic.stop(fleet.orders))
    assert.ok(front.log.some(({ backend }) => backend === 'last_resort'))
  }

  /** Like containers: each has its own address, and all use the same ports. */
  const scaling = async (proof: Proof): Promise<void> => {
    if (!release) return proof.skip(missing ?? '')
    const port = await freePort(2)
    const orders = join(temporaryFolder('orders'), 'orders')
    const shared = { REDIS_URL: (await redis()).url, FLEET_NAME: randomUUID(), DRAIN_DELAY: 800, ORDERS: orders }
    const members = [2, 3, 4, 5, 6].map(
      (n) => new Member(`app-${n}`, { host: `127.0.0.${n}`, port, agentPort: port + 1 }, shared),
    )
    const known = new Set<string>()
    const add = async (member: Member): Promise<void> => {
      await member.start()
      known.add(member.host)
    }
    const remove = async (member: Member): Promise<void> => {
      // Docker removes the name when the container has exited.
      assert.equal(await member.end('SIGTERM'), 0)
      known.delete(member.host)
    }
    const [first, second, third, ...more] = members as [Member, Member, Member, ...Member[]]
    for (const member of [first, second, third]) await add(member)
    const front = await startFront(release, {
      LB_SERVICE: `app.test:${port}`,
      LB_SERVICE_AGENT: `${port + 1}`,
      LB_SLOTS: '8',
      LB_NAMESERVER: `127.0.0.1:${await startNames(known)}`,
      ...unlimited,
    })
    const inRotation = async (count: number): Promise<void> => {
      const up = async (): Promise<number> =>
        (await front.api('show stat'))
          .split('\n')
          .filter((row) => /^fleet,app-\d+,/.test(row) && row.split(',')[17] === 'UP').length
      await until(async () => (await up()) === count, { what: `${count} in rotation` })
    }
    try {
      await inRotation(3)
      const traffic = new Traffic(portOf(front), 4)
      for (const member of more) await add(member)
      await inRotation(5)
      await until(() => traffic.byInstance.size === 5, { what: 'responses of all five' })
      for (const member of [first, second]) await remove(member)
      await inRotation(3)
      proof.count(await traffic.stop(orders))

      const socket = new WebSocket(`${front.url.replace('http', 'ws')}/ws`)
      const received: string[] = []
      socket.addEventListener('message', ({ data }) => received.push(String(data)))
      await until(() => /^app-[456]$/.test(received[0] ?? ''), { what: 'a WebSocket' })
      socket.close()
    } finally {
      await front.stop()
      await Promise.all(members.map((member) => member.end('SIGKILL')))
    }
  }

  prove(`scaling by DNS behind HAProxy ${version}`, 'haproxy-dns', scaling, fullOnly)
  prove(`all instances drain behind HAProxy ${version}`, 'all-drain', withFleet(allDrain), fullOnly)
  prove(
    `a client with a cookie leaves a draining instance behind HAProxy ${version}`,
    'drain',
    withFleet(cookie, [], { LB_STICKY: 'SERVER', LB_STICKY_KEY: 'some key' }),
    fullOnly,
  )
  prove(
    `an instance that fails fast attracts no load on HAProxy ${version}`,
    'haproxy-weights',
    withFleet(failsFast, [{}, {}, { FAIL: 1 }]),
    fullOnly,
  )
  prove(
    `requests follow FLEET_WEIGHT on HAProxy ${version}`,
    'haproxy-weights',
    withFleet(weights, [{}, { FLEET_WEIGHT: 50 }, { FLEET_WEIGHT: 1000 }]),
    fullOnly,
  )
  for (const [what, slow] of Object.entries<Record<string, number>>({
    waits: { SLOW_MS: 100 },
    computes: { BLOCK_MS: 40 },
  }))
    prove(
      `an instance that ${what} gets fewer requests on HAProxy ${version}`,
      'haproxy-weights',
      withFleet(slower, [{}, {}, slow]),
      fullOnly,
    )
  prove(
    `an instance that comes back starts slowly on HAProxy ${version}`,
    'haproxy-weights',
    withFleet(slowStart, [], { LB_SLOWSTART: '60s' }),
    fullOnly,
  )
}
