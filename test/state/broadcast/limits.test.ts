import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { SignedMessages } from '../../../src/state/broadcast/signed-messages.ts'
import { Subscriptions, type Transport } from '../../../src/state/broadcast/subscriptions.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'

const start = Date.parse('2026-01-01T00:00:00Z')
const keys = new FleetKeys(['s'.repeat(32)], 'broadcast', 'shop')
const messages = (maxBytes = 1_000): SignedMessages => new SignedMessages(keys, maxBytes)

function clock(t: TestContext): (ms: number) => void {
  let now = start
  t.mock.method(Date, 'now', () => now)
  return (ms) => {
    now = start + ms
  }
}
const outcome = (opened: ReturnType<SignedMessages['open']>): string => ('json' in opened ? 'opened' : opened.rejected)

describe('a signed message', () => {
  test('is valid for a minute, by clocks that differ by at most as much', (t) => {
    const at = clock(t)
    for (const [ms, expected] of [
      [60_000, 'opened'],
      [60_001, 'stale'],
      [-60_000, 'opened'],
      [-60_001, 'stale'],
    ] as const) {
      at(0)
      const text = messages().seal('chat', '1')
      at(ms)
      assert.equal(outcome(messages().open('chat', text)), expected, `${ms} ms`)
    }
  })

  test('may have 128 characters more than the largest message', () => {
    const sender = messages()
    const header = sender.seal('chat', '').length
    const sealed = (length: number): string => sender.seal('chat', 'x'.repeat(length - header))
    assert.equal(outcome(messages(1_000).open('chat', sealed(1_128))), 'opened')
    assert.equal(outcome(messages(1_000).open('chat', sealed(1_129))), 'too_large')
    assert.ok(header < 128, 'a message of the largest size fits')
  })

  test('is opened if it was overtaken by up to 1,023 others, and counts as replayed after more', () => {
    for (const [overtakenBy, expected] of [
      [3, 'opened'],
      [1_023, 'opened'],
      [1_024, 'replayed'],
    ] as const) {
      const [sender, receiver] = [messages(), messages()]
      receiver.open('chat', sender.seal('chat', 'first'))
      const late = sender.seal('chat', 'late')
      const texts = Array.from({ length: overtakenBy }, () => sender.seal('chat', ''))
      assert.equal(outcome(receiver.open('chat', texts.at(-1) as string)), 'opened')
      assert.equal(outcome(receiver.open('chat', late)), expected, String(overtakenBy))
      for (const text of texts.slice(0, -1)) assert.equal(outcome(receiver.open('chat', text)), 'opened')
      for (const text of [late, ...texts]) assert.equal(outcome(receiver.open('chat', text)), 'replayed')
    }
  })

  test('counts per sender', () => {
    const receiver = messages()
    for (const sender of [messages(), messages()])
      for (let i = 0; i < 2; i++) assert.equal(outcome(receiver.open('chat', sender.seal('chat', ''))), 'opened')
  })

  test('is still known as replayed while it is fresh, however many senders there are', (t) => {
    const at = clock(t)
    const receiver = messages()
    const [old, recent] = [messages(), messages()]
    at(-1)
    const forgotten = old.seal('chat', '1')
    at(0)
    const kept = recent.seal('chat', '1')
    for (const [ms, text] of [
      [-1, forgotten],
      [0, kept],
    ] as const) {
      at(ms)
      assert.equal(outcome(receiver.open('chat', text)), 'opened')
    }
    at(120_000)
    for (let i = 0; i < 4_095; i++) receiver.open('chat', messages().seal('chat', '1'))
    // Two senders more than fit: the first was forgotten because its messages are stale, the second is just remembered.
    at(60_000)
    assert.equal(outcome(receiver.open('chat', kept)), 'replayed')
    at(59_999)
    assert.equal(outcome(receiver.open('chat', forgotten)), 'opened')
  })

  test('is still known as replayed after any number of forged ones', () => {
    const receiver = messages()
    const text = messages().seal('chat', '1')
    assert.equal(outcome(receiver.open('chat', text)), 'opened')
    const others = new FleetKeys(['x'.repeat(32)], 'broadcast', 'shop')
    for (let i = 0; i < 4_096; i++)
      assert.equal(outcome(receiver.open('chat', new SignedMessages(others, 1_000).seal('chat', ''))), 'signature')
    assert.equal(outcome(receiver.open('chat', text)), 'replayed')
  })
})

