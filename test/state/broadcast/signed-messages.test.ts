import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SignedMessages } from '../../../src/state/broadcast/signed-messages.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'

const messages = (secrets: string[] = ['s'.repeat(32)], name = 'shop', maxBytes = 1000): SignedMessages =>
  new SignedMessages(new FleetKeys(secrets, 'broadcast', name), maxBytes)

describe('signed messages', () => {
  test('opens a message unchanged, once', () => {
    const [sender, receiver] = [messages(), messages()]
    for (const json of ['null', '1', '"two\\n"', '{"a":[" "]}', '']) {
      const text = sender.seal('chat', json)
      assert.deepEqual(receiver.open('chat', text), { json })
      assert.deepEqual(receiver.open('chat', text), { rejected: 'replayed' })
    }
  })

  test('opens messages that overtook each other, once each', () => {
    const [sender, receiver] = [messages(), messages()]
    const first = sender.seal('chat', 'first')
    assert.deepEqual(receiver.open('chat', first), { json: 'first' })
    const texts = Array.from({ length: 1000 }, (_, i) => sender.seal('chat', String(i)))
    const order = texts.map((text, i) => ({ text, at: (i * 7919) % 1000 })).toSorted((a, b) => a.at - b.at)
    const opened = order.map(({ text }) => receiver.open('chat', text))
    assert.ok(opened.every((one) => 'json' in one))
    for (const text of [first, ...texts]) assert.deepEqual(receiver.open('chat', text), { rejected: 'replayed' })
    // Long gaps, and numbers far behind.
    for (let i = 0; i < 5000; i++) sender.seal('chat', '')
    assert.ok('json' in receiver.open('chat', sender.seal('chat', 'late')))
    assert.deepEqual(receiver.open('chat', first), { rejected: 'replayed' })
  })

  test('rejects messages from before the first one received', () => {
    const [sender, receiver] = [messages(), messages()]
    const before = sender.seal('chat', '1')
    assert.deepEqual(receiver.open('chat', sender.seal('chat', '2')), { json: '2' })
    assert.deepEqual(receiver.open('chat', before), { rejected: 'replayed' })
  })

  test('rejects unsigned, foreign and altered messages, and those for another channel or fleet', () => {
    const sender = messages()
    const receiver = messages()
    const text = sender.seal('chat', '{"n":1}')
    for (const bad of ['', 'null', '{"n":1}', '1 ', text.slice(2), `2${text.slice(1)}`, `1 ${'é'.repeat(60)}`])
      assert.deepEqual(receiver.open('chat', bad), { rejected: 'unsigned' })
    const [, , , number, time] = text.split(' ')
    const changed = [
      text.replace('"n":1', '"n":2'),
      text.replace(` ${number} `, ` ${Number(number) + 1} `),
      text.replace(` ${time} `, ` ${Number(time) + 1} `),
      `${text} `,
      messages(['x'.repeat(32)]).seal('chat', '{}'),
      messages(undefined, 'another').seal('chat', '{}'),
    ]
    for (const bad of changed) assert.deepEqual(receiver.open('chat', bad), { rejected: 'signature' })
    assert.deepEqual(receiver.open('other', text), { rejected: 'signature' })
    assert.deepEqual(receiver.open('chat', text), { json: '{"n":1}' })
  })

  test('rejects a message that is older than a minute, or too large', (t) => {
    const [sender, receiver] = [messages(), messages()]
    const now = Date.now()
    const clock = t.mock.method(Date, 'now', () => now - 61_000)
    const old = sender.seal('chat', '1')
    clock.mock.mockImplementation(() => now + 61_000)
    const ahead = sender.seal('chat', '1')
    clock.mock.restore()
    for (const text of [old, ahead]) assert.deepEqual(receiver.open('chat', text), { rejected: 'stale' })
    assert.deepEqual(receiver.open('chat', sender.seal('chat', 'x'.repeat(2000))), { rejected: 'too_large' })
  })

  test('bounds the senders in memory', () => {
    const receiver = messages()
    const senders = Array.from({ length: 5000 }, () => messages())
    for (const sender of senders) assert.ok('json' in receiver.open('chat', sender.seal('chat', '1')))
    const last = senders.at(-1) as SignedMessages
    assert.ok('json' in receiver.open('chat', last.seal('chat', '2')))
  })

  test('uses a changed secret at once', () => {
    const secrets = ['a'.repeat(32)]
    const keys = new FleetKeys(secrets, 'broadcast', 'shop')
    const [before, generation] = [keys.sign('x'), keys.generation]
    secrets.splice(0, 1, 'b'.repeat(32))
    assert.notEqual(keys.generation, generation)
    assert.equal(keys.verify(before, 'x'), false)
    assert.equal(keys.verify(keys.sign('x'), 'x'), true)
    assert.equal(keys.verify(keys.sign('ab', 'c'), 'a', 'bc'), false)
    secrets.length = 0
    assert.equal(keys.verify(keys.sign('x'), 'x'), false)
  })
})
