import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { eventOf, fieldsOf, isEventId, maxName, maxText, type NewEvent } from '../../../src/state/history/events.ts'
import { unpacked } from '../../../src/state/history/store.ts'
import { counts } from './contract.ts'

const id = '1000-3'
const entry = { host: 'h', port: 1, zone: 'z', state: 'serving', startedAt: 's', lastSeen: 5 }
const event: NewEvent = { kind: 'lost', text: 'gone', instance: 'a', version: '1', pool: 'p', at: 900, entry }

describe('a stored event', () => {
  test('is read as it was written', () => {
    assert.deepEqual({ ...eventOf(id, fieldsOf(event)) }, { ...event, id })
    assert.deepEqual(
      { ...eventOf(id, fieldsOf({ kind: 'ready', text: '' })) },
      { id, at: 1_000, kind: 'ready', text: '' },
    )
  })

  test('is cut to its bounds when it is written', () => {
    const long = 'x'.repeat(1_000)
    const { text, instance, at } = eventOf(id, fieldsOf({ ...event, text: long, instance: long, at: 899.6 })) ?? {}
    assert.deepEqual([text?.length, instance?.length, at], [500, 128, 900])
  })

  const read = (changed: Record<string, string | undefined>, by = id) => {
    const fields = new Map(Object.entries({ kind: 'lost', text: 'gone', ...changed }))
    return eventOf(
      by,
      [...fields].flatMap(([name, value]) => (value === undefined ? [] : [name, value])),
    )
  }

  test('is ignored without a valid id, kind and text', () => {
    assert.ok(read({}))
    for (const bad of ['', '1', '1-', '-1', 'x-1', '1-x', ' 1-1', '1-1 ', '1234567890123456-1', '1-1234567890123456']) {
      assert.equal(isEventId(bad), false, bad)
      assert.equal(read({}, bad), undefined, bad)
    }
    assert.ok(isEventId('123456789012345-123456789012345'))
    for (const kind of [undefined, '', 'x', 'Lost', '-lost', 'lost1', 'lost ', 'x'.repeat(33)])
      assert.equal(read({ kind }), undefined, kind)
    assert.equal(read({ kind: 'later-kind' })?.kind, 'later-kind', 'of another version')
    assert.ok(read({ kind: 'x'.repeat(32) }))
    assert.equal(read({ text: undefined }), undefined)
    assert.equal(read({ text: 'x'.repeat(maxText + 1) }), undefined)
    assert.equal(read({ text: 'x'.repeat(maxText) })?.text.length, maxText)
  })

  test('has no name that is too long', () => {
    for (const name of ['instance', 'version', 'pool'] as const) {
      assert.equal(read({ [name]: 'x'.repeat(maxName) })?.[name]?.length, maxName)
      assert.equal(read({ [name]: 'x'.repeat(maxName + 1) })?.[name], undefined)
    }
  })

  test('did not happen after it was written', () => {
    for (const [at, expected] of [
      ['1', 1],
      ['1000', 1_000],
      ['1001', 1_000],
      ['0', 1_000],
      ['-1', 1_000],
      ['x', 1_000],
    ] as const)
      assert.equal(read({ at })?.at, expected, at)
  })

  test('has a last entry only if that is complete', () => {
    const entryIn = (changed: object): unknown => read({ entry: JSON.stringify({ ...entry, ...changed }) })?.entry
    assert.deepEqual(entryIn({ other: 1 }), entry)
    assert.deepEqual(entryIn({ port: null, zone: null }), { ...entry, port: null, zone: null })
    for (const bad of [
      ...[{ host: 1 }, { host: undefined }, { port: 1.5 }, { port: '1' }, { port: undefined }, { zone: 1 }],
      ...[{ zone: undefined }, { state: null }, { startedAt: 1 }, { lastSeen: '5' }, { lastSeen: null }],
    ])
      assert.equal(entryIn(bad), undefined, JSON.stringify(bad))
    for (const json of ['', '{', 'null', '[]', '1']) assert.equal(read({ entry: json })?.entry, undefined, json)
    const padding = 2_048 - JSON.stringify({ ...entry, state: '' }).length
    assert.ok(entryIn({ state: 'x'.repeat(padding) }))
    assert.equal(entryIn({ state: 'x'.repeat(padding + 1) }), undefined)
  })

  test('has at most 16 fields', () => {
    const given = (others: number) => [
      ...Array.from({ length: others }, (_, i) => [`x${i}`, '']).flat(),
      ...fieldsOf(event),
    ]
    assert.ok(eventOf(id, given(14)))
    assert.equal(eventOf(id, given(15)), undefined, 'its text is the 17th')
    assert.equal(eventOf(id, ['kind', 'lost', 'text', 'gone', 'pool'])?.pool, undefined)
  })
})

test('counts that another program has written are skipped unless they are positive whole numbers', () => {
  assert.deepEqual(unpacked('r:1 s:2 x:y c:-1 :5 d e:1.5 f:0 g:1e400 r:3 h:1:2'), counts({ r: 4, s: 2 }))
  const many = (count: number) => unpacked(Array.from({ length: count }, (_, i) => `n${i}:1`).join(' ')).size
  assert.deepEqual([many(512), many(513)], [512, 512])
})
