import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Entry, LocalStore, usable } from '../../../src/state/cache/local.ts'

const entry = (options: { bytes?: number; tags?: string[]; forMs?: number } = {}): Entry => {
  const expiresAt = performance.now() + (options.forMs ?? 60_000)
  return {
    promise: Promise.resolve(),
    tags: options.tags ?? [],
    bytes: options.bytes ?? 1,
    expiresAt,
    freshUntil: expiresAt,
    visited: false,
  }
}
const store = (maxItems: number, maxBytes = 1_000_000): LocalStore => new LocalStore({ maxItems, maxBytes })
const read = (from: LocalStore, key: string): void => {
  const found = from.get(key)
  if (found) found.visited = true
}
const kept = (from: LocalStore, keys: string): string => [...keys].filter((key) => from.get(key)).join('')

describe('who leaves', () => {
  test('the oldest, when nothing is read', () => {
    const local = store(3)
    for (const key of 'abcde') local.set(key, entry())
    assert.equal(kept(local, 'abcde'), 'cde')
  })

  test('not what was read since the hand came by', () => {
    const local = store(3)
    for (const key of 'abc') local.set(key, entry())
    read(local, 'a')
    read(local, 'b')
    local.set('d', entry())
    assert.equal(kept(local, 'abcd'), 'abd')
    // The hand goes on where it stopped: what is new comes before what it spared.
    local.set('e', entry())
    assert.equal(kept(local, 'abde'), 'abe')
  })

  test('somebody, when everything was read', () => {
    const local = store(3)
    for (const key of 'abc') local.set(key, entry())
    for (const key of 'abc') read(local, key)
    local.set('d', entry())
    assert.equal(kept(local, 'abcd'), 'bcd')
  })

  test('as many as it takes for the size', () => {
    const local = store(100, 10)
    for (const key of 'abc') local.set(key, entry({ bytes: 3 }))
    local.set('d', entry({ bytes: 7 }))
    assert.equal(kept(local, 'abcd'), 'cd')
    assert.equal(local.bytes, 10)
    local.set('e', entry({ bytes: 11 }))
    assert.equal(kept(local, 'abcde'), 'cd')
  })

  test('a scan does not wash out what is read often', () => {
    const local = store(100)
    for (let n = 0; n < 50; n++) local.set(`hot ${n}`, entry())
    for (let n = 0; n < 10_000; n++) {
      local.set(`once ${n}`, entry())
      read(local, `hot ${n % 50}`)
    }
    const hot = Array.from({ length: 50 }, (_, n) => local.get(`hot ${n}`)).filter(Boolean)
    assert.equal(hot.length, 50)
    assert.equal(local.size, 100)
  })
})

test('the size is that of what is there', () => {
  const local = store(10)
  local.set('a', entry({ bytes: 5 }))
  local.set('a', entry({ bytes: 2 }))
  local.set('b', entry({ bytes: 4 }))
  local.delete('a')
  local.delete('a')
  assert.deepEqual([local.size, local.bytes], [1, 4])
})

test('no items means none', () => {
  const local = store(0)
  local.set('a', entry())
  assert.equal(local.size, 0)
})

test('tags follow what comes, goes and is replaced', () => {
  const local = store(3)
  local.set('a', entry({ tags: ['x', 'y'] }))
  local.set('b', entry({ tags: ['x'] }))
  local.set('a', entry({ tags: ['y'] }))
  local.deleteByTag('x')
  assert.equal(kept(local, 'ab'), 'a')
  local.deleteByTag('unknown')
  local.deleteByTag('y')
  assert.equal(local.size, 0)
})

test('what is distrusted is not fresh, but as stale as if it had expired now', () => {
  const local = store(3)
  local.set('a', entry())
  local.set('b', entry({ forMs: -1_000 }))
  local.expireAll()
  const [a, b] = [local.get('a'), local.get('b')] as [Entry, Entry]
  assert.ok(a.freshUntil <= performance.now())
  assert.deepEqual([usable(a, 0), usable(a, 1_000), usable(b, 900), usable(b, 60_000)], [false, true, false, true])
})
