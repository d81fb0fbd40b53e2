import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import type { FastifyInstance } from 'fastify'
import type { RedisOptions } from '../../../src/state/redis/index.ts'
import { until } from '../../helpers/until.ts'
import { within } from '../../helpers/within.ts'
import { Browser } from '../session/browser.ts'
import { replicated, startCluster, startSentinel } from '../topologies.ts'
import { type Fleet, startFleet } from './fleet.ts'
import { Load } from './load.ts'
import { prepare } from './rows.ts'
import { promises } from './table.ts'

const promised = promises()

interface Place {
  readonly where: RedisOptions
  readonly replicated: () => Promise<unknown>
  /** Kills a primary. */
  readonly kill: () => Promise<unknown>
}

const places: Record<string, () => Promise<Place>> = {
  Sentinel: async () => {
    const { sentinels, primary } = await startSentinel()
    return { where: { sentinels }, replicated: () => replicated(primary), kill: () => primary.kill('SIGKILL') }
  },
  Cluster: async () => {
    const { nodes, servers } = await startCluster()
    return {
      where: { cluster: nodes },
      replicated: () => Promise.all(servers.map(replicated)),
      kill: async () => servers[0]?.kill('SIGKILL'),
    }
  },
}

/** @returns the fields that are missing afterwards */
async function overlappingWrites(fleet: Fleet): Promise<string[]> {
  const browser = new Browser()
  await browser.post(fleet[0], '/session', { userId: 'eve' })
  const fields = Array.from({ length: 100 }, (_, n) => `field${n}`)
  const write = (field: string, n: number): Promise<unknown> =>
    browser.clone().post(fleet[n % 3] as FastifyInstance, '/session', { [field]: n })
  await Promise.all(fields.map(write))
  const held = (await browser.get(fleet[1], '/session/all')).json()
  return fields.filter((field, n) => held[field] !== n)
}

/** @returns the user that each instance sees in a session that another one has ended, at once or within a second if it tracks */
async function logOut(fleet: Fleet): Promise<[string, unknown][]> {
  const seen: [string, unknown][] = []
  for (const from of fleet) {
    const browser = new Browser()
    await browser.post(from, '/session', { userId: 'eve' })
    const window = browser.clone()
    for (const app of fleet) assert.equal((await window.get(app, '/session')).json().user, 'eve')
    await browser.send(from, { method: 'DELETE', url: '/session' })
    for (const app of fleet) {
      const user = async (): Promise<unknown> => (await window.clone().get(app, '/session')).json().user
      const tracks = app === fleet[2]
      if (tracks) await within(1000, 'the logout', async () => (await user()) === null)
      seen.push([`${from.fleet.instance.id} to ${app.fleet.instance.id}`, await user()])
    }
  }
  return seen
}

interface Observed {
  readonly fleet: Fleet
  readonly load: Load
  /** Writes that were acknowledged and replicated before the primary died. */
  readonly kept: ReturnType<Load['acknowledged']>
  readonly lost: string[]
  readonly loggedOut: [string, unknown][]
  readonly seen: ReadonlyMap<string, ReadonlySet<string>>
}

/** Kills a primary while a fleet is under load and observes every row until it has recovered. */
async function failOver({ where, replicated, kill }: Place): Promise<Observed> {
  const fleet = await startFleet(where)
  const [{ redis }] = fleet
  const lost = await overlappingWrites(fleet)
  const loggedOut = await logOut(fleet)
  const { rows, end } = await prepare(fleet, 120, 1000)
  const load = await Load.start(fleet, 20)
  await until(() => load.acknowledged().sessions.every(({ fields }) => fields.length > 3))
  const kept = load.acknowledged()
  await replicated()
  await kill()
  const seen = new Map<string, Set<string>>()
  let over = false
  const looks = [...rows].map(async ([name, { look }]) => {
    const outcomes = new Set<string>()
    seen.set(name, outcomes)
    const wanted = promised.get(name)?.['failing over'].split(', then ').at(-1)
    const recovered = async (): Promise<boolean> => {
      const before = over
      const outcome = await look().catch(String)
      outcomes.add(outcome)
      return before && outcome === wanted
    }
    await until(recovered, { what: name }).catch(() => {})
  })
  // Keys in all slots, so that some were on the dead server.
  const everywhere = Array.from({ length: 32 }, (_, n) => `slot ${n}`)
  await until(() => Promise.all(everywhere.map((key) => redis?.set(key, 1))), { what: 'failover' })
  over = true
  await Promise.all(looks)
  await load.stop()
  end()
  return { fleet, load, kept, lost, loggedOut, seen }
}

const running = Object.entries(places).map(([place, open]) => [place, open().then(failOver)] as const)
for (const [place, run] of running)
  describe(`failing over: ${place}`, () => {
    let observed: Observed
    before(async () => {
      observed = await run
    })

    test('before: loses none of a hundred overlapping writes to one session through three instances', () => {
      assert.deepEqual(observed.lost, [])
    })

    test('before: every instance sees a logout', async () => {
      for (const [from, window] of observed.loggedOut) assert.deepEqual([from, window], [from, null])
    })

    test('under load: responds to every request with 200 or 503', () => {
      assert.deepEqual([...observed.load.statuses.keys()].sort(), [200, 503])
    })

    test('under load: keeps writes that were acknowledged and replicated', async (t) => {
      const { sessions, orders } = observed.kept
      const fields = sessions.reduce((sum, session) => sum + session.fields.length, 0)
      const responses = [...observed.load.statuses].map(([status, count]) => `${count} × ${status}`)
      t.diagnostic(
        `${sessions.length} sessions, ${fields} fields, ${orders.length} orders; responses: ${responses.join(', ')}`,
      )
      assert.ok(sessions.length === 20 && fields > 60 && orders.length > 40)
      for (const { browser, fields } of observed.kept.sessions) {
        const held = (await browser.get(observed.fleet[1], '/session/all')).json()
        assert.deepEqual(
          fields.filter((field) => !(field in held)),
          [],
        )
      }
      const again = await Promise.all(
        observed.kept.orders.map(async (key) => {
          const client = observed.kept.sessions[Number(/\d+/.exec(key)?.[0])]?.browser as Browser
          const request = { method: 'POST', url: '/orders', payload: {}, headers: { 'idempotency-key': key } } as const
          return (await client.clone().send(observed.fleet[2], request)).headers['idempotency-replayed']
        }),
      )
      assert.deepEqual([...new Set(again)], ['true'])
    })

    for (const [name, { 'failing over': cell }] of promised)
      test(`${name}: ${cell}`, () => {
        const outcomes = [...(observed.seen.get(name) ?? [])]
        const [meanwhile, then = meanwhile] = cell.split(', then ')
        assert.deepEqual(
          outcomes.filter((outcome) => outcome !== then && !meanwhile?.split(' or ').includes(outcome)),
          [],
        )
        assert.ok(outcomes.includes(then as string))
      })
  })
