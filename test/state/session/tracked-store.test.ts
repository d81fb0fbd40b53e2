import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { CachedRecord } from '../../../src/state/session/record.ts'
import { TrackedRecordStore } from '../../../src/state/session/redis-store.ts'
import { liveObjects } from '../../helpers/live-objects.ts'
import { FakeNode } from '../redis/fake-node.ts'

const key = (id: string): string => `shop:session:{${id}}`
const text = (value: unknown): string => `{"cookie":{}\n,"a":${JSON.stringify(value)}\n}`

/** A store whose announcements are complete, unless the test ends the connection. */
async function open(t: TestContext) {
  let now = 10_000
  t.mock.method(performance, 'now', () => now)
  const node = new FakeNode()
  const store = new TrackedRecordStore(node as never, 'shop', assert.fail)
  t.after(() => store.close())
  node.connection.open()
  for (let i = 0; i < 6; i++) await turn()
  /** @returns the number of commands that the read needed, and the value */
  const read = async (id = 's'): Promise<[number, unknown]> => {
    const before = node.commands.length
    const found = await store.read(id)
    const record = found instanceof CachedRecord ? found.load()?.data.a : found && JSON.parse(found).a
    return [node.commands.length - before, record]
  }
  /** @returns the number of commands that reading each of the sessions needed */
  const commands = async (...ids: string[]): Promise<number[]> => {
    const all: number[] = []
    for (const id of ids) {
      const before = node.commands.length
      await store.read(id)
      all.push(node.commands.length - before)
    }
    return all
  }
  const put = (id: string, value: unknown, ttlMs = 600_000): void => {
    node.data.set(key(id), { text: text(value), ttlMs })
  }
  const pass = (ms: number): void => {
    now += ms
  }
  return { node, store, read, commands, put, pass }
}

