import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { describe, it, type TestContext } from 'node:test'
import { type Found, fromDns, fromFleet, fromRegistry, fromSrv } from '../../../src/edge/balancer/discovery.ts'
import { Follower, type TargetList } from '../../../src/edge/balancer/follower.ts'
import type { Target, TargetOptions } from '../../../src/edge/balancer/target.ts'
import type { Peer } from '../../../src/instance/identity.ts'
import { RedisDirectory } from '../../../src/state/registry/redis-directory.ts'
import { clock } from '../../helpers/clock.ts'
import { until } from '../../helpers/until.ts'
import { entries, nothing, stored } from '../../state/registry/fake-peers.ts'
import { startNameServer } from '../name-server.ts'

const turn = (): Promise<void> => new Promise(setImmediate)
const invalid = { code: 'FLEET_ERR_TARGET_INVALID' }

describe('the instances of a fleet', () => {
  const peer = (more: object): Peer => ({ id: 'a', host: 'h', port: 1, state: 'serving', weight: 7, ...more }) as Peer
  async function found(
    t: TestContext,
    peers: Peer[],
    selection: Parameters<typeof fromFleet>[1] = {},
  ): Promise<Found[]> {
    const lists: (readonly Found[])[] = []
    const stop = fromFleet(() => peers, selection)((list) => lists.push(list))
    t.after(stop)
    await turn()
    return [...(lists[0] ?? [])]
  }

  it('are targets if they serve or drain, have a port, and belong to the pool', async (t) => {
    const peers = [
      peer({ id: 'serves' }),
      peer({ id: 'drains', state: 'draining' }),
      ...['starting', 'stopping', 'unhealthy'].map((state) => peer({ id: state, state })),
      peer({ id: 'no port', port: undefined }),
      peer({ id: 'default', pool: 'default' }),
      peer({ id: 'other', pool: 'v2' }),
    ]
    assert.deepEqual(
      (await found(t, peers)).map(({ id, draining }) => [id, draining]),
      [
        ['serves', false],
        ['drains', true],
        ['default', false],
      ],
    )
    assert.deepEqual(
      (await found(t, peers, { pool: 'v2' })).map(({ id }) => id),
      ['other'],
    )
  })

  it('have weight, region and zone, and an address that is 127.0.0.1 on this machine', async (t) => {
    const [there, here] = await found(t, [
      peer({ region: 'r', zone: 'z' }),
      peer({ id: 'b', host: hostname(), weight: 0 }),
    ])
    const none = { canary: undefined, draining: false }
    assert.deepEqual(there, { url: 'http://h:1', id: 'a', weight: 7, region: 'r', zone: 'z', ...none })
    assert.equal(here?.url, 'http://127.0.0.1:1')
    assert.equal(here?.weight, 0)
    const own = await found(t, [peer({})], {
      urlOf: ({ host }) => `https://${host}`,
      canary: ({ weight }) => weight === 7,
    })
    assert.deepEqual([own[0]?.url, own[0]?.canary], ['https://h', true])
  })

  it('are read every half second, also after an error, until the source is stopped', async (t) => {
    const time = clock(t)
    let reads = 0
    const lists: number[] = []
    const stop = fromFleet(() => {
      if (++reads === 2) throw new Error('not now')
      return []
    })((list) => lists.push(list.length))
    await turn()
    for (const ms of [499, 1, 500]) {
      time.tick(ms)
      await turn()
    }
    assert.deepEqual([reads, lists], [3, [0, 0]])
    stop()
    assert.equal(time.timers(), 0)
    const other = fromFleet(() => [], { intervalMs: 70 })(() => {})
    await turn()
    assert.deepEqual(time.delays(), [70])
    other()
  })

  it('are not passed on by a read that ends after the source was stopped', async (t) => {
    const time = clock(t)
    const lists: unknown[] = []
    const stop = fromFleet(() => [])((list) => lists.push(list))
    stop()
    await turn()
    assert.deepEqual([lists, time.timers()], [[], 0])
  })
})

