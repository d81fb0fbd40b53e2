import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { Tracking } from '../../../src/state/redis/tracking.ts'
import { FakeNode } from './fake-node.ts'

/** Time that passes only when the test says so. */
function clock(t: TestContext) {
  const time = { now: 10_000 }
  t.mock.method(performance, 'now', () => time.now)
  t.mock.method(Math, 'random', () => 0.5)
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 4; i++) await turn()
  }
  const pass = async (ms: number): Promise<void> => {
    time.now += ms
    t.mock.timers.tick(ms)
    await settle()
  }
  return { time, pass, settle }
}

async function open(t: TestContext, node = new FakeNode(), client: object = node) {
  const { time, pass, settle } = clock(t)
  const changed: string[] = []
  const rejected: string[] = []
  let missed = 0
  const tracking = new Tracking(client as never, 'shop:session:{', {
    changed: (key) => changed.push(key),
    missed: () => missed++,
    rejected: (reason) => rejected.push(reason),
  })
  t.after(() => tracking.close())
  /** Whether announcements are complete until now, and in `ms`. */
  const isCurrent = (ms = 0): boolean => tracking.isCurrent(time.now + ms)
  const ready = async (): Promise<void> => {
    node.connection.open()
    await settle()
  }
  return { node, tracking, changed, rejected, missed: () => missed, isCurrent, ready, pass, settle, time }
}

describe('announcements of a server', () => {
  test('are complete for a second from before the subscription, and after that from before each PING', async (t) => {
    const { node, isCurrent, ready, pass, missed } = await open(t)
    assert.equal(isCurrent(), false)
    node.replies.subscribe = undefined
    await ready()
    const [subscribed] = node.connection.waiting
    assert.equal(subscribed?.command, 'subscribe __redis__:invalidate')
    await pass(100)
    assert.deepEqual([isCurrent(), missed()], [false, 0])
    node.connection.reply(1)
    await pass(0)
    assert.deepEqual([missed(), isCurrent(899), isCurrent(900)], [1, true, false])
    node.replies.ping = undefined
    await pass(249)
    assert.equal(node.connection.waiting.length, 0)
    await pass(1)
    assert.equal(node.connection.waiting.length, 1)
    await pass(200)
    node.connection.reply('PONG')
    await pass(0)
    assert.deepEqual([isCurrent(799), isCurrent(800)], [true, false])
  })

  test('are tracked in broadcasting mode, by prefix, and sent to the same connection', async (t) => {
    const { node, ready } = await open(t, new FakeNode('app:'))
    node.replies.call = undefined
    await ready()
    const command = 'call CLIENT TRACKING ON REDIRECT 7 BCAST PREFIX app:shop:session:{'
    assert.equal(node.connection.waiting[0]?.command, command)
  })

  test('name the changed keys without the prefix of the client', async (t) => {
    const { node, changed, ready, missed } = await open(t, new FakeNode('app:'))
    await ready()
    node.connection.announce(['app:shop:session:{a}', 'app:shop:session:{b}'].map((key) => Buffer.from(key)))
    assert.deepEqual([changed, missed()], [['shop:session:{a}', 'shop:session:{b}'], 1])
    node.connection.announce(null)
    assert.equal(missed(), 2, 'the server was flushed')
    for (const text of [Buffer.from('x'), 'x', undefined, 7]) node.connection.announce(text)
    assert.deepEqual([changed.length, missed()], [2, 2])
  })

  test('may be missed from the end of the connection, and another one is opened soon after', async (t) => {
    const { node, isCurrent, ready, pass, missed } = await open(t)
    await ready()
    assert.equal(isCurrent(), true)
    node.connection.disconnect()
    assert.deepEqual([isCurrent(), missed()], [false, 2])
    await pass(149)
    assert.equal(node.connections.length, 1)
    await pass(1)
    assert.equal(node.connections.length, 2)
    assert.equal(isCurrent(), false)
    await ready()
    assert.equal(isCurrent(), true)
  })

  test('end with a PING that fails, and a late reply of an ended connection does not count', async (t) => {
    const { node, isCurrent, ready, pass } = await open(t)
    await ready()
    node.replies.ping = undefined
    await pass(250)
    const { connection } = node
    const [ping] = connection.waiting
    connection.disconnect()
    ping?.reply('PONG')
    await pass(0)
    assert.equal(isCurrent(), false)
    await pass(150)
    await ready()
    await pass(250)
    node.connection.reply(new Error('Command timed out'))
    await pass(0)
    assert.deepEqual([node.connection.status, isCurrent()], ['end', false])
    const sent = connection.waiting.length
    await pass(1_000)
    assert.equal(connection.waiting.length, sent, 'an ended connection sends no PING')
  })

  test('of another server than that of the commands do not count', async (t) => {
    const { node, isCurrent, ready, rejected, pass } = await open(t)
    node.ownInfo = 'run_id:two'
    await ready()
    assert.deepEqual([node.connection.status, isCurrent(), rejected], ['end', false, []])
    node.ownInfo = 'run_id:one'
    await pass(150)
    await ready()
    assert.equal(isCurrent(), true)
  })

  test('do not count if only one of both servers says which it is', async (t) => {
    const { node, isCurrent, ready } = await open(t)
    node.ownInfo = ''
    await ready()
    assert.deepEqual([node.connection.status, isCurrent()], ['end', false])
  })

  test('come over a connection that ends without replies, and is not opened again by itself', async (t) => {
    const node = new FakeNode()
    const opened = t.mock.method(node, 'duplicate')
    await open(t, node)
    const options = {
      ...{ protocol: 2, retryStrategy: null, autoResubscribe: false, readOnly: false },
      ...{ connectTimeout: 1_000, commandTimeout: 1_000, socketTimeout: 1_000 },
    }
    assert.partialDeepStrictEqual(opened.mock.calls[0]?.arguments, [options])
  })

  test('count if the user may not ask which server it is', async (t) => {
    const node = new FakeNode()
    node.replies.info = new Error('NOPERM this user has no permissions')
    node.info = () => Promise.reject(new Error('NOPERM this user has no permissions'))
    const { isCurrent, ready } = await open(t, node)
    await ready()
    assert.equal(isCurrent(), true)
  })

  test('do not count if asking which server it is fails', async (t) => {
    const node = new FakeNode()
    node.replies.info = new Error('Connection is closed.')
    node.info = () => Promise.reject(new Error('Connection is closed.'))
    const { isCurrent, ready, rejected } = await open(t, node)
    await ready()
    assert.deepEqual([node.connection.status, isCurrent(), rejected], ['end', false, []])
  })

  test('that the server rejects are reported once, and asked for again after five seconds', async (t) => {
    const { node, rejected, ready, pass, isCurrent } = await open(t)
    node.replies.call = Object.assign(new Error('NOPERM'), { name: 'ReplyError' })
    for (let i = 1; i <= 2; i++) {
      await ready()
      assert.deepEqual([node.connection.status, rejected, isCurrent()], ['end', ['NOPERM'], false])
      await pass(4_999)
      assert.equal(node.connections.length, i)
      await pass(1)
      assert.equal(node.connections.length, i + 1)
    }
    node.replies.call = new Error('Connection is closed.')
    await ready()
    await pass(150)
    assert.equal(node.connections.length, 4, 'a lost connection is no rejection')
    node.replies.call = 'OK'
    await ready()
    assert.deepEqual([isCurrent(), rejected.length], [true, 1])
  })

  test('start anew when the connection of the commands does', async (t) => {
    const { node, isCurrent, ready, pass } = await open(t)
    await ready()
    node.emit('ready')
    assert.equal(isCurrent(), false)
    await pass(150)
    assert.equal(node.connections.length, 2)
  })

  test('are no longer received after close()', async (t) => {
    const { node, tracking, isCurrent, ready, pass } = await open(t)
    await ready()
    tracking.close()
    assert.deepEqual([isCurrent(), node.connection.status], [false, 'end'])
    await pass(60_000)
    assert.equal(node.connections.length, 1)
    assert.equal(node.listenerCount('ready'), 0)
  })

  test('are not opened again after close()', async (t) => {
    const { node, tracking, pass } = await open(t)
    node.connection.disconnect()
    tracking.close()
    await pass(60_000)
    assert.equal(node.connections.length, 1)
  })
})

