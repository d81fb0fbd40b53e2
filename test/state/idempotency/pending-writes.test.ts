import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { PendingWrites } from '../../../src/state/idempotency/pending-writes.ts'

const long = 60_000

test('retries one write per interval during an outage and performs all of them once afterwards', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const pending = new PendingWrites()
  let down = true
  const written: string[] = []
  let attempts = 0
  const write = (what: string) => async () => {
    if (down) throw new Error(`${what}: attempt ${++attempts}`)
    written.push(what)
  }
  for (const what of ['a', 'b', 'c']) pending.add(what, write(what), 0, long)
  for (let n = 0; n < 4; n++) {
    t.mock.timers.tick(250)
    await turn()
  }
  assert.deepEqual([written, attempts], [[], 4])
  down = false
  t.mock.timers.tick(250)
  await turn()
  assert.deepEqual(written, ['a', 'b', 'c'])
  t.mock.timers.tick(250)
  await turn()
  assert.deepEqual(written, ['a', 'b', 'c'], 'once')
  assert.equal(await pending.flush('b'), true, 'still known, in case its claim is carried out later')
  assert.equal(await pending.flush('d'), false)
})

test('drops the oldest and the expired writes, and rejects a flush during an outage', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const known = async (pending: PendingWrites) =>
    (await Promise.all(['a', 'b', 'c'].map(async (token) => ((await pending.flush(token)) ? token : '')))).join('')
  const fill = (pending: PendingWrites, bytes: number, lifeMs = long): PendingWrites => {
    for (const token of ['a', 'b', 'c']) pending.add(token, async () => {}, bytes, lifeMs)
    return pending
  }
  assert.equal(await known(fill(new PendingWrites({ maxRecords: 2, maxBytes: 100 }), 1)), 'bc')
  assert.equal(await known(fill(new PendingWrites({ maxRecords: 9, maxBytes: 25 }), 10)), 'bc')
  const over = fill(new PendingWrites(), 1, 0)
  t.mock.timers.tick(250)
  await turn()
  assert.equal(await known(over), '')
  const closed = fill(new PendingWrites(), 1)
  closed.stop()
  assert.equal(await known(closed), '')

  const outage = new PendingWrites()
  outage.add('a', () => Promise.reject(new Error('down')), 0, long)
  await assert.rejects(outage.flush('a'), /down/)
})

test('keeps 10,000 writes of 16 MiB in all, and no more', async () => {
  const isKnown = async (pending: PendingWrites, token: string): Promise<boolean> => await pending.flush(token)
  const many = new PendingWrites()
  for (let i = 0; i < 10_000; i++) many.add(`${i}`, async () => {}, 0, long)
  assert.equal(await isKnown(many, '0'), true)
  many.add('more', async () => {}, 0, long)
  assert.deepEqual([await isKnown(many, '0'), await isKnown(many, '1')], [false, true])
  many.stop()
  const large = new PendingWrites()
  const half = 8 * 1024 * 1024
  for (const token of ['a', 'b', 'a']) large.add(token, async () => {}, half, long)
  assert.deepEqual([await isKnown(large, 'a'), await isKnown(large, 'b')], [true, true], 'one per token')
  large.add('c', async () => {}, 1, long)
  assert.deepEqual([await isKnown(large, 'b'), await isKnown(large, 'a')], [false, true])
  large.stop()
})

test('waits 250 ms between two retries', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const pending = new PendingWrites()
  let attempts = 0
  pending.add('a', () => Promise.reject(new Error(`${++attempts}`)), 0, long)
  for (const [ms, expected] of [
    [249, 0],
    [1, 1],
    [249, 1],
    [1, 2],
  ] as const) {
    t.mock.timers.tick(ms)
    for (let i = 0; i < 3; i++) await turn()
    assert.equal(attempts, expected)
  }
  pending.stop()
  t.mock.timers.tick(1_000)
  assert.equal(attempts, 2)
})
