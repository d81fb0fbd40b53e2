import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { limitCluster, limitNode } from '../../../src/state/redis/deadlines.ts'
import { liveObjects } from '../../helpers/live-objects.ts'

const limitMs = 100

/** A client with a time limit, over connections that only record, and a clock that the test sets. */
function open(t: TestContext) {
  let now = 10_000
  t.mock.method(performance, 'now', () => now)
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const events: string[] = []
  const connection = (name: string) => ({
    cork: () => events.push(`${name} corked`),
    uncork: () => events.push(`${name} uncorked`),
    destroy: ({ message }: Error) => events.push(`${name}: ${message}`),
  })
  const client = {
    status: 'ready',
    stream: connection('a'),
    sendCommand(_command: object): void {
      events.push('sent')
    },
  }
  limitNode(client as never, limitMs)
  const send = (): { isSettled: boolean } => {
    const command = { isSettled: false }
    client.sendCommand(command)
    return command
  }
  /** @param lateMs how long the process is blocked when the time is over */
  const pass = async (ms: number, lateMs = 0): Promise<string[]> => {
    now += ms + lateMs
    t.mock.timers.tick(ms)
    await turn()
    return events.filter((event) => event.includes('no reply'))
  }
  return { client, connection, events, send, pass }
}

describe('the time limit of a command', () => {
  test('ends the connection of the oldest command without a reply, and not a later one', async (t) => {
    const { client, connection, send, pass } = open(t)
    send()
    client.stream = connection('b')
    await pass(40)
    send()
    assert.deepEqual(await pass(59), [])
    assert.deepEqual(await pass(1), ['a: no reply within 100 ms'])
    assert.deepEqual(await pass(1_000), ['a: no reply within 100 ms'], 'the commands behind it failed with it')
    send()
    await pass(99)
    assert.deepEqual((await pass(1)).at(-1), 'b: no reply within 100 ms')
  })

  test('begins when the command is sent, whatever was sent before', async (t) => {
    const { send, pass } = open(t)
    const first = send()
    await pass(60)
    first.isSettled = true
    const second = send()
    await pass(60)
    send()
    assert.deepEqual(await pass(39), [])
    assert.equal((await pass(1)).length, 1)
    assert.equal(second.isSettled, false)
  })

  test('counts for the first of thousands of commands that waits', async (t) => {
    const { send, pass } = open(t)
    const commands = Array.from({ length: 1_500 }, send)
    for (const command of commands.slice(0, 1_200)) command.isSettled = true
    send()
    assert.equal((await pass(100)).length, 1)
  })

  test('keeps a thousand settled commands at most behind one that waits', (t) => {
    class Command {
      isSettled = false
    }
    const { client } = open(t)
    let waiting = new Command()
    client.sendCommand(waiting)
    for (let i = 0; i < 5_000; i++) {
      const next = new Command()
      client.sendCommand(next)
      waiting.isSettled = true
      waiting = next
    }
    const kept = liveObjects(Command)
    assert.ok(kept <= 1_010, `${kept} commands`)
    assert.equal(waiting.isSettled, false)
  })

  test('does not end a connection whose replies have arrived, or without a command', async (t) => {
    const { send, pass } = open(t)
    const command = send()
    const checked = pass(100)
    // The reply is read after the timer and before the connection would be ended.
    command.isSettled = true
    assert.deepEqual(await checked, [])
    assert.deepEqual(await pass(1_000), [])
  })

  test('is longer by the time for which the process was blocked, up to twice as long, once', async (t) => {
    for (const [lateMs, extraMs] of [
      [30, 30],
      [5_000, 100],
    ] as const) {
      const { send, pass } = open(t)
      send()
      assert.deepEqual(await pass(100, lateMs), [])
      assert.deepEqual(await pass(extraMs - 1), [])
      assert.equal((await pass(1, 5_000)).length, 1, 'blocked again')
      t.mock.reset()
    }
    const { send, pass } = open(t)
    send()
    assert.equal((await pass(100, 20)).length, 1, 'usual for a timer')
  })
})

test('the commands of one turn are one write, also on a new connection', async (t) => {
  const { client, connection, events, send, pass } = open(t)
  for (let i = 0; i < 2; i++) send()
  assert.deepEqual(events.splice(0), ['a corked', 'sent', 'sent'])
  await turn()
  assert.deepEqual(events.splice(0), ['a uncorked'])
  send()
  client.stream = connection('b')
  send()
  await turn()
  assert.deepEqual(events.splice(0).sort(), ['a corked', 'a uncorked', 'b corked', 'b uncorked', 'sent', 'sent'])
  client.status = 'connect'
  send()
  await turn()
  assert.deepEqual(events.splice(0), ['sent'], 'the handshake is not delayed')
  await pass(1_000)
})

test('a command of a Cluster that a node has received fails with its connection and is not sent again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  for (const [status, outcome] of [
    ['ready', 'fails'],
    ['connect', 'is tried again'],
  ] as const) {
    const outcomes: string[] = []
    const node = { status, stream: { cork() {}, uncork() {} }, sendCommand: (_command: object): void => {} }
    const cluster = Object.assign(new EventEmitter(), {
      sendCommand(command: { reject: unknown }): void {
        node.sendCommand(command)
        command.reject = () => outcomes.push('is tried again')
      },
    })
    limitCluster(cluster as never, limitMs)
    cluster.emit('+node', node)
    const command = { isSettled: false, setTimeout() {}, reject: (_error: Error) => outcomes.push('fails') }
    cluster.sendCommand(command)
    command.reject(new Error('Connection is closed.'))
    assert.deepEqual(outcomes, [outcome], status)
  }
})
