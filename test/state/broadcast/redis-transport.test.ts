import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { RedisTransport } from '../../../src/state/broadcast/redis-transport.ts'
import { SignedMessages } from '../../../src/state/broadcast/signed-messages.ts'
import { Subscriptions } from '../../../src/state/broadcast/subscriptions.ts'
import { FleetKeys } from '../../../src/state/registry/fleet-keys.ts'

const messages = (): SignedMessages => new SignedMessages(new FleetKeys(['s'.repeat(32)], 'broadcast', 'shop'), 1_000)

/** A connection that only records. */
class Connection extends EventEmitter {
  status = 'connecting'
  readonly calls: string[] = []
  pings = 0
  fails = false
  readonly options: object

  constructor(options: object) {
    super()
    this.options = options
  }

  async ping(): Promise<void> {
    this.pings++
    throw new Error('a lost ping is no failure of the process')
  }

  async subscribe(...names: string[]): Promise<void> {
    this.calls.push(`subscribe ${names}`)
    if (this.fails) throw new Error('no subscription')
  }

  async unsubscribe(...names: string[]): Promise<void> {
    this.calls.push(`unsubscribe ${names}`)
  }

  disconnect(): void {
    this.calls.push('disconnect')
    this.status = 'end'
    this.emit('end')
  }

  ready(): Promise<void> {
    this.status = 'ready'
    this.emit('ready')
    return turn()
  }
}

function open(t: TestContext, cluster?: { nodes: () => object[] }) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.mock.method(Math, 'random', () => 0.5)
  const connections: Connection[] = []
  const published: string[] = []
  const duplicate = (options: object): Connection => {
    const connection = new Connection(options)
    connections.push(connection)
    return connection
  }
  const client = Object.assign(new EventEmitter(), {
    ...{ duplicate, isCluster: cluster !== undefined, ...cluster },
    publish: async (name: string, text: string) => void published.push(`${name} ${text}`),
  })
  const subscriptions = new Subscriptions({ error() {} } as never)
  const rejected: string[] = []
  const transport = new RedisTransport({
    ...{ client: client as never, subscriptions, prefix: 'shop:broadcast:', heartbeatMs: 1_000, messages: messages() },
    onRejected: (reason, channel) => rejected.push(`${channel} ${reason}`),
  })
  const events: string[] = []
  const subscribe = (name: string): (() => void) =>
    subscriptions.subscribe(transport, name, {
      listener: (message: unknown) => events.push(`${name}: ${message}`),
      onReconnect: () => events.push(`${name} live`),
      onLost: () => events.push(`${name} lost`),
    })
  return { transport, client, connections, published, rejected, events, subscribe, duplicate }
}

test('opens one connection, with the first subscription, whose commands have the time of a heartbeat', async (t) => {
  const { connections, events, subscribe } = open(t)
  assert.equal(connections.length, 0)
  subscribe('a')
  subscribe('b')
  const [connection] = connections as [Connection]
  assert.equal(connections.length, 1)
  assert.partialDeepStrictEqual(connection.options, {
    ...{ commandTimeout: 1_000, socketTimeout: 1_000, retryStrategy: null, lazyConnect: false, autoResubscribe: false },
  })
  assert.deepEqual(connection.calls, [])
  await connection.ready()
  assert.deepEqual([connection.calls, events], [['subscribe shop:broadcast:a,shop:broadcast:b'], ['a live', 'b live']])
  const end = subscribe('c')
  await turn()
  end()
  assert.deepEqual(connection.calls.slice(1), ['subscribe shop:broadcast:c', 'unsubscribe shop:broadcast:c'])
  assert.equal(events.at(-1), 'c live')
})

test('delivers signed messages to the subscribers of their channel, and counts the others', async (t) => {
  const { transport, connections, published, rejected, events, subscribe } = open(t)
  subscribe('a')
  const [connection] = connections as [Connection]
  await connection.ready()
  await transport.publish('a', '1')
  const [name, ...text] = (published[0] ?? '').split(' ')
  assert.equal(name, 'shop:broadcast:a')
  assert.deepEqual(messages().open('a', text.join(' ')), { json: '1' })
  connection.emit('message', 'shop:broadcast:a', messages().seal('a', '2'))
  subscribe('fleet:registry')
  await turn()
  connection.emit('message', 'shop:broadcast:fleet:registry', messages().seal('fleet:registry', '4'))
  assert.deepEqual(events.splice(2), ['fleet:registry live', 'fleet:registry: 4'])
  connection.emit('message', 'shop:broadcast:a', messages().seal('b', '3'))
  connection.emit('message', 'shop:broadcast:a', 'junk')
  assert.deepEqual(
    [events, rejected],
    [
      ['a live', 'a: 2'],
      ['a signature', 'a unsigned'],
    ],
  )
})

test('pings, reports a loss, and opens another connection after 50 to 250 ms', async (t) => {
  const { connections, events, subscribe } = open(t)
  subscribe('a')
  const [first] = connections as [Connection]
  await first.ready()
  t.mock.timers.tick(999)
  assert.equal(first.pings, 0)
  t.mock.timers.tick(1)
  assert.equal(first.pings, 1)
  first.emit('error', new Error('logged elsewhere'))
  first.disconnect()
  assert.deepEqual(events, ['a live', 'a lost'])
  const end = subscribe('b')
  t.mock.timers.tick(149)
  assert.equal(connections.length, 1)
  t.mock.timers.tick(1)
  const second = connections[1] as Connection
  end()
  await second.ready()
  assert.deepEqual([second.calls, events], [['subscribe shop:broadcast:a'], ['a live', 'a lost', 'a live']])
  t.mock.timers.tick(1_000)
  assert.deepEqual([first.pings, second.pings], [1, 1], 'the first connection pings no more')
})

test('leaves a connection on which it cannot subscribe, and is not live by one that was lost meanwhile', async (t) => {
  const { connections, events, subscribe } = open(t)
  subscribe('a')
  const [first] = connections as [Connection]
  first.fails = true
  await first.ready()
  assert.deepEqual([first.calls.at(-1), events], ['disconnect', []])
  t.mock.timers.tick(150)
  const second = connections[1] as Connection
  second.status = 'ready'
  second.emit('ready')
  second.disconnect()
  await turn()
  assert.deepEqual(events, [])
})

test('opens another connection when the client of the fleet has lost its own, and none once it is closed', async (t) => {
  const { transport, client, connections, subscribe } = open(t)
  subscribe('a')
  client.emit('close')
  t.mock.timers.tick(150)
  assert.equal(connections.length, 2)
  transport.close()
  assert.equal(connections[1]?.calls.at(-1), 'disconnect')
  assert.equal(client.listenerCount('close'), 0)
  t.mock.timers.tick(60_000)
  assert.equal(connections.length, 2)
})

test('uses any node of a Cluster, waits for one, and stays when the client loses a node', (t) => {
  let nodes: object[] = []
  const { client, connections, subscribe, duplicate } = open(t, { nodes: () => nodes })
  subscribe('a')
  t.mock.timers.tick(150)
  assert.equal(connections.length, 0)
  const used: number[] = []
  nodes = [0, 1, 2].map((i) => ({
    duplicate(options: object) {
      used.push(i)
      return duplicate(options)
    },
  }))
  t.mock.timers.tick(150)
  assert.deepEqual([used, connections.length], [[1], 1])
  client.emit('close')
  t.mock.timers.tick(1_000)
  assert.equal(connections.length, 1)
})
