import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import type { Peer } from '../../../src/instance/identity.ts'
import { type Position, RedisDirectory } from '../../../src/state/registry/redis-directory.ts'
import { startRedis } from '../../helpers/redis.ts'
import { entries, peer } from './fake-peers.ts'

test('peers are notified of new, changed and expired entries, but not of a renewed signature', async () => {
  const client = new Redis((await startRedis()).port)
  after(() => client.disconnect())
  const directory = new RedisDirectory(client, (kind, id) => `shop:${kind}:{${id}}`)
  const own = entries()
  let from: Position = { epoch: '', version: 0, cursor: '' }
  const beat = async (of?: Peer, leaseMs = 60_000): Promise<[string[], boolean]> => {
    // A signature has a time in ms: two within one are the same.
    await sleep(2)
    const entry = of && { id: of.id, boot: 'boot', ...own.seal('boot', of, true) }
    const reply = await directory.beat(entry, { leaseMs, claim: false, from, sample: [] })
    from = reply
    return [[...reply.changes.keys()], reply.changed]
  }
  assert.deepEqual(await beat(peer('p')), [['p'], true])
  assert.deepEqual(await beat(peer('p')), [['p'], false], 'the signature is newer')
  assert.deepEqual(await beat({ ...peer('p'), state: 'draining' }), [['p'], true])
  await client.hset('shop:registry-facts:{all}', 'p', 'boot of another application')
  assert.deepEqual(await beat({ ...peer('p'), state: 'draining' }), [['p'], true])
  assert.deepEqual(await beat({ ...peer('p'), state: 'draining' }, 1), [['p'], false])
  // A reader's call removes nobody; the next heartbeat of another instance does.
  const [added, isNews] = await beat(peer('q'))
  assert.ok(added.includes('q') && isNews)
  let removed = added.includes('p')
  while (!removed) {
    const [ids, changed] = await beat(peer('q'))
    removed = ids.includes('p')
    assert.equal(changed, removed)
  }
})
