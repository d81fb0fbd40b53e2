import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { type CacheEntry, MemoryCacheStore, usable } from '../../../src/state/cache/memory-store.ts'
import { liveObjects } from '../../helpers/live-objects.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const entry = (options: { bytes?: number; tags?: string[]; forMs?: number } = {}): CacheEntry => {
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
const store = (maxItems: number, maxBytes = 1_000_000): MemoryCacheStore => new MemoryCacheStore({ maxItems, maxBytes })
const read = (from: MemoryCacheStore, key: string): void => {
  const found = from.get(key)
  if (found) found.visited = true
}
const kept = (from: MemoryCacheStore, keys: string): string => [...keys].filter((key) => from.get(key)).join('')

describe('eviction', () => {
  test('evicts the oldest entry if none was read', () => {
    const local = store(3)
    for (const key of 'abcde') local.set(key, entry())
    assert.equal(kept(local, 'abcde'), 'cde')
  })

  test('spares an entry that was read since the last visit of the hand', () => {
    const local = store(3)
    for (const key of 'abc') local.set(key, entry())
    read(local, 'a')
    read(local, 'b')
    local.set('d', entry())
    assert.equal(kept(local, 'abcd'), 'abd')
    // The hand continues from where it stopped, so it meets the new entry before the spared ones.
    local.set('e', entry())
    assert.equal(kept(local, 'abde'), 'abe')
  })

  test('evicts an entry even if all were read', () => {
    const local = store(3)
    for (const key of 'abc') local.set(key, entry())
    for (const key of 'abc') read(local, key)
    local.set('d', entry())
    assert.equal(kept(local, 'abcd'), 'bcd')
  })

  test('evicts as many entries as the size requires', () => {
    const local = store(100, 10)
    for (const key of 'abc') local.set(key, entry({ bytes: 3 }))
    local.set('d', entry({ bytes: 7 }))
    assert.equal(kept(local, 'abcd'), 'cd')
    assert.equal(local.bytes, 10)
    local.set('e', entry({ bytes: 11 }))
    assert.equal(kept(local, 'abcde'), 'cd')
  })

  test('keeps entries that are read often during a scan', () => {
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

test('reports the size of the stored entries', () => {
  const local = store(10)
  local.set('a', entry({ bytes: 5 }))
  local.set('a', entry({ bytes: 2 }))
  local.set('b', entry({ bytes: 4 }))
  local.delete('a')
  local.delete('a')
  assert.deepEqual([local.size, local.bytes], [1, 4])
})

test('stores nothing with maxItems 0', () => {
  const local = store(0)
  local.set('a', entry())
  assert.equal(local.size, 0)
})

test('keeps tags up to date when entries are added, deleted and replaced', () => {
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

test('expireAll makes fresh entries stale as of now', () => {
  const local = store(3)
  local.set('a', entry())
  local.set('b', entry({ forMs: -1_000 }))
  local.expireAll()
  const [a, b] = [local.get('a'), local.get('b')] as [CacheEntry, CacheEntry]
  assert.ok(a.freshUntil <= performance.now())
  assert.deepEqual([usable(a, 0), usable(a, 1_000), usable(b, 900), usable(b, 60_000)], [false, true, false, true])
})

describe('memory', () => {
  test('is free again once values are replaced, deleted or evicted', async () => {
    const local = store(100)
    const values: WeakRef<object>[] = []
    const set = (key: string): void => {
      const one = entry()
      values.push(new WeakRef(one))
      local.set(key, one)
    }
    const alive = async (): Promise<number> => {
      // A WeakRef keeps its value until the end of the turn.
      await nextTurn()
      collectGarbage()
      return values.filter((value) => value.deref()).length
    }
    // More often than V8 rebuilds the table of a map.
    for (let i = 0; i < 5_000; i++) {
      set(`replaced ${i % 10}`)
      set(`deleted ${i}`)
      local.delete(`deleted ${i}`)
    }
    assert.equal(await alive(), 10)
    for (let i = 0; i < 200; i++) set(`evicted ${i}`)
    assert.equal(await alive(), 100)
  })

  test('of a tag is free again once no value has it', () => {
    const local = store(10)
    const before = liveObjects(Set)
    for (let i = 0; i < 1_000; i++) local.set(`evicted ${i}`, entry({ tags: [`tag ${i}`] }))
    for (let i = 0; i < 1_000; i++) local.set('replaced', entry({ tags: [`other ${i}`] }))
    const kept = liveObjects(Set) - before
    assert.ok(kept < 100, `${kept} tags`)
    assert.equal(local.size, 10)
  })
})
