import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Owed } from '../../../src/state/idempotency/owed.ts'

const long = 60_000

test('what is owed is told once Redis takes it, and one refusal at a time is enough to know that it does not', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const owed = new Owed()
  let away = true
  const told: string[] = []
  let refused = 0
  const pay = (what: string) => async () => {
    if (away) throw new Error(`${what}: refused ${++refused}`)
    told.push(what)
  }
  for (const what of ['a', 'b', 'c']) owed.add(what, pay(what), 0, long)
  for (let n = 0; n < 4; n++) {
    t.mock.timers.tick(250)
    await turn()
  }
  assert.deepEqual([told, refused], [[], 4])
  away = false
  t.mock.timers.tick(250)
  await turn()
  assert.deepEqual(told, ['a', 'b', 'c'])
  t.mock.timers.tick(250)
  await turn()
  assert.deepEqual(told, ['a', 'b', 'c'], 'once')
  assert.equal(await owed.pay('b'), true, 'still known, should its claim take the key late')
  assert.equal(await owed.pay('d'), false)
})

test('who cannot be told hears it; the oldest are forgotten when they are too many, too large, or for nothing', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const known = async (owed: Owed) =>
    (await Promise.all(['a', 'b', 'c'].map(async (token) => ((await owed.pay(token)) ? token : '')))).join('')
  const fill = (owed: Owed, bytes: number, lifeMs = long): Owed => {
    for (const token of ['a', 'b', 'c']) owed.add(token, async () => {}, bytes, lifeMs)
    return owed
  }
  assert.equal(await known(fill(new Owed({ maxRecords: 2, maxBytes: 100 }), 1)), 'bc')
  assert.equal(await known(fill(new Owed({ maxRecords: 9, maxBytes: 25 }), 10)), 'bc')
  const over = fill(new Owed(), 1, 0)
  t.mock.timers.tick(250)
  await turn()
  assert.equal(await known(over), '')
  const closed = fill(new Owed(), 1)
  closed.stop()
  assert.equal(await known(closed), '')

  const away = new Owed()
  away.add('a', () => Promise.reject(new Error('away')), 0, long)
  await assert.rejects(away.pay('a'), /away/)
})
