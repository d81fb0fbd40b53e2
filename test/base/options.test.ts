import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { bool, either, int, list, object, oneOf, resolveOptions, text } from '../../src/base/options.ts'

const shapes = {
  port: int(1, 65535),
  name: text,
  tags: list(text),
  tls: either(oneOf(false), object({ strict: bool, ca: text })),
}

describe('options', () => {
  it('uses the strongest layer that sets a value', () => {
    const options = resolveOptions(
      'plugin',
      shapes,
      { port: 1, name: 'default' },
      { port: 2, name: undefined },
      { port: 3 },
    )
    assert.deepEqual(options, { port: 3, name: 'default' })
  })

  it('merges objects member by member without modifying them', () => {
    const mine = { tls: { ca: 'mine' } }
    const options = resolveOptions('plugin', shapes, { tls: { strict: true, ca: 'default' } }, mine)
    assert.deepEqual(options.tls, { strict: true, ca: 'mine' })
    assert.deepEqual(mine, { tls: { ca: 'mine' } })
    assert.ok(Object.isFrozen(options) && Object.isFrozen(options.tls))
  })

  it('accepts false in place of an object', () => {
    assert.deepEqual(resolveOptions('plugin', shapes, { tls: { strict: true } }, { tls: false }), { tls: false })
  })

  for (const [what, given, pattern] of [
    ['a wrong type', { port: '80' }, /`plugin\.port` must be a whole number from 1 to 65535, but it is "80"/],
    ['a number out of range', { port: 0 }, /`plugin\.port`.*but it is 0/],
    [
      'an object with a member `constructor`',
      { port: { constructor: { name: {} } } },
      /but it is an object \(Object\)/,
    ],
    [
      'a wrong entry of a list',
      { tags: ['a', ''] },
      /`plugin\.tags` must be a list in which each entry is a non-empty string/,
    ],
    ['a wrong member', { tls: { strict: 1 } }, /`plugin\.tls\.strict` must be true or false/],
    ['options that are none', 7, /`plugin` must be an object/],
  ] as const) {
    it(`rejects ${what}`, () => {
      assert.throws(() => resolveOptions('plugin', shapes, given as object), {
        code: 'FLEET_ERR_OPTION_INVALID',
        message: pattern,
      })
    })
  }

  it('rejects an unknown name and lists the known ones', () => {
    assert.throws(() => resolveOptions('plugin', shapes, { prot: 1 }), {
      code: 'FLEET_ERR_OPTION_UNKNOWN',
      message: /`plugin` has no option `prot`; it has `port`, `name`/,
    })
  })

  for (const name of ['constructor', '__proto__', 'toString'])
    it(`rejects ${name}, which every object inherits, as an unknown name`, () => {
      assert.throws(() => resolveOptions('plugin', shapes, JSON.parse(`{${JSON.stringify(name)}:1}`)), {
        code: 'FLEET_ERR_OPTION_UNKNOWN',
      })
    })

  it('does not show a long value, which may be a secret', () => {
    const secret = 'x'.repeat(40)
    assert.throws(
      () => resolveOptions('plugin', shapes, { port: secret }),
      (error: Error) => !error.message.includes(secret),
    )
  })
})
