import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  any,
  bool,
  either,
  fn,
  headerName,
  int,
  list,
  number,
  object,
  oneOf,
  path,
  poolName,
  record,
  resolveOptions,
  show,
  text,
  token,
} from '../../src/base/options.ts'

const all = (count: number, value: boolean): boolean[] => new Array(count).fill(value)

describe('a value of another type', () => {
  /** Accepted by some shape if it is not tested for its type first. */
  const numberLike = { valueOf: () => 1, toString: () => '/a', startsWith: () => true }

  it('is rejected, even if it could be converted', () => {
    for (const shape of [int(0, 2), number(0, 2), bool, text, token, poolName, headerName, path, fn(), list(text)])
      assert.deepEqual(
        [numberLike, null, undefined, Symbol('a'), new Date(1)].map((value) => shape.accepts(value)),
        all(5, false),
        shape.expects,
      )
    for (const shape of [token, poolName, headerName])
      assert.deepEqual(
        [['a'], 1, true].map((value) => shape.accepts(value)),
        all(3, false),
        shape.expects,
      )
    for (const shape of [number(-5, 5), int(-5, 5)])
      assert.deepEqual(
        ['1', true, [1], -6, 6].map((value) => shape.accepts(value)),
        all(5, false),
      )
  })

  it('is accepted by `any`; a function by `fn` only; a flag by `bool` only', () => {
    assert.deepEqual([any().accepts(undefined), any().accepts(1)], [true, true])
    assert.deepEqual([fn().accepts(() => 1), fn().accepts(class {}), fn().accepts('a')], [true, true, false])
    assert.deepEqual(
      [true, false, 0, 'true'].map((value) => bool.accepts(value)),
      [true, true, false, false],
    )
  })

  it('in a record or list is found at any place', () => {
    for (const given of [{ a: 'x', b: 1 }, { a: 1, b: 'x' }, 'a', 1, undefined])
      assert.equal(record(text).accepts(given), false)
    for (const given of [['x', 1], [1, 'x'], 'a', 1, undefined]) assert.equal(list(text).accepts(given), false)
    assert.equal(record(text).accepts(Object.assign(Object.create(null), { a: 'x' })), true)
    // A class is no plain object, whatever it has.
    assert.equal(record(text).accepts(new (class A {})()), false)
  })

  it('pool names start with a letter and have up to 32 characters', () => {
    const names = ['a', 'a-1', `a${'b'.repeat(31)}`, `a${'b'.repeat(32)}`, '1a', '-a', 'A', 'a_b', '']
    assert.deepEqual(
      names.map((name) => poolName.accepts(name)),
      [...all(3, true), ...all(6, false)],
    )
  })
})

describe('options', () => {
  const shapes = {
    size: int(1, 9, 'bytes').default(3),
    inner: object({ a: int(1, 9).default(1), deep: object({ b: text.default('x') }).default({}) }),
    flag: bool,
  }

  it('take their defaults without a layer, and are frozen at each depth', () => {
    const resolved = resolveOptions('plugin', { ...shapes, inner: shapes.inner.default({}) })
    assert.deepEqual(resolved, { size: 3, inner: { a: 1, deep: { b: 'x' } } })
    assert.ok([resolved, resolved.inner, resolved.inner.deep].every((level) => Object.isFrozen(level)))
    assert.deepEqual(resolveOptions('plugin', shapes, undefined, {}), { size: 3 })
  })

  it('of a later layer override those before, except undefined ones', () => {
    const given = [{ size: 4, flag: true }, { size: 5, flag: undefined }, undefined] as const
    assert.deepEqual(resolveOptions('plugin', shapes, ...given), { size: 5, flag: true })
    assert.deepEqual(given[0], { size: 4, flag: true })
  })

  it('that are unknown or invalid are named with the accepted ones', () => {
    const unknown = { code: 'FLEET_ERR_OPTION_UNKNOWN' }
    const invalid = { code: 'FLEET_ERR_OPTION_INVALID' }
    const cases: [unknown, object, string][] = [
      [{ sise: 1 }, unknown, 'unknown option: `plugin` has no option `sise`; it has `size`, `inner`, `flag`'],
      [{ toString: 1 }, unknown, 'unknown option: `plugin` has no option `toString`; it has `size`, `inner`, `flag`'],
      [{ inner: { c: 1 } }, unknown, 'unknown option: `plugin.inner` has no option `c`; it has `a`, `deep`'],
      [{ size: 0 }, invalid, 'invalid option: `plugin.size` must be a whole number from 1 to 9 (bytes), but it is 0'],
      [
        { inner: { deep: { b: '' } } },
        invalid,
        'invalid option: `plugin.inner.deep.b` must be a non-empty string, but it is ""',
      ],
      [{ inner: [] }, invalid, 'invalid option: `plugin.inner` must be an object, but it is a list of 0'],
      [{ flag: null }, invalid, 'invalid option: `plugin.flag` must be true or false, but it is null'],
      ['a', invalid, 'invalid option: `plugin` must be an object, but it is "a"'],
      [null, invalid, 'invalid option: `plugin` must be an object, but it is null'],
    ]
    for (const [given, code, message] of cases)
      assert.throws(() => resolveOptions('plugin', shapes, given as object), { ...code, message })
  })

  it('that are an object or false keep the last of both, with the members of the object', () => {
    const either1 = { inner: either(object({ a: int(1, 9).default(1) }), oneOf(false)) }
    assert.deepEqual(resolveOptions('plugin', either1, { inner: { a: 2 } }, { inner: false }), { inner: false })
    assert.deepEqual(resolveOptions('plugin', either1, { inner: {} }), { inner: { a: 1 } })
    assert.throws(() => resolveOptions('plugin', either1, { inner: { b: 1 } }), { code: 'FLEET_ERR_OPTION_UNKNOWN' })
    assert.throws(() => resolveOptions('plugin', either1, { inner: true }), { message: /an object, or one of false/ })
  })

  it('do not read the environment if none of them has a variable', () => {
    process.env.FLEET_WEIGHT = 'heavy'
    try {
      assert.deepEqual(resolveOptions('plugin', shapes), { size: 3 })
      const withVariable = { weight: int(0, 1000).env('FLEET_WEIGHT') }
      assert.throws(() => resolveOptions('plugin', withVariable), { code: 'FLEET_ERR_ENV_INVALID' })
    } finally {
      delete process.env.FLEET_WEIGHT
    }
  })
})

it('a message shows a value, but no long string and no content of an object', () => {
  class Secret {
    readonly constructor_ = 1
  }
  const shown: [unknown, string][] = [
    ['a'.repeat(20), JSON.stringify('a'.repeat(20))],
    ['a'.repeat(21), 'a string of 21 characters'],
    ['', '""'],
    [() => 1, 'a function'],
    [[1, 2], 'a list of 2'],
    [new Secret(), 'an object (Secret)'],
    [{ constructor: { name: 'Fake' } }, 'an object (Object)'],
    [Object.create(null), 'an object (no prototype)'],
    [Object.create({ constructor: undefined }), 'an object (unknown class)'],
    [Object.create({ constructor: { name: 1 } }), 'an object (unknown class)'],
    [null, 'null'],
    [undefined, 'undefined'],
    [1.5, '1.5'],
    [3n, '3'],
    [Symbol('a'), 'Symbol(a)'],
  ]
  for (const [value, text] of shown) assert.equal(show(value), text)
})