describe('a session in the memory of a process', () => {
  test('is read once, until any client changes it', async (t) => {
    const { node, store, read, put } = await open(t)
    put('s', 1)
    assert.deepEqual([await read(), await read(), store.hits], [[1, 1], [0, 1], 1])
    put('s', 2)
    node.connection.announce([Buffer.from(key('other'))])
    assert.deepEqual(await read(), [0, 1])
    node.connection.announce([Buffer.from(key('s'))])
    assert.deepEqual(
      [await read(), await read()],
      [
        [1, 2],
        [0, 2],
      ],
    )
    assert.equal(store.hits, 3)
  })

  test('is not used while announcements are not complete, and read again afterwards', async (t) => {
    const { node, read, put, pass } = await open(t)
    put('s', 1)
    await read()
    pass(999)
    assert.deepEqual(await read(), [0, 1])
    pass(1)
    put('s', 2)
    assert.deepEqual(await read(), [1, 2], 'no PING was confirmed for a second')
    const lost = await open(t)
    lost.put('s', 1)
    await lost.read()
    lost.node.connection.disconnect()
    assert.deepEqual(
      [await lost.read(), await lost.read()],
      [
        [1, 1],
        [1, 1],
      ],
    )
    node.connection.announce(null)
  })

  test('is dropped when announcements may have been missed', async (t) => {
    const { node, read, put } = await open(t)
    put('s', 1)
    await read()
    node.connection.announce(null)
    assert.deepEqual(
      [await read(), await read()],
      [
        [1, 1],
        [0, 1],
      ],
    )
  })

  test('ends exactly when its key expires, counted from before the read', async (t) => {
    const { read, put, node, pass } = await open(t)
    put('s', 1, 500)
    node.gate = turn().then(() => pass(100))
    await read()
    node.gate = undefined
    pass(399)
    assert.deepEqual(await read(), [0, 1])
    pass(1)
    assert.deepEqual(await read(), [1, 1])
  })

  test('is not kept without a time to live, and an absent one is not either', async (t) => {
    const { read, put } = await open(t)
    for (const ttlMs of [-1, 0]) {
      put('s', 1, ttlMs)
      assert.deepEqual(
        [await read(), await read()],
        [
          [1, 1],
          [1, 1],
        ],
      )
    }
    put('s', 1, 1)
    assert.deepEqual(
      [await read(), await read()],
      [
        [1, 1],
        [0, 1],
      ],
    )
    assert.deepEqual(
      [await read('gone'), await read('gone')],
      [
        [1, null],
        [1, null],
      ],
    )
  })

  test('is not kept if it changes while it is read', async (t) => {
    const { node, read, put } = await open(t)
    for (const announced of [[Buffer.from(key('s'))], null]) {
      put('s', 1)
      const gate = Promise.withResolvers<void>()
      node.gate = gate.promise
      const reading = read()
      put('s', 2)
      node.connection.announce(announced)
      gate.resolve()
      assert.deepEqual(await reading, [1, 1])
      node.gate = undefined
      assert.deepEqual(await read(), [1, 2])
      node.connection.announce(null)
    }
  })

  test('is kept by the later of two reads, if it changes between them', async (t) => {
    const { node, read, put } = await open(t)
    put('s', 1)
    const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    node.gate = first.promise
    const early = read()
    node.connection.announce([Buffer.from(key('s'))])
    put('s', 2)
    node.gate = second.promise
    const late = read()
    first.resolve()
    await early
    second.resolve()
    await late
    assert.deepEqual(await read(), [0, 2])
  })

  test('is dropped by every write of this process, also one that fails', async (t) => {
    const { store, read, put, node } = await open(t)
    for (const write of [
      () => store.write('s', text(2), 600_000),
      () => store.replace('s', text(2), 600_000),
      () => store.destroy('s'),
      () => store.merge('s', new Map(), 0, 100),
    ]) {
      put('s', 1)
      node.connection.announce([Buffer.from(key('s'))])
      await read()
      assert.deepEqual(await read(), [0, 1])
      await write().catch(() => {})
      assert.equal((await read())[0], 1)
    }
  })

  test('is one of at most 10,000, of which the oldest is dropped', async (t) => {
    const { commands, put } = await open(t)
    for (let i = 0; i < 10_000; i++) {
      put(`s${i}`, i)
      await commands(`s${i}`)
    }
    put('one more', 1)
    assert.deepEqual(await commands('s0', 'one more', 's1', 's0'), [0, 1, 0, 1])
  })

  test('is one of at most 64 Mi characters in all, without those that were replaced or dropped', async (t) => {
    const { commands, put, pass, node } = await open(t)
    const size = 1024 * 1024
    const large = 'x'.repeat(20 * size - text('').length)
    put('a', large, 100)
    await commands('a')
    pass(100)
    put('a', large)
    assert.deepEqual(await commands('a'), [1], 'replaced')
    put('gone', large)
    await commands('gone')
    node.connection.announce([Buffer.from(key('gone'))])
    for (const id of ['b', 'c']) put(id, large)
    assert.deepEqual(await commands('b', 'c', 'a', 'b', 'c'), [1, 1, 0, 0, 0])
    put('d', 'x'.repeat(4 * size - text('').length))
    assert.deepEqual(await commands('d', 'a', 'd'), [1, 0, 0], 'exactly 64 Mi')
    put('e', 'x')
    assert.deepEqual(await commands('e', 'b', 'c', 'd', 'e'), [1, 0, 0, 0, 0])
    assert.deepEqual(await commands('a', 'b'), [1, 1], 'the oldest were dropped')
    node.connection.announce(null)
    assert.deepEqual(await commands('b', 'c', 'd', 'b'), [1, 1, 1, 0])
  })

  test('that does not exist, or could not be read, leaves nothing in memory', async (t) => {
    const { store, node } = await open(t)
    const usedBytes = (): number => {
      liveObjects(TrackedRecordStore)
      return process.memoryUsage().heapUsed
    }
    const before = usedBytes()
    for (const get of [async () => null, () => Promise.reject(new Error('no Redis'))]) {
      node.get = get
      for (let i = 0; i < 100; i++) await Promise.resolve(store.read(`${'x'.repeat(100_000)}${i}`)).catch(() => {})
    }
    const grown = usedBytes() - before
    assert.ok(grown < 5_000_000, `${grown} bytes`)
    assert.equal(store.hits, 0)
  })
})
