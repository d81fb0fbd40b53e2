import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryRecordStore } from '../../../src/state/session/memory-store.ts'

test('keeps 100,000 sessions and evicts the least recently written', async () => {
  const store = new MemoryRecordStore()
  for (let i = 0; i <= 100_000; i++) {
    store.addToUser('ann', `s${i}`)
    store.write(`s${i}`, '{}', 60_000)
    if (i === 99_999) store.write('s0', '{}', 60_000)
  }
  assert.equal(await store.read('s1'), null)
  assert.equal(await store.read('s0'), '{}')
  assert.equal(await store.read('s100000'), '{}')
  assert.equal((await store.idsOfUser('ann')).length, 100_000)
})

test('drops expired sessions first', async (t) => {
  t.mock.timers.enable({ apis: ['Date'] })
  const store = new MemoryRecordStore()
  await store.addToUser('ann', 'short')
  await store.write('short', '{}', 1000)
  await store.write('long', '{}', 60_000)
  t.mock.timers.tick(2000)
  assert.equal(await store.replace('short', '{}', 1000), false)
  assert.equal(await store.merge('short', new Map(), 1000, 100), false)
  await store.write('other', '{}', 1000)
  assert.deepEqual(await store.idsOfUser('ann'), [])
  assert.equal(await store.destroy('short'), false)
  assert.equal(await store.destroy('long'), true)
})
