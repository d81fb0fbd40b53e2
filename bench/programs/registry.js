// A fleet of INSTANCES in one Redis: ten heartbeats, each with its own list of all peers, and the entries of the others.
// `GET /?seconds=2` runs the ten in closed loops and responds with the number of beats. Otherwise they beat every 200 s.
import { randomUUID } from 'node:crypto'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { FleetKeys } from '../node_modules/fastify-fleet/dist/state/registry/fleet-keys.js'
import { Heartbeat } from '../node_modules/fastify-fleet/dist/state/registry/heartbeat.js'
import { RedisDirectory } from '../node_modules/fastify-fleet/dist/state/registry/redis-directory.js'
import { SignedEntries } from '../node_modules/fastify-fleet/dist/state/registry/signed-entries.js'
import { listening, port } from './hello.js'

const count = Number(process.env.INSTANCES)
const client = new Redis(process.env.REDIS_URL)
const directory = new RedisDirectory(client, (kind, id) => `bench-${count}:${kind}:{${id}}`)
const log = { warn() {}, error() {}, info() {} }
const startedAt = new Date().toISOString()
const instance = (i) => ({
  ...{ id: `host-${i}-4711-abcdef`, host: `host-${i}`, pid: 4711, port: 3000, version: '1.0.0', color: 'none' },
  ...{ weight: 100, startedAt, lastSeen: new Date().toISOString(), state: 'serving' },
  ...{ rps: Math.random() * 1000, p95: 4.2, eventLoopUtilization: 0.5, memory: 120_000_000, failing: [] },
})
const leaseMs = 600_000
const entriesOf = () => new SignedEntries(new FleetKeys(['s'.repeat(32)], 'registry', 'bench'))
const heartbeats = Array.from({ length: 10 }, (_, i) => {
  const parts = { directory, entries: entriesOf(), boot: randomUUID(), leaseMs, log, self: () => instance(i) }
  return new Heartbeat({ ...parts, announce: async () => {}, onHealth() {} })
})
let from = { epoch: '', version: 0 }
for (let i = heartbeats.length; i < count; i++) {
  const [peer, boot] = [instance(i), randomUUID()]
  const entry = { id: peer.id, boot, ...entriesOf().seal(boot, peer) }
  from = await directory.beat(entry, { leaseMs, claim: true, from, sample: [] })
}
for (const heartbeat of heartbeats) heartbeat.join()
// All have joined after the first beat and know each other after the second.
for (let round = 0; round < 2; round++) for (const heartbeat of heartbeats) await heartbeat.beat()
if (heartbeats.some(({ peers }) => peers.length !== count))
  throw new Error('Error: an instance does not know all others')

const app = Fastify()
app.get('/', async ({ query }) => {
  const end = performance.now() + Number(query.seconds) * 1000
  let beats = 0
  const beat = async (heartbeat) => {
    for (; performance.now() < end; beats++) await heartbeat.beat()
  }
  await Promise.all(heartbeats.map(beat))
  return { beats }
})
await app.listen({ port, host: '127.0.0.1' })
listening()
