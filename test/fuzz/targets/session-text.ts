import assert from 'node:assert/strict'
import {
  applyChanges,
  dataText,
  difference,
  joinText,
  parseMembers,
  quote,
  serialize,
} from '../../../src/state/session/record.ts'
import { Choices } from '../engine/choices.ts'
import type { Target } from '../engine/target.ts'

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

/** An object with members of any name, `__proto__` included. */
function object(choices: Choices): Record<string, unknown> {
  const entries = Array.from({ length: choices.below(5) }, () => [choices.name(), choices.value(true)] as const)
  return Object.fromEntries(entries.filter(([name]) => name !== 'cookie'))
}

/** A session as stored in Redis: a written session is read back, and two concurrent changes merge member by member. */
export default {
  seeds: [
    '',
    '\x02\x01\x02a"\x04\x03\x00',
    '\x04\x00\x05\n,"a"\x01\x02\x01\x00\x03\x04',
    'hello world, this is a session',
    '\xff'.repeat(40),
  ],
  dictionary: ['"', '\\', '\n', ',"a":1', '{"cookie":{', '\\u0022', '\u00e9'],
  run(input) {
    const text = input.toString('latin1')
    const rest = dataText(text)
    if (rest !== undefined) parseMembers(rest)
    // No name contains a backslash: once Node 24.21 has parsed `{"a":1,"b\\\\":1}`, it reads the second name of
    // `{"a":1,"b\\n":1}` as the former.
    const choices = new Choices(Buffer.from(text.replaceAll('\\', '/'), 'latin1'))
    const [before, after] = [object(choices), object(choices)]
    const cookie = '{"expires":1}'
    const [old, current] = [serialize(before), serialize(after)]
    for (const [written, data] of [
      [old, before],
      [current, after],
    ] as const) {
      const whole = joinText(cookie, written)
      assert.deepEqual(JSON.parse(whole), plain({ cookie: { expires: 1 }, ...data }))
      assert.equal(dataText(whole), written)
      const names = Object.keys(plain(data) as object).map(quote)
      assert.deepEqual([...parseMembers(written).keys()].sort(), names.sort())
    }
    const merged: unknown = JSON.parse(applyChanges(joinText(cookie, old), difference(old, current), 1_000_000))
    assert.deepEqual(merged, plain({ cookie: { expires: 1 }, ...after }))
    return `${rest !== undefined} ${Object.keys(before).length} ${Object.keys(after).length}`
  },
} satisfies Target
