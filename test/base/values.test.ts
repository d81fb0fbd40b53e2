import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { BoundedMap } from '../../src/base/bounded-map.ts'
import { cookiePairs, cookieValues } from '../../src/base/cookies.ts'
import { deepFreeze } from '../../src/base/deep-freeze.ts'
import { dictionary, lookup } from '../../src/base/dictionary.ts'
import { percentDecoded } from '../../src/base/percent.ts'
import { readRegular } from '../../src/base/regular-file.ts'
import { rejectRenamed } from '../../src/base/renamed-options.ts'
import { requestId } from '../../src/base/request-id.ts'
import { urlAt } from '../../src/base/urls.ts'
import { within } from '../../src/base/within.ts'
import { clock } from '../helpers/clock.ts'

describe('a regular file', () => {
  const folderOf = (t: TestContext): string => {
    const folder = mkdtempSync(join(tmpdir(), 'regular-'))
    t.after(() => rmSync(folder, { recursive: true }))
    return folder
  }

  it('is read up to a megabyte, and not above', (t) => {
    const path = join(folderOf(t), 'file')
    for (const [size, read] of [
      [0, 0],
      [1, 1],
      [1_000_000, 1_000_000],
      [1_000_001, undefined],
      [3_000_000, undefined],
    ] as const) {
      writeFileSync(path, 'x'.repeat(size))
      assert.equal(readRegular(path, false)?.length, read)
    }
    writeFileSync(path, 'häuser')
    assert.equal(readRegular(path, true), 'häuser')
  })

  it('may be behind a link only if the path is of the user', (t) => {
    const folder = folderOf(t)
    writeFileSync(join(folder, 'file'), 'a')
    symlinkSync('file', join(folder, 'link'))
    assert.equal(readRegular(join(folder, 'link'), true), 'a')
    assert.equal(readRegular(join(folder, 'link'), false), undefined)
  })

  it('is no folder, pipe or device, and exists', (t) => {
    const folder = folderOf(t)
    execFileSync('mkfifo', [join(folder, 'pipe')])
    for (const path of [folder, join(folder, 'pipe'), '/dev/zero', join(folder, 'none')])
      assert.equal(readRegular(path, true), undefined)
  })

  it('is closed again, and so is what is none', (t) => {
    const folder = folderOf(t)
    const path = join(folder, 'file')
    writeFileSync(path, 'a')
    const free = (): number => {
      const fd = openSync(path, 'r')
      closeSync(fd)
      return fd
    }
    const before = free()
    for (const one of [path, folder]) readRegular(one, true)
    assert.equal(free(), before)
  })
})

describe('plain values', () => {
  it('are frozen at each depth, and returned', () => {
    const value = { a: [{ b: null }], c: 1 }
    assert.equal(deepFreeze(value), value)
    assert.ok([value, value.a, value.a[0]].every((level) => Object.isFrozen(level)))
    for (const plain of [null, undefined, 1, 'a']) assert.equal(deepFreeze(plain), plain)
  })

  it('of untrusted keys have no prototype', () => {
    assert.equal(dictionary<number>().toString, undefined)
    const table = lookup<Record<string, number>>({ a: 1 })
    assert.deepEqual([table.a, table.toString, Object.isFrozen(table)], [1, undefined, true])
  })

  it('are decoded, or undefined', () => {
    assert.deepEqual(['a%20b', '%C3%A9', '%', '%ff', ''].map(percentDecoded), ['a b', 'é', undefined, undefined, ''])
  })

  it('of renamed options name the new one', () => {
    rejectRenamed('cache', undefined, { ttl: 'ttlMs' })
    rejectRenamed('cache', { ttlMs: 1 }, { ttl: 'ttlMs', toString: 'text' })
    assert.throws(() => rejectRenamed('cache', { ttl: undefined }, { size: 'maxSize', ttl: 'ttlMs' }), {
      code: 'FLEET_ERR_OPTION_UNKNOWN',
      message: /`cache\.ttl` is now `ttlMs`/,
    })
  })
})

it('request ids share their first part of 72 bits and count up', () => {
  const [a, b] = [requestId(), requestId()].map((id) => /^([\w-]{12})-(\d+)$/.exec(id))
  assert.ok(a && b)
  assert.equal(a[1], b[1])
  assert.equal(Number(b[2]), Number(a[2]) + 1)
})

it('a URL has the origin of its base, whatever the path looks like', () => {
  const cases: [string, string][] = [
    ['/a?b=1', 'http://one:1/a?b=1'],
    ['//two/a', 'http://one:1//two/a'],
    ['/\\two/a', 'http://one:1//two/a'],
    ['/a#b?c', 'http://one:1/a'],
    ['/a?b#c', 'http://one:1/a?b'],
    ['?a', 'http://one:1/?a'],
    ['', 'http://one:1/'],
  ]
  for (const [target, url] of cases) assert.equal(urlAt('http://one:1/base?query', target).href, url, target)
})

describe('a promise with a time limit', () => {
  it('is fulfilled or rejected, and needs no timer then', async (t) => {
    const time = clock(t)
    assert.equal(await within(1000, Promise.resolve()), 'fulfilled')
    assert.equal(await within(1000, Promise.reject(new Error('x'))), 'rejected')
    assert.equal(time.timers(), 0)
  })

  it('is late after the limit', async (t) => {
    const time = clock(t)
    const outcome = within(1000, new Promise(() => {}))
    time.tick(999)
    assert.equal(time.timers(), 1)
    time.tick(1)
    assert.equal(await outcome, 'late')
  })

  it('is not late if it was fulfilled in the turn of the limit', async (t) => {
    const time = clock(t)
    const { promise, resolve } = Promise.withResolvers<void>()
    const outcome = within(1000, promise)
    time.tick(1000)
    resolve()
    assert.equal(await outcome, 'fulfilled')
  })
})

describe('a bounded map', () => {
  const filled = (capacity: number, count: number): BoundedMap<number> => {
    const map = new BoundedMap<number>(capacity)
    for (let i = 0; i < count; i++) map.set(`${i}`, i)
    return map
  }

  it('keeps the entries of its old half that were used, until the young one is full', () => {
    const map = filled(6, 4)
    const values = (): unknown[] => ['0', '1', '2', '3'].map((key) => map.get(key))
    assert.deepEqual([map.size, map.get('0'), map.size], [4, 0, 4])
    assert.equal(map.get('1'), 1)
    // Three are young again, and became the old half.
    assert.deepEqual(values(), [0, 1, undefined, 3])
  })

  it('replaces a value in both halves, and deletes it from both', () => {
    const map = filled(4, 2)
    map.set('0', 10)
    assert.deepEqual([map.get('0'), map.size], [10, 2])
    map.delete('1')
    map.delete('0')
    assert.deepEqual([map.get('0'), map.get('1'), map.size], [undefined, undefined, 0])
  })

  it('of an odd capacity holds less', () => {
    assert.equal(filled(1, 1).size, 0)
    assert.deepEqual([filled(3, 1).size, filled(3, 5).size], [1, 1])
  })
})

describe('the cookies of a name', () => {
  it('are the first 32', () => {
    const header = Array.from({ length: 40 }, (_, i) => `a=${i}`).join('; ')
    assert.deepEqual(cookieValues(header, 'a').slice(30), ['30', '31'])
  })

  it('need a name before `=`', () => {
    assert.deepEqual(cookiePairs('=a; a; b==; a=1', 'a'), ['a=1'])
    assert.deepEqual(cookieValues('b==', 'b'), ['='])
    assert.deepEqual(cookiePairs('=x', ''), [])
  })
})
