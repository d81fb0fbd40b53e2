import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultMemoryLimit } from '../../src/host/memory.ts'

const gib = 1024 ** 3

test('workers share 90 % of the memory, with room for one more', () => {
  assert.equal(defaultMemoryLimit(3, { total: 8 * gib, constrained: 4 * gib }), Math.floor((4 * gib * 0.9) / 4))
})

test('a limit above the memory, or none, is no limit', () => {
  for (const constrained of [0, 16 * gib, 2 ** 64]) {
    assert.equal(defaultMemoryLimit(1, { total: 8 * gib, constrained }), Math.floor((8 * gib * 0.9) / 2))
  }
})

test('what Node says of this machine can be used', () => {
  assert.ok(defaultMemoryLimit(1) > 0)
})
