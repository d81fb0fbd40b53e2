import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BoundedMap } from '../../src/base/bounded-map.ts'
import { readEnv } from '../../src/base/env.ts'
import {
  either,
  headerName,
  int,
  list,
  number,
  object,
  oneOf,
  path,
  record,
  resolveOptions,
  type Shape,
  text,
  token,
  trustProxy,
} from '../../src/base/options.ts'

describe('an option', () => {
  const accepted = (shape: Shape, values: readonly unknown[]) => values.map((value) => shape.accepts(value))

  it('that is a whole number includes both bounds and nothing beyond them', () => {
    assert.deepEqual(accepted(int(2, 5), [1, 2, 3, 5, 6]), [false, true, true, true, false])
    assert.deepEqual(accepted(int(0, 5), [-1, -0, 0.5, Number.NaN, '3', 3n, null]), [
      false,
      true,
      ...new Array(5).fill(false),
    ])
    assert.equal(int(0, Number.MAX_SAFE_INTEGER).accepts(Number.POSITIVE_INFINITY), false)
    assert.equal(int(2, 5).expects, 'a whole number from 2 to 5')
    assert.equal(int(2, 5, 'ms').expects, 'a whole number from 2 to 5 (ms)')
  })

  it('that is a number includes both bounds and fractions', () => {
    assert.deepEqual(accepted(number(0, 1), [0, 0.5, 1, 1.001, -0.001]), [true, true, true, false, false])
    assert.deepEqual(accepted(number(0, 1), [Number.NaN, '0.5', true]), [false, false, false])
  })

  it('that is a name has a length and a set of characters', () => {
    assert.deepEqual(accepted(token, ['a', 'x'.repeat(128), 'x'.repeat(129), '', 'a b', 'a\n']), [
      true,
      true,
      false,
      false,
      false,
      false,
    ])
    assert.deepEqual(accepted(headerName, ['x-a', 'x'.repeat(256), 'x'.repeat(257), '', 'a:b', 'a b']), [
      true,
      true,
      false,
      false,
      false,
      false,
    ])
    assert.deepEqual(accepted(text, ['a', '', 1, ['a']]), [true, false, false, false])
    assert.deepEqual(accepted(path, ['/', '/a', 'a', '', 'a/']), [true, true, false, false, false])
  })

  it('that is a list or a record is checked entry by entry', () => {
    assert.deepEqual(accepted(list(int(1, 2)), [[], [1, 2], [1, 3], [3, 1], 1, { 0: 1 }]), [
      true,
      true,
      false,
      false,
      false,
      false,
    ])
    assert.deepEqual(accepted(record(int(1, 2)), [{}, { a: 1 }, { a: 1, b: 3 }, [1], null, new Map()]), [
      true,
      true,
      false,
      false,
      false,
      false,
    ])
    assert.deepEqual(accepted(oneOf<string | number>('a', 1), ['a', 1, '1', 'b', undefined]), [
      true,
      true,
      false,
      false,
      false,
    ])
    assert.deepEqual(accepted(either(oneOf(false), int(1, 2)), [false, 1, 2, 3, true]), [
      true,
      true,
      true,
      false,
      false,
    ])
  })

  it('that trusts proxies has up to 32 hops', () => {
    assert.deepEqual(accepted(trustProxy, [true, false, 0, 32, 33, -1, 1.5, [], ['loopback'], [''], 'loopback']), [
      true,
      true,
      true,
      true,
      false,
      false,
      false,
      true,
      true,
      false,
      false,
    ])
  })

  it('is set by the code, else by the environment, else by its default', () => {
    const shapes = { name: text.default('default').env('FLEET_NAME'), size: int(1, 9).default(3) }
    const before = process.env.FLEET_NAME
    try {
      process.env.FLEET_NAME = 'env'
      assert.deepEqual(resolveOptions('plugin', shapes), { name: 'env', size: 3 })
      assert.deepEqual(resolveOptions('plugin', shapes, { name: 'code', size: 4 }), { name: 'code', size: 4 })
      delete process.env.FLEET_NAME
      assert.deepEqual(resolveOptions('plugin', shapes, { name: undefined }), { name: 'default', size: 3 })
    } finally {
      if (before !== undefined) process.env.FLEET_NAME = before
    }
  })

  it('that is an object takes the defaults of its members, in the first layer and in later ones', () => {
    const shapes = { inner: either(oneOf(false), object({ a: int(1, 9).default(1), b: int(1, 9).default(2) })) }
    assert.deepEqual(resolveOptions('plugin', shapes, { inner: {} }), { inner: { a: 1, b: 2 } })
    assert.deepEqual(resolveOptions('plugin', shapes, { inner: false }, { inner: { b: 5 } }), { inner: { a: 1, b: 5 } })
    assert.deepEqual(resolveOptions('plugin', shapes, { inner: { b: 5 } }, { inner: { a: 4 } }).inner, { a: 4, b: 5 })
  })
})

