import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { FastifyRequest } from 'fastify'
import type { SessionContext } from '../../../src/state/session/options.ts'
import { CachedRecord, copy, isEqual, isSame, quote, serialize } from '../../../src/state/session/record.ts'
import { Session } from '../../../src/state/session/session.ts'

describe('isEqual()', () => {
  test('takes equal JSON for unchanged', () => {
    const originals = ['x', 1, null, true, [], {}, [1, [2, { a: [] }]], { a: [1, { b: null }], s: 'x' }, [null], [[]]]
    for (const original of originals)
      assert.equal(isEqual(structuredClone(original), original), true, JSON.stringify(original))
  })

  test('never takes changed data for unchanged', () => {
    const original = { a: [1, { b: null }], s: 'x' }
    const others = [
      { a: [1, { b: null }] },
      { s: 'x', a: [1, { b: null }] },
      { a: [1, { b: undefined }], s: 'x' },
      { a: { 0: 1, 1: { b: null } }, s: 'x' },
      { a: [1, { b: null }, undefined], s: 'x' },
      { a: [1], s: 'x' },
      { a: [1, new Date(0)], s: 'x' },
      { a: [1, { b: null, toJSON: () => 1 }], s: 'x' },
      { a: [1, Object.assign(Object.create({ toJSON: () => 1 }), { b: null })], s: 'x' },
      { a: [1, { b: Number.NaN }], s: 'x' },
      { a: [2, { b: null }], s: 'x' },
      { a: [1, { c: null }], s: 'x' },
      { a: [1, { b: null }], s: 'y' },
      null,
      'x',
    ]
    for (const other of others) assert.equal(isEqual(other, original), false, JSON.stringify(other))
    const pairs: [unknown, unknown][] = [
      [[], {}],
      [{}, []],
      [{}, null],
      [null, {}],
      [{ length: 0 }, []],
      ['', {}],
      [{}, ''],
      [1, '1'],
      [undefined, null],
      [[1], [1, 2]],
      [
        [2, 1],
        [1, 2],
      ],
      [{ a: 1 }, { b: 1 }],
      [() => 1, {}],
    ]
    for (const [value, other] of pairs) assert.equal(isEqual(value, other), false, `${value} ${JSON.stringify(other)}`)
  })
})

describe('isSame()', () => {
  const before = { a: 1, b: { c: [1] }, cookie: {} }
  const same = (session: Record<string, unknown>, isOriginal = true, original: object = before): boolean =>
    isSame(session, Object.keys(session), original as never, isOriginal)

  test('compares values, objects only with the original, and the number of fields', () => {
    assert.equal(same({ a: 1, b: { c: [1] } }), true)
    assert.equal(same({ a: 1, b: { c: [1] } }, true, { a: 1, b: { c: [1] } }), true)
    assert.equal(same({ a: 1, b: { c: [1] } }, false), false, 'handlers may have changed the objects')
    assert.equal(same({ a: 1 }, false, { a: 1 }), true)
    for (const changed of [{ a: 2, b: { c: [1] } }, { a: 1, b: { c: [2] } }, { a: 1 }, { a: 1, b: 1 }, {}])
      assert.equal(same(changed), false, JSON.stringify(changed))
    assert.equal(same({ a: 1, b: { c: [1] }, d: undefined }), false)
    assert.equal(same({ a: 1, b: null }, true, { a: 1, b: null }), true)
  })
})

describe('copy()', () => {
  test('is deep, and leaves other values as they are', () => {
    const original = { a: [{ b: [1] }, null], c: { d: { e: 'x' } }, f: null, g: 'x' }
    const copied = copy(original)
    assert.deepEqual(copied, original)
    for (const [one, other] of [
      [copied, original],
      [copied.a, original.a],
      [copied.a[0], original.a[0]],
      [copied.a[0]?.b, original.a[0]?.b],
      [copied.c.d, original.c.d],
    ])
      assert.notEqual(one, other)
    assert.deepEqual([copy(1), copy('x'), copy(null), copy(undefined)], [1, 'x', null, undefined])
  })
})

describe('quote()', () => {
  test('writes a name as JSON that has no other quotation mark', () => {
    for (const name of [
      'a',
      '',
      'a b',
      'a"b',
      '"',
      '\\',
      '\\"',
      '\\\\"',
      'a\nb',
      '\\u0022',
      'ü',
      '\u2028',
      '{,"x":1}',
    ]) {
      const quoted = quote(name)
      assert.equal(JSON.parse(quoted), name)
      assert.match(quoted, /^"[^"\n]*"$/)
    }
    assert.equal(quote('a-b_1'), '"a-b_1"')
    assert.equal(serialize({ 'a"': 1, b: undefined, c: [] }), '\n,"a\\u0022":1\n,"c":[]\n}')
  })
})

describe('a cached record', () => {
  const text = '{"cookie":{"expires":null}\n,"a":[1,{"b":null}]\n,"c":"d"\n}'

  test('is parsed once, and its objects are copied for each request', (t) => {
    const cached = new CachedRecord('id', text)
    const parse = t.mock.method(JSON, 'parse')
    const { data, id, shared, baseline } = cached.load() ?? assert.fail()
    assert.deepEqual([id, shared, baseline], ['id', true, '\n,"a":[1,{"b":null}]\n,"c":"d"\n}'])
    assert.equal(cached.load()?.data, data)
    assert.equal(parse.mock.callCount(), 1)
    const opened = (): Session =>
      new Session({ touchAfterMs: 1000 } as SessionContext, {} as FastifyRequest, undefined, cached.load())
    const one = opened() as unknown as { a: unknown[] }
    one.a.push(2)
    assert.deepEqual(opened().a, [1, { b: null }])
  })

  test('of another format is absent, and is not parsed again', (t) => {
    const cached = new CachedRecord('id', '{"cookie":{\n}')
    const parse = t.mock.method(JSON, 'parse')
    assert.deepEqual([cached.load(), cached.load()], [undefined, undefined])
    assert.equal(parse.mock.callCount(), 1)
    assert.equal(new CachedRecord('id', 'garbage').load(), undefined)
  })
})
