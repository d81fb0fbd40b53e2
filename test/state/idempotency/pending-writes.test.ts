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
