import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { Operation } from '../../src/base/internals/prisma.ts'
import { type ReplicasOptions, replicas } from '../../src/database/replicas.ts'
import type { Router } from '../../src/database/router.ts'
import { FakeServer, failure, fakeRouter, read, write } from './fake-servers.ts'

const ofRaw = { modelName: undefined, action: '$queryRaw', clientMethod: '$queryRaw' }

describe('the router', () => {
  it('tells a request of each of its writes, and of no read', async () => {
    const { router } = await fakeRouter(1)
    let writes = 0
    const reader = { position: () => 0, writes: () => void writes++ }
    const count = async (work: () => Promise<unknown>): Promise<number> => {
      writes = 0
      await router.readers.run(reader, work)
      return writes
    }
    const inside = { ...read, transaction: {} }
    assert.equal(await count(() => router.route(write)), 1)
    assert.equal(await count(() => router.write(write)), 1)
    assert.equal(await count(() => router.readLate(write)), 1)
    for (const execute of [router.route, router.write, router.readLate])
      for (const operation of [read, inside]) assert.equal(await count(() => execute(operation)), 0)
    assert.equal(await router.route(write), 'primary', 'without a request')
  })

  it('tells a request of a write when it is sent, because one that fails may have been applied', async () => {
    const { router, primary } = await fakeRouter(1)
    let writes = 0
    const reader = { position: () => 0, writes: () => void writes++ }
    const reply = Promise.withResolvers<unknown>()
    primary.execute = () => reply.promise
    const lost = assert.rejects(
      router.readers.run(reader, () => router.route(write)),
      /no reply/,
    )
    assert.equal(writes, 1)
    reply.reject(new Error('no reply'))
    await lost
    assert.equal(writes, 1)
  })

  it('sends a raw statement to a replica if all that it calls only reads, by PostgreSQL or by `readOnlyFunctions`', async () => {
    const raw = (query: string): Operation => ({ ...write, ...ofRaw, args: { query } })
    const statements = ['lower(a)', 'similarity(a, b)', 'locks()'].map((call) => raw(`SELECT ${call}`))
    const plain = await fakeRouter(1)
    const declared = await fakeRouter(1, { readOnlyFunctions: ['similarity'] })
    const servers = ({ router }: typeof plain) => Promise.all(statements.map((each) => router.route(each)))
    assert.deepEqual(await servers(plain), ['replica 1', 'primary', 'primary'])
    assert.deepEqual(await servers(declared), ['replica 1', 'replica 1', 'primary'])
  })

  it('knows the position of the primary', async () => {
    const { router, primary } = await fakeRouter(1)
    primary.position = '0/6000'
    assert.equal(await router.position(), 0x6000)
    primary.position = undefined
    await assert.rejects(router.position())
  })

  it('learns the position after a write by a query that is sent after it', async () => {
    const { router, primary } = await fakeRouter(1)
    primary.position = '0/6000'
    const before = router.position()
    primary.position = '0/7000'
    assert.deepEqual(await Promise.all([before, router.position()]), [0x6000, 0x7000])
  })

  it('sends any raw query of $replica() to a replica, and statements that write to the primary', async () => {
    const { router } = await fakeRouter(1)
    const locks: Operation = { ...write, ...ofRaw, args: { query: 'SELECT locks()' } }
    const executes: Operation = { ...write, modelName: undefined, action: '$executeRaw', clientMethod: '$executeRaw' }
    assert.deepEqual([await router.readLate(locks), await router.readLate(executes)], ['replica 1', 'primary'])
  })

  it('reads from a replica at exactly the position of the client, also if that is 1', async () => {
    const { router } = await fakeRouter(1, { waitMs: 0 })
    const at = (position: number) =>
      router.readers.run({ position: () => position, writes: () => undefined }, () => router.route(read))
    assert.deepEqual(
      [await at(0), await at(1), await at(0x5000), await at(0x5001)],
      [...['replica 1', 'replica 1', 'replica 1', 'primary']],
    )
    router.set.replicas[0]?.failed()
    router.reads.own = 0
    assert.deepEqual([await at(0), await at(1), router.reads.own], ['primary', 'primary', 0])
  })

  it('counts a read that a replica cannot serve as one of the primary, and not as an own one', async () => {
    const { router, replicas } = await fakeRouter(1)
    const [replica] = replicas as [FakeServer]
    replica.execute = () => Promise.reject(failure('25006'))
    assert.equal(await router.route(read), 'primary')
    assert.deepEqual([router.reads.primary, router.reads.own, router.reads.replicas], [1, 0, [0]])
    assert.equal(router.set.available, true)
  })
})

