import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defaultMemoryLimit } from '../../src/host/memory.ts'

const gib = 1024 ** 3

test('workers share 90 % of the memory, with a share left for one more', () => {
  assert.equal(defaultMemoryLimit(3, { total: 8 * gib, constrained: 4 * gib }), Math.floor((4 * gib * 0.9) / 4))
})

test('ignores a missing limit and one above the memory', () => {
  for (const constrained of [0, 16 * gib, 2 ** 64]) {
    assert.equal(defaultMemoryLimit(1, { total: 8 * gib, constrained }), Math.floor((8 * gib * 0.9) / 2))
  }
})

test('accepts the values that Node reports for this machine', () => {
  assert.ok(defaultMemoryLimit(1) > 0)
})
