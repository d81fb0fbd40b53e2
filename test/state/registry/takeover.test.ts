import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Heartbeat } from '../../../src/state/registry/heartbeat.ts'
import type { HeartbeatReply } from '../../../src/state/registry/redis-directory.ts'
import { clock, entries, leaseMs, nothing, peer, stored } from './fake-peers.ts'

test('an instance that takes an id over reports the end of the process that had it, once', async (t) => {
  const pass = clock(t)
  const gone: string[] = []
  let rival: string | undefined
  const directory = { beat: async (): Promise<HeartbeatReply> => ({ ...nothing, rival }), leave: async () => true }
  const start = (): Heartbeat => {
    const heartbeat = new Heartbeat({
      ...{ entries: entries(), boot: 'boot', leaseMs, self: () => peer('self'), directory: directory as never },
      ...{ log: { warn() {}, error() {} } as never, announce: async () => {}, onHealth: () => {} },
      onGone: ({ id, host, lastSeen }, isSeen) => gone.push(`${id} ${host} ${lastSeen} ${isSeen}`),
    })
    t.after(() => heartbeat.close())
    return heartbeat
  }
  rival = stored('self', 'other')
  await pass(5_000)
  start().join()
  await pass(0)
  const signedAt = new Date(Date.parse('2026-01-01T00:00:00Z')).toISOString()
  assert.deepEqual(gone, [`self host-self ${signedAt} false`])
  await pass(1_000)
  assert.equal(gone.length, 1, 'one that took the id from this process runs')
  rival = stored('self', 'other', entries('x'.repeat(32)))
  start().join()
  await pass(0)
  assert.equal(gone.length, 1, 'an entry of another fleet')
})