describe('the extension', () => {
  /** A client with the schema of its adapter, whose extended form is the one that the extension has prepared. */
  function clientOf(name: string, schema?: string) {
    const client = new FakeServer(name)
    const state = { ends: 0 }
    const $disconnect = async (): Promise<void> => void state.ends++
    const $extends = function (this: FakeServer): object {
      return this._originalClient
    }
    return {
      client: Object.assign(client, { $extends, $disconnect, _engineConfig: { adapter: { options: { schema } } } }),
      state,
    }
  }
  type Extended = Record<'$primary' | '$replica', (this: object) => object> & {
    $disconnect(): Promise<void>
    $routing(): Router
  }
  const extend = (client: FakeServer, options: ReplicasOptions): Extended => replicas(options)(client) as never

  it('ends with $disconnect(): its probes, and the clients that it created, but not given ones', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] })
    for (const create of [true, false]) {
      const [primary, replica] = [clientOf('primary'), clientOf('replica')]
      const given = create ? { urls: ['a'], connect: () => replica.client } : { clients: [replica.client] }
      await extend(primary.client, given).$disconnect()
      assert.deepEqual([primary.state.ends, replica.state.ends], [1, create ? 1 : 0])
      const asked = replica.client.asked
      t.mock.timers.tick(60_000)
      assert.equal(replica.client.asked, asked)
    }
  })

  it('creates a client per URL, with its name and the schema of the primary', async () => {
    const created: string[] = []
    const connect = (url: string, name: string): FakeServer => {
      created.push(`${name} ${url}`)
      return clientOf(name, 'shop').client
    }
    const urls = ['postgresql://a/x', 'postgresql://b/x?schema=shop']
    await extend(clientOf('primary', 'shop').client, { connect, urls }).$disconnect()
    assert.deepEqual(created, ['replica_1 postgresql://a/x?schema=shop', 'replica_2 postgresql://b/x?schema=shop'])
  })

  it('rejects a replica with another schema than the primary', () => {
    for (const [primary, replica] of [
      ['shop', undefined],
      [undefined, 'shop'],
      ['shop', 'other'],
    ] as const)
      assert.throws(
        () => extend(clientOf('primary', primary).client, { clients: [clientOf('replica', replica).client] }),
        {
          code: 'FLEET_ERR_OPTION_INVALID',
          message: /replica 1 uses the schema/,
        },
      )
  })

  it('forces a server outside of transactions only', async () => {
    const client = extend(clientOf('primary').client, { clients: [clientOf('replica').client] })
    const outside = { $transaction: () => undefined }
    const scoped = { ...outside, [Symbol.for('prisma.client.transaction.scope_context')]: {} }
    for (const method of ['$primary', '$replica'] as const) {
      for (const inside of [scoped, {}]) assert.equal(client[method].call(inside), inside)
      assert.notEqual(client[method].call(outside), outside)
    }
    await turn()
    const reader = { position: () => Number.POSITIVE_INFINITY, writes: () => undefined }
    const server = (method: '$primary' | '$replica'): Promise<unknown> =>
      client
        .$routing()
        .readers.run(reader, () => (client[method].call(outside) as FakeServer)._requestHandler.request(read))
    assert.deepEqual([await server('$primary'), await server('$replica')], ['primary', 'replica'])
    await client.$disconnect()
  })
})
