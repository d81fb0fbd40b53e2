import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Redis } from 'ioredis'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'
import { startFleet } from './fleet.ts'
import { prepare, type Row, type Rows } from './rows.ts'
import { type Fault, promises } from './table.ts'

const promised = promises()

interface Place {
  readonly server: RedisServer
  readonly relay: Relay
  readonly admin: Redis
}

/** Each fault, how it begins and how it ends. */
const made: [Fault, how: string, begin: (place: Place) => unknown, end: (place: Place) => unknown][] = [
  ['slow', 'replies take 80 ms', ({ relay }) => relay.delay(80), ({ relay }) => relay.restore()],
  ['silent', 'no traffic', ({ relay }) => relay.silence(), ({ relay }) => relay.restore()],
  ['gone', 'connections refused', ({ relay }) => relay.refuse(), ({ relay }) => relay.restore()],
  [
    'read-only',
    'a replica',
    ({ admin }) => admin.replicaof('127.0.0.1', 1),
    ({ admin }) => admin.replicaof('NO', 'ONE'),
  ],
  [
    'read-only',
    'too few replicas',
    ({ admin }) => admin.config('SET', 'min-replicas-to-write', 1),
    ({ admin }) => admin.config('SET', 'min-replicas-to-write', 0),
  ],
  [
    'full',
    'noeviction',
    ({ admin }) => admin.config('SET', 'maxmemory', 1),
    ({ admin }) => admin.config('SET', 'maxmemory', 0),
  ],
]

/** Looks once, or until the outcome is the expected one where that takes a while. */
async function observe({ look, slowly = false }: Row, expected: string, patient: boolean): Promise<string> {
  let outcome = ''
  const seen = async (): Promise<boolean> => {
    outcome = await look().catch(String)
    return outcome === expected
  }
  if (slowly || patient) await until(seen).catch(() => {})
  else await seen()
  return outcome
}

let place: Place
let observed: Rows
before(async () => {
  const server = await startRedis()
  const relay = await Relay.open(server.port)
  place = { server, relay, admin: new Redis(server.url) }
  observed = await prepare(await startFleet({ host: '127.0.0.1', port: relay.port }), 80, 10_000)
})
after(() => {
  observed.end()
  place.admin.disconnect()
})

test('observes exactly the rows of the docs', () => {
  assert.deepEqual([...observed.rows.keys()].sort(), [...promised.keys()].sort())
})

// The same instances go through all faults, one after the other.
for (const [fault, how, begin, end] of made)
  describe(`${fault}: ${how}`, () => {
    const outcomes = new Map<string, string>()
    before(async () => {
      await observed.restock()
      await begin(place)
      // After a rejected write the client looks for another server, which fails commands in flight.
      const patient = fault === 'read-only'
      const looks = [...observed.rows].map(async ([name, row]) => {
        outcomes.set(name, await observe(row, promised.get(name)?.[fault] ?? '', patient))
      })
      await Promise.all(looks)
    })

    for (const [name, cells] of promised)
      test(`${name}: ${cells[fault]}`, () => assert.equal(outcomes.get(name), cells[fault]))

    test('every row works again afterwards', async () => {
      await end(place)
      const looks = [...observed.rows].map(([name, { look }]) =>
        until(async () => (await look()) === promised.get(name)?.slow, { what: name }),
      )
      await Promise.all(looks)
    })
  })