describe('an environment variable', () => {
  const invalid = { code: 'FLEET_ERR_ENV_INVALID' }
  for (const [name, min, max] of [
    ['PORT', 0, 65_535],
    ['FLEET_ADMIN_PORT', 0, 65_535],
    ['FLEET_AGENT_PORT', 0, 65_535],
    ['FLEET_PORT', 0, 65_535],
    ['FLEET_BASE_PORT', 1, 65_535],
    ['FLEET_WEIGHT', 0, 1000],
    ['REDIS_PORT', 1, 65_535],
    ['REDIS_COMMAND_TIMEOUT', 1, 60_000],
    ['SESSION_TTL', 1, 31_536_000],
    ['SHUTDOWN_TIMEOUT', 1, 3_600_000],
    ['DRAIN_DELAY', 0, 600_000],
    ['FLEET_WORKER', 1, 1024],
    ['FLEET_WORKERS', 1, 1024],
    ['FLEET_READY_TIMEOUT', 1, 7_200_000],
  ] as const)
    it(`${name} is a whole number from ${min} to ${max}`, () => {
      for (const value of [min, max]) assert.equal(readEnv({ [name]: ` ${value} ` })[name], value)
      for (const value of [min - 1, max + 1, `${min}.5`, '1e2', '0x10', `${max}s`])
        assert.throws(() => readEnv({ [name]: String(value) }), invalid, String(value))
      assert.equal(readEnv({ [name]: '  ' })[name], undefined)
    })

  it('with a flag is on or off, in any case', () => {
    for (const value of ['1', 'true', 'on', 'TRUE', 'On'])
      assert.equal(readEnv({ REDIS_TLS: value }).REDIS_TLS, true, value)
    for (const value of ['0', 'false', 'off', 'OFF'])
      assert.equal(readEnv({ REDIS_TLS: value }).REDIS_TLS, false, value)
    for (const value of ['yes', '2', 'auto', 'tru']) assert.throws(() => readEnv({ REDIS_TLS: value }), invalid, value)
    assert.equal(readEnv({ SESSION_COOKIE_SECURE: 'auto' }).SESSION_COOKIE_SECURE, 'auto')
    assert.equal(readEnv({ SESSION_COOKIE_SECURE: 'off' }).SESSION_COOKIE_SECURE, false)
  })

  it('with a list has no empty entry', () => {
    assert.deepEqual(readEnv({ SESSION_SECRET: 'a, b' }).SESSION_SECRET, ['a', 'b'])
    for (const value of ['a,', ',a', 'a,,b']) assert.throws(() => readEnv({ SESSION_SECRET: value }), invalid, value)
  })

  it('TRUST_PROXY is a flag, a number of hops up to 32, or networks', () => {
    const trust = (value: string) => readEnv({ TRUST_PROXY: value }).TRUST_PROXY
    assert.deepEqual([trust('true'), trust('FALSE'), trust('0'), trust('1'), trust('32')], [true, false, 0, 1, 32])
    assert.deepEqual(trust('10.0.0.0/8, loopback'), ['10.0.0.0/8', 'loopback'])
    for (const value of ['33', '1.5', '-1', 'on', 'proxy.example', '10.0.0.0/33', '10.0.0.1,proxy.example'])
      assert.throws(() => trust(value), invalid, value)
  })

  it('NODE_ENV is production only if it says exactly that', () => {
    const values = ['production', 'Production', 'prod', '', 'test']
    assert.deepEqual(
      values.map((NODE_ENV) => readEnv({ NODE_ENV }).production),
      [true, false, false, false, false],
    )
  })

  it('`instances` counts in a process of pm2 only, from two', () => {
    const workers = (variables: Record<string, string>) => readEnv(variables).FLEET_WORKERS
    assert.equal(workers({ pm_id: '0', instances: '2' }), 2)
    assert.equal(workers({ pm_id: '0', instances: '1' }), undefined)
    assert.equal(workers({ instances: '2' }), undefined)
    assert.equal(workers({ pm_id: '0', instances: '2', FLEET_WORKERS: '4' }), 4)
  })
})

it('a BoundedMap holds less than its capacity, and none with 0', () => {
  const map = new BoundedMap<number>(10)
  for (let i = 0; i < 100; i++) {
    map.set(`${i}`, i)
    assert.ok(map.size < 10)
    assert.equal(map.get(`${i}`), i)
  }
  for (const key of ['99', '98', '97', '96', '95']) assert.equal(map.get(key), Number(key))
  map.delete('99')
  assert.equal(map.get('99'), undefined)
  const none = new BoundedMap<number>(0)
  none.set('a', 1)
  assert.deepEqual([none.size, none.get('a')], [0, undefined])
})