describe('the registry as a source', () => {
  it('needs secrets of 32 bytes, and one in production', (t) => {
    assert.throws(() => fromRegistry({ secret: 'x'.repeat(31) }), { code: 'FLEET_ERR_SECRET_WEAK' })
    assert.throws(() => fromRegistry({ secret: ['x'.repeat(32), 'short'] }), { code: 'FLEET_ERR_SECRET_WEAK' })
    fromRegistry({ secret: 'x'.repeat(32) })
    fromRegistry({})
    process.env.NODE_ENV = 'production'
    t.after(() => delete process.env.NODE_ENV)
    assert.throws(() => fromRegistry({}), { code: 'FLEET_ERR_SECRET_MISSING' })
    fromRegistry({ secret: ['x'.repeat(32)] })
  })

  it('trusts the secret that the fleet shares now, and no earlier one', async (t) => {
    const time = clock(t)
    t.mock.method(process, 'emitWarning', () => undefined)
    const [earlier, current] = ['a'.repeat(32), 'b'.repeat(32)] as const
    let shared: string = earlier
    let changes: [id: string, secret: string][] = [['1', earlier]]
    t.mock.method(RedisDirectory.prototype, 'beat', async () => ({
      ...nothing,
      changes: new Map(changes.map(([id, secret]) => [id, stored(id, 'boot', entries(secret))])),
    }))
    const client = { on: () => client, defineCommand: () => undefined, get: async () => shared }
    const lists: (string | undefined)[][] = []
    const source = fromRegistry({ name: 'shop', client: client as never })
    t.after(source((found) => lists.push(found.map(({ id }) => id))))
    await until(() => lists.length === 1)
    shared = current
    changes = [
      ['2', earlier],
      ['3', current],
    ]
    time.tick(500)
    await until(() => lists.length === 2)
    assert.deepEqual(lists, [['1'], ['1', '3']])
  })

  it('leaves a client open that the app gave', async () => {
    const calls: string[] = []
    const client = {
      status: 'ready',
      on: (): unknown => client,
      defineCommand: () => undefined,
      get: async () => {
        throw new Error('down')
      },
      quit: async () => void calls.push('quit'),
      disconnect: () => void calls.push('disconnect'),
    }
    const stop = fromRegistry({ client: client as never })(() => {})
    stop()
    await turn()
    assert.deepEqual(calls, [])
  })
})

describe('the fleet that the registry is read of', () => {
  it('is the one in the options, else FLEET_NAME, else `fleet`', async (t) => {
    const before = process.env.FLEET_NAME
    t.after(() => {
      if (before === undefined) delete process.env.FLEET_NAME
      else process.env.FLEET_NAME = before
    })
    const keyOf = async (options: Parameters<typeof fromRegistry>[0]): Promise<string> => {
      const keys: string[] = []
      const client = {
        on: () => client,
        defineCommand: () => {},
        get: async (key: string) => {
          keys.push(key)
          throw new Error('down')
        },
      }
      t.after(fromRegistry({ ...options, client: client as never })(() => {}))
      await until(() => keys.length > 0)
      return keys[0] ?? ''
    }
    delete process.env.FLEET_NAME
    assert.match(await keyOf({}), /fleet/)
    process.env.FLEET_NAME = 'shop'
    assert.match(await keyOf({}), /shop/)
    assert.match(await keyOf({ name: 'own' }), /own/)
  })
})

describe('DNS as a source', () => {
  it('names the addresses of both families with the scheme and port of the URL', async (t) => {
    const server = await startNameServer()
    server.records = { a: ['10.0.0.1'] }
    const first = async (url: string): Promise<readonly Found[]> => {
      const lists: (readonly Found[])[] = []
      t.after(fromDns(url, { servers: [server.address], intervalMs: 60_000 })((list) => lists.push(list)))
      await until(() => lists.length > 0)
      return lists[0] ?? []
    }
    assert.deepEqual(await first('http://app.test'), [{ url: 'http://10.0.0.1', serverName: 'app.test' }])
    assert.deepEqual(await first('https://app.test:81'), [{ url: 'https://10.0.0.1:81', serverName: 'app.test' }])
  })

  it('gives a weight that is the share of the heaviest record, 1 at least; 100 if none has one', async (t) => {
    const server = await startNameServer()
    const weights = async (given: readonly number[]): Promise<(number | undefined)[]> => {
      server.records = { srv: given.map((weight, i) => ({ priority: 1, weight, port: 1 + i, name: 'a.test' })) }
      const lists: (readonly Found[])[] = []
      t.after(fromSrv('http://_x.test', { servers: [server.address], intervalMs: 60_000 })((list) => lists.push(list)))
      await until(() => lists.length > 0)
      return (lists[0] ?? []).toSorted((a, b) => (a.url < b.url ? -1 : 1)).map(({ weight }) => weight)
    }
    assert.deepEqual(await weights([0, 0]), [100, 100])
    assert.deepEqual(await weights([3, 2]), [1000, 667])
    assert.deepEqual(await weights([65_535, 1, 0, 164]), [1000, 1, 1, 3])
  })

  it('needs a URL', () => {
    for (const from of [fromDns, fromSrv]) assert.throws(() => from('no URL'), invalid)
  })
})