describe('announcements of a Cluster', () => {
  class FakeCluster extends EventEmitter {
    readonly isCluster = true
    readonly options = {}
    readonly all: FakeNode[]
    constructor(all: FakeNode[]) {
      super()
      this.all = all
    }
    nodes = (): FakeNode[] => this.all
  }

  test('are complete while those of every node are', async (t) => {
    const [one, two] = [new FakeNode(), new FakeNode()]
    const cluster = new FakeCluster([one])
    two.replies.info = one.replies.info = undefined
    const { isCurrent, ready, missed, settle, pass, tracking } = await open(t, one, cluster)
    await ready()
    assert.equal(isCurrent(), true, 'its address identifies a node')
    cluster.emit('+node', two)
    assert.equal(isCurrent(), false)
    two.connection.open()
    await settle()
    assert.equal(isCurrent(), true)
    one.emit('ready')
    assert.equal(isCurrent(), true)
    const before = missed()
    cluster.emit('-node', two)
    assert.deepEqual([isCurrent(), two.connection.status], [true, 'end'])
    assert.ok(missed() > before)
    cluster.emit('-node', one)
    assert.equal(isCurrent(), false, 'no node is left')
    tracking.close()
    cluster.emit('+node', new FakeNode())
    await pass(0)
    assert.deepEqual([isCurrent(), cluster.listenerCount('+node')], [false, 0])
  })
})
