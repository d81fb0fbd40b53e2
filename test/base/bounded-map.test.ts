import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BoundedMap } from '../../src/base/bounded-map.ts'

test('a BoundedMap is bounded and keeps entries in use', () => {
  const entries = new BoundedMap<number>(10)
  for (let i = 0; i < 100; i++) {
    entries.set(`k${i}`, i)
    assert.equal(entries.get('k0'), 0)
    assert.ok(entries.size <= 10)
  }
  assert.equal(entries.get('k99'), 99)
  assert.equal(entries.get('k50'), undefined)
  entries.delete('k0')
  assert.equal(entries.get('k0'), undefined)
  const none = new BoundedMap<number>(0)
  none.set('a', 1)
  assert.equal(none.get('a'), undefined)
})