describe('a follower of a source', () => {
  function followed() {
    const calls: string[] = []
    let say: (found: readonly Found[]) => void = () => {}
    const named = ({ id, url }: Target): string => `${id ?? url}`
    const list: TargetList = {
      add: (options: TargetOptions) => {
        calls.push(`add ${options.url}`)
        if (options.url === 'wrong') throw new Error('wrong')
        return { id: options.id ?? options.url, url: options.url } as unknown as Target
      },
      remove: async (target) => void calls.push(`remove ${named(target)}`),
      reweigh: (target, weight) => void calls.push(`reweigh ${named(target)} ${weight}`),
      drain: (target) => void calls.push(`drain ${named(target)}`),
      undrain: (target) => void calls.push(`undrain ${named(target)}`),
    }
    const follower = new Follower(list, (listener) => {
      say = listener
      return () => calls.push('stop')
    })
    const after = (...found: Found[]): string[] => {
      say(found)
      return calls.splice(0)
    }
    return { follower, after, calls, first: follower.first }
  }

  it('adds and removes targets by URL', () => {
    const { after } = followed()
    assert.deepEqual(after({ url: 'a' }, { url: 'b' }), ['add a', 'add b'])
    assert.deepEqual(after({ url: 'a' }, { url: 'b' }), [])
    assert.deepEqual(after({ url: 'b' }, { url: 'c' }), ['remove a', 'add c'])
    assert.deepEqual(after(), ['remove b', 'remove c'])
  })

  it('weighs them if the source does, 0 included', () => {
    const { after } = followed()
    assert.deepEqual(after({ url: 'a', weight: 3 }), ['add a', 'reweigh a 3'])
    assert.deepEqual(after({ url: 'a', weight: 0 }), ['reweigh a 0'])
    assert.deepEqual(after({ url: 'a' }), [])
  })

  it('drains what the source drains, and undrains only that', () => {
    const { after } = followed()
    assert.deepEqual(after({ url: 'a', draining: true }), ['add a', 'drain a'])
    assert.deepEqual(after({ url: 'a', draining: true }), ['drain a'])
    assert.deepEqual(after({ url: 'a', draining: false }), ['undrain a'])
    assert.deepEqual(after({ url: 'a' }), [])
  })

  it('replaces a target by another process at its address', () => {
    const { after } = followed()
    after({ url: 'a', id: '1' })
    assert.deepEqual(after({ url: 'a' }), [])
    assert.deepEqual(after({ url: 'a', id: '1' }), [])
    assert.deepEqual(after({ url: 'a', id: '2' }), ['remove 1', 'add a'])
  })

  it('passes over an entry that is wrong', () => {
    const { after } = followed()
    assert.deepEqual(after({ url: 'a' }, { url: 'wrong' }, { url: 'b' }), ['add a', 'add wrong', 'add b'])
    assert.deepEqual(after({ url: 'a' }, undefined as never, { url: 'c' }), ['remove b', 'add c'])
  })

  it('knows when it has the first list, and stops its source', async () => {
    const { follower, after, calls, first } = followed()
    let known = false
    void first.then(() => {
      known = true
    })
    await turn()
    assert.equal(known, false)
    after()
    await first
    follower.close()
    assert.deepEqual(calls, ['stop'])
  })
})
