import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'
import { type GoneListener, Peers } from '../../../src/state/registry/peers.ts'
import type { HeartbeatReply } from '../../../src/state/registry/redis-directory.ts'
import { SignedEntries } from '../../../src/state/registry/signed-entries.ts'
import { clock, entries, nothing, peer, stored } from './fake-peers.ts'

describe('the known peers', () => {
  const apply = (peers: Peers, given: Partial<HeartbeatReply>): boolean => peers.apply({ ...nothing, ...given })
  const ids = (peers: Peers): string => String(peers.list(peer('self')).map(({ id }) => id))

  test('that are missing after a loss of data stay for the grace period, and not longer', async (t) => {
    const pass = clock(t)
    const peers = new Peers('self', 6_000, entries())
    apply(peers, { changes: new Map(['a', 'b'].map((id) => [id, stored(id)])) })
    apply(peers, { full: true, changes: new Map([['b', stored('b')]]) })
    await pass(5_999)
    apply(peers, { full: true, changes: new Map([['b', stored('b')]]) })
    assert.equal(ids(peers), 'a,b,self')
    await pass(1)
    apply(peers, {})
    assert.equal(ids(peers), 'b,self')
  })

  test('are missing only if none of the pages of a reading has them', async (t) => {
    const pass = clock(t)
    const peers = new Peers('self', 6_000, entries())
    assert.deepEqual(peers.position, { epoch: '', version: 0, cursor: '' })
    apply(peers, { changes: new Map(['a', 'b', 'c'].map((id) => [id, stored(id)])) })
    const page = { full: true, more: true, cursor: '7', changes: new Map([['a', stored('a')]]) }
    assert.equal(apply(peers, page), true)
    assert.deepEqual(peers.position, { epoch: 'e', version: 1, cursor: '7' })
    assert.equal(apply(peers, { changes: new Map([['c', stored('c')]]) }), false)
    await pass(6_000)
    apply(peers, {})
    assert.equal(ids(peers), 'a,c,self')
  })

  test('are read from the start after a change of the secrets, because ignored ones may be valid now', () => {
    const secrets = ['a'.repeat(32)]
    const peers = new Peers('self', 6_000, new SignedEntries(new FleetKeys(secrets, 'registry', 'shop')))
    assert.equal(peers.position.version, 0)
    apply(peers, { version: 7 })
    assert.equal(peers.position.version, 7)
    secrets.push('b'.repeat(32))
    assert.deepEqual(peers.position, { epoch: '', version: 0, cursor: '' })
    apply(peers, { version: 8 })
    assert.equal(peers.position.version, 8)
  })

  test('are verified again only if their entry has changed or expired', async (t) => {
    const pass = clock(t)
    const verifier = entries()
    const verified = t.mock.method(verifier, 'open')
    const peers = new Peers('self', 6_000, verifier)
    const entry = stored('a')
    const read = (text: string): number => {
      apply(peers, { full: true, changes: new Map([['a', text]]) })
      return verified.mock.callCount()
    }
    assert.deepEqual([read(entry), read(entry), read(`${entry} `), read(entry)], [1, 1, 2, 2])
    await pass(900_000)
    assert.equal(read(entry), 3)
  })

  test('are not read further than ten thousand instances', () => {
    const peers = new Peers('self', 6_000, entries())
    const many = (count: number): Map<string, string> => new Map(Array.from({ length: count }, (_, i) => [`p${i}`, '']))
    assert.equal(apply(peers, { full: true, more: true, cursor: '7', changes: many(9_999) }), true)
    assert.equal(apply(peers, { more: true, cursor: '8', changes: many(10_000) }), false)
    assert.equal(peers.position.cursor, '')
  })

  test('that come back within it stay', async (t) => {
    const pass = clock(t)
    const peers = new Peers('self', 6_000, entries())
    apply(peers, { changes: new Map([['a', stored('a')]]) })
    apply(peers, { full: true })
    apply(peers, { changes: new Map([['a', stored('a')]]) })
    await pass(6_000)
    apply(peers, {})
    assert.equal(ids(peers), 'a,self')
  })

  test('report each process that is gone, with its last entry', async (t) => {
    const pass = clock(t)
    const gone: string[] = []
    const seen = (isSeen: boolean): string => (isSeen ? 'seen' : 'unseen')
    const onGone: GoneListener = ({ id, lastSeen }, isSeen) =>
      gone.push(`${id} ${lastSeen.slice(17, 19)} ${seen(isSeen)}`)
    const peers = new Peers('self', 6_000, entries(), () => {}, onGone)
    const all = ['a', 'b', 'c'].map((id): [string, string] => [id, stored(id)])
    apply(peers, { changes: new Map(all) })
    await pass(2_000)
    apply(peers, { loads: new Map([['a', entries().seal('boot', peer('a')).load]]) })
    await pass(2_000)
    const expired = new Map([...all, ['d', stored('d')], ['e', 'boot {"forged":1}']] as [string, string][])
    apply(peers, { removed: expired, changes: new Map([['a', undefined]]) })
    assert.deepEqual(gone.splice(0), ['d 04 unseen', 'a 02 seen'])
    apply(peers, { changes: new Map([['b', stored('b', 'other')]]) })
    assert.deepEqual(gone.splice(0), ['b 00 seen'])
    apply(peers, { changes: new Map([['z', undefined]]) })
    apply(peers, { full: true, changes: new Map([['b', stored('b', 'other')]]) })
    await pass(6_000)
    apply(peers, {})
    assert.deepEqual(gone.splice(0), ['c 00 seen'], 'after a loss of data')
  })

  test('ignore an older entry of the same process, and one of another that is over 10 s older', async (t) => {
    const pass = clock(t)
    const rejected: string[] = []
    const peers = new Peers('self', 6_000, entries(), (reason, id) => rejected.push(`${reason} ${id}`))
    const [same, other] = [stored('a', 'boot'), stored('a', 'other')]
    await pass(1)
    apply(peers, { changes: new Map([['a', stored('a', 'boot')]]) })
    apply(peers, { changes: new Map([['a', same]]) })
    assert.deepEqual(rejected, ['stale a'])
    apply(peers, { changes: new Map([['a', other]]) })
    assert.equal(peers.bootOf('a'), 'other', 'the clocks of two machines differ')
    for (const [ms, boot] of [
      [10_000, 'older'],
      [10_001, 'newer'],
    ] as const) {
      const older = stored('a', 'older')
      await pass(ms)
      apply(peers, { changes: new Map([['a', stored('a', 'newer')]]) })
      apply(peers, { changes: new Map([['a', older]]) })
      assert.equal(peers.bootOf('a'), boot, `${ms} ms`)
    }
  })

  test('whose signature is over 15 minutes old are dropped each half minute, after an outage once all could sign again', async (t) => {
    const pass = clock(t)
    const gone: string[] = []
    const peers = new Peers('self', 40_000, entries(), undefined, ({ id }) => gone.push(id))
    apply(peers, { changes: new Map([['a', stored('a')]]) })
    await pass(40_001)
    apply(peers, { changes: new Map([['b', stored('b')]]) })
    await pass(860_000)
    apply(peers, {})
    const seen: string[] = []
    for (const ms of [39_999, 1, 29_999, 1]) {
      await pass(ms)
      apply(peers, {})
      seen.push(ids(peers))
    }
    assert.deepEqual(seen, ['a,b,self', 'b,self', 'b,self', 'self'])
    assert.deepEqual(gone, ['a', 'b'])
  })

  test('get figures that their own process signed, and the own entry is never among them', (t) => {
    clock(t)
    const rejected: string[] = []
    const peers = new Peers('self', 6_000, entries(), (reason) => rejected.push(reason))
    apply(peers, { changes: new Map(['a', 'self'].map((id) => [id, stored(id)])) })
    const load = (boot: string): string => entries().seal(boot, { ...peer('a'), rps: 5 }).load
    apply(peers, {
      loads: new Map([
        ['a', load('other')],
        ['unknown', load('boot')],
      ]),
    })
    assert.deepEqual([ids(peers), rejected, peers.list(peer('self'))[0]?.rps], ['a,self', ['signature'], 0])
    apply(peers, { loads: new Map([['a', load('boot')]]) })
    assert.equal(peers.list(peer('self'))[0]?.rps, 5)
    apply(peers, { changes: new Map([['a', undefined]]) })
    assert.equal(ids(peers), 'self')
  })
})
