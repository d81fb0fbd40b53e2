import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemorySessions } from '../../../src/state/session/engine.ts'

test('memory holds 100,000 sessions; the one written longest ago makes room', async () => {
  const engine = new MemorySessions()
  for (let i = 0; i <= 100_000; i++) {
    engine.remember('ann', `s${i}`)
    engine.put(`s${i}`, '{}', 60_000)
    if (i === 99_999) engine.put('s0', '{}', 60_000)
  }
  assert.equal(await engine.read('s1'), null)
  assert.equal(await engine.read('s0'), '{}')
  assert.equal(await engine.read('s100000'), '{}')
  assert.equal((await engine.ids('ann')).length, 100_000)
})

test('what is over makes room first', async (t) => {
  t.mock.timers.enable({ apis: ['Date'] })
  const engine = new MemorySessions()
  await engine.remember('ann', 'short')
  await engine.put('short', '{}', 1000)
  await engine.put('long', '{}', 60_000)
  t.mock.timers.tick(2000)
  assert.equal(await engine.replace('short', '{}', 1000), false)
  assert.equal(await engine.merge('short', new Map(), 1000, 100), false)
  await engine.put('other', '{}', 1000)
  assert.deepEqual(await engine.ids('ann'), [])
  assert.equal(await engine.destroy('short'), false)
  assert.equal(await engine.destroy('long'), true)
})