test('a sender is remembered from its last message on', (t) => {
  const at = clock(t)
  const receiver = messages()
  const [first, old] = [messages(), messages()]
  at(50_000)
  receiver.open('chat', first.seal('chat', '1'))
  at(0)
  receiver.open('chat', old.seal('chat', '1'))
  at(100_000)
  const last = old.seal('chat', '2')
  assert.equal(outcome(receiver.open('chat', last)), 'opened')
  at(150_000)
  for (let i = 0; i < 4_095; i++) receiver.open('chat', messages().seal('chat', '1'))
  assert.equal(outcome(receiver.open('chat', last)), 'replayed')
})

describe('the subscribers of an instance', () => {
  /** Subscriptions over a transport that only records. */
  function open() {
    const errors: unknown[] = []
    const calls: string[] = []
    const subscriptions = new Subscriptions({ error: (details: object) => errors.push(details) } as never)
    const transport: Transport = {
      publish: async () => {},
      join: ({ name }) => calls.push(`join ${name}`),
      leave: ({ name }) => calls.push(`leave ${name}`),
      close: () => {},
    }
    const subscribe = (name: string, events: { onLost?: () => void; onReconnect?: () => void } = {}) => {
      const received: unknown[] = []
      const end = subscriptions.subscribe(transport, name, {
        ...events,
        listener: (message: unknown) => received.push(message),
      })
      return { received, end }
    }
    return { subscriptions, calls, errors, subscribe }
  }

  test('share one subscription of a channel, which ends with the last of them, once', () => {
    const { calls, subscribe, subscriptions } = open()
    const [one, two] = [subscribe('a'), subscribe('a')]
    assert.deepEqual(calls, ['join a'])
    one.end()
    one.end()
    assert.deepEqual(calls, ['join a'])
    subscriptions.deliver('a', '1')
    assert.deepEqual([one.received, two.received], [[], [1]])
    two.end()
    two.end()
    assert.deepEqual([calls, subscriptions.channels.size], [['join a', 'leave a'], 0])
    subscribe('a')
    assert.deepEqual(calls, ['join a', 'leave a', 'join a'])
  })

  test('hear of each loss and return once', () => {
    const { subscribe, subscriptions } = open()
    const heard: string[] = []
    subscribe('a', { onLost: () => heard.push('lost'), onReconnect: () => heard.push('back') })
    const channel = subscriptions.channels.get('a')
    assert.ok(channel)
    for (const live of [false, true, true, false, false, true]) subscriptions.setLive(channel, live)
    assert.deepEqual(heard, ['back', 'lost', 'back'])
  })

  test('who come later hear that the channel is active, asynchronously, and only if it is', async () => {
    const { subscribe, subscriptions } = open()
    subscribe('a')
    const heard: string[] = []
    subscribe('a', { onReconnect: () => heard.push('too early') })
    await Promise.resolve()
    assert.equal(heard.length, 0)
    const channel = subscriptions.channels.get('a')
    assert.ok(channel)
    subscriptions.setLive(channel, true)
    heard.length = 0
    subscribe('a', { onReconnect: () => heard.push('active') })
    assert.equal(heard.length, 0)
    await Promise.resolve()
    assert.deepEqual(heard, ['active'])
  })

  test('get the same message even if another one fails, or changes it', () => {
    const { subscriptions, errors, subscribe } = open()
    const fails = (): never => {
      throw new Error('mine')
    }
    subscriptions.subscribe({ join() {}, leave() {} } as never, 'a', { listener: fails })
    subscriptions.subscribe({ join() {}, leave() {} } as never, 'a', {
      listener: (message: { n: number }) => {
        message.n = 2
      },
    })
    const { received } = subscribe('a')
    subscriptions.deliver('a', '{"n":1}')
    subscriptions.deliver('b', '{"n":1}')
    assert.deepEqual(received, [{ n: 1 }])
    assert.equal(errors.length, 1)
    subscriptions.deliver('a', 'no JSON')
    assert.deepEqual([received.length, errors.length], [1, 4])
  })
})
