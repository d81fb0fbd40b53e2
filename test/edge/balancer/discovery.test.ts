import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, describe, it } from 'node:test'
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { Balancer } from '../../../src/edge/balancer/balancer.ts'
import {
  type Found,
  fromDns,
  fromFleet,
  fromRegistry,
  fromSrv,
  type Source,
} from '../../../src/edge/balancer/discovery.ts'
import { health } from '../../../src/instance/health/index.ts'
import type { Peer } from '../../../src/instance/identity.ts'
import { identity } from '../../../src/instance/identity.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { registry } from '../../../src/state/registry/index.ts'
import { startRedis } from '../../helpers/redis.ts'
import { Relay } from '../../helpers/relay.ts'
import { until } from '../../helpers/until.ts'
import { quickProbe } from '../front.ts'
import { startNameServer } from '../name-server.ts'
import { startUpstreams } from '../upstream.ts'

/** Collects the lists of a source. */
function listen(source: Source): { lists: (readonly Found[])[]; stop: () => void } {
  const lists: (readonly Found[])[] = []
  const stop = source((found) => lists.push(found))
  after(stop)
  return { lists, stop }
}

describe('DNS', () => {
  it('yields a target per address, follows changes, and keeps the last list while DNS does not respond', async () => {
    const server = await startNameServer()
    server.records = { a: ['10.0.0.1', '10.0.0.2'] }
    const { lists, stop } = listen(fromDns('https://app.test:3000', { servers: [server.address], intervalMs: 10 }))
    await until(() => lists.length > 0)
    assert.deepEqual(lists[0]?.map(({ url }) => url).toSorted(), ['https://10.0.0.1:3000', 'https://10.0.0.2:3000'])
    assert.equal(lists[0]?.[0]?.serverName, 'app.test')
    server.records = { a: ['10.0.0.3'] }
    await until(() => lists.at(-1)?.length === 1)
    server.records = {}
    const { requested: sent } = server
    await until(() => server.requested > sent + 6)
    assert.ok(lists.every((list) => list.length > 0))
    stop()
  })

  it('reads ports, weights and backups from SRV records', async () => {
    const server = await startNameServer()
    server.records = {
      srv: [
        { priority: 10, weight: 60, port: 3001, name: 'a.test' },
        { priority: 10, weight: 0, port: 3002, name: 'b.test' },
        { priority: 20, weight: 30, port: 3003, name: 'c.test' },
      ],
    }
    const { lists } = listen(fromSrv('http://_http._tcp.app.test', { servers: [server.address], intervalMs: 10 }))
    await until(() => lists.length > 0)
    assert.deepEqual(
      lists[0]?.toSorted((a, b) => (a.url < b.url ? -1 : 1)),
      [
        { url: 'http://a.test:3001', weight: 1000, backup: false },
        { url: 'http://b.test:3002', weight: 1, backup: false },
        { url: 'http://c.test:3003', weight: 500, backup: true },
      ],
    )
  })

  it('rejects anything but a URL', () => {
    for (const from of [fromDns, fromSrv]) assert.throws(() => from('nonsense'), { code: 'FLEET_ERR_TARGET_INVALID' })
  })
})

describe('a balancer that follows a source', () => {
  it('adds, removes, reweighs, drains and undrains targets with the source', async () => {
    const upstreams = await startUpstreams(3)
    const [a, b, c] = upstreams.map(({ url }) => url) as [string, string, string]
    let say: (found: readonly Found[]) => void = () => {}
    const discover: Source = (listener) => {
      say = listener
      setImmediate(() => listener([{ url: a }, { url: b, weight: 7 }]))
      return () => {}
    }
    const balancer = new Balancer([], { discover, probe: quickProbe })
    after(() => balancer.close())
    await balancer.ready()
    const states = (): string[] => balancer.targets.map(({ url, state, weight }) => `${url.origin} ${state} ${weight}`)
    assert.deepEqual(states(), [`${a} up 100`, `${b} up 7`])
    say([{ url: b, weight: 9, draining: true }, { url: c }])
    await until(() => balancer.targets[1]?.state === 'up')
    assert.equal(balancer.targets[0]?.weight, 9)
    assert.deepEqual(
      balancer.targets.map(({ url }) => url.origin),
      [b, c],
    )
    say([{ url: b, weight: 9 }, { url: c }])
    await until(() => balancer.targets.every(({ state }) => state === 'up'))
    const before = balancer.targets[0]
    say([{ url: b, id: 'new-process' }, { url: c }])
    assert.notEqual(
      balancer.targets.find(({ url }) => url.origin === b),
      before,
    )
    const { body } = await balancer.request('/')
    assert.equal(JSON.parse(await body.text()).method, 'GET')
  })

  it('starts without targets while a name is unknown, in a process that does nothing else', async () => {
    const server = await startNameServer()
    server.records = {}
    const program = new URL('unknown-name.fixture.ts', import.meta.url).pathname
    const { stdout } = await promisify(execFile)(process.execPath, [program, server.address])
    assert.equal(stdout, 'ready\n')
  })

  it('drains without probes too', async () => {
    let say: (found: readonly Found[]) => void = () => {}
    const discover: Source = (listener) => {
      say = listener
      listener([{ url: 'http://127.0.0.1:1' }])
      return () => {}
    }
    const balancer = new Balancer([], { discover, probe: { type: 'off' } })
    after(() => balancer.close())
    say([{ url: 'http://127.0.0.1:1', draining: true }])
    assert.equal(balancer.targets[0]?.state, 'draining')
    say([{ url: 'http://127.0.0.1:1' }])
    assert.equal(balancer.targets[0]?.state, 'up')
  })
})

/** Long enough that no entry expires on a busy machine. */
const leaseMs = 6000

describe('the registry', () => {
  const instance = async (url: string, id: string, weight: number): Promise<FastifyInstance> => {
    const app = Fastify()
    await app.register(identity, { name: 'shop', id, weight, region: 'eu' })
    await app.register(redis, { url })
    await app.register(registry, { leaseMs })
    await app.register(health)
    app.get('/', async () => ({ id }))
    await app.listen({ port: 0, host: '127.0.0.1' })
    after(() => app.close())
    return app
  }

  it('yields the live instances of a fleet with weight and region, and follows draining and removal', async () => {
    const server = await startRedis()
    const [a, b] = await Promise.all([instance(server.url, 'a', 10), instance(server.url, 'b', 20)])
    const discover = fromRegistry({ url: server.url, name: 'shop', intervalMs: 50, leaseMs })
    const balancer = new Balancer([], { discover, probe: quickProbe })
    after(() => balancer.close())
    await until(() => balancer.targets.length === 2)
    await balancer.ready()
    const found = balancer.targets.map(({ id, weight, region }) => [id, weight, region]).toSorted()
    assert.deepEqual(found, [
      ['a', 10, 'eu'],
      ['b', 20, 'eu'],
    ])
    const ids = new Set<string>()
    await until(async () => ids.add(JSON.parse(await (await balancer.request('/')).body.text()).id).size === 2)
    const stateOf = (id: string) => balancer.targets.find((target) => target.id === id)?.state
    a.fleet.drain()
    await until(() => stateOf('a') === 'draining')
    a.fleet.undrain()
    await until(() => stateOf('a') === 'up')
    await server.kill('SIGKILL')
    for (let i = 0; i < 100; i++) await (await balancer.request('/')).body.dump()
    assert.equal(balancer.targets.length, 2)
    await server.restart()
    await b.close()
    await until(() => balancer.targets.length === 1, { timeoutMs: 60_000 })
  })

  it('keeps the last known instances while none of them reaches Redis, and until all of them do again', async () => {
    const server = await startRedis()
    const relay = await Relay.open(server.port)
    const url = `redis://127.0.0.1:${relay.port}`
    await Promise.all([instance(url, 'a', 10), instance(url, 'b', 20)])
    const client = new Redis(server.url)
    after(() => client.disconnect())
    const { lists, stop } = listen(fromRegistry({ url: server.url, name: 'shop', intervalMs: 20, leaseMs }))
    await until(() => lists.at(-1)?.length === 2)
    const leases = async (): Promise<boolean[]> => {
      const [seconds] = await client.time()
      const scores = await client.zrange('shop:registry-lease:{all}', '0', '-1', 'WITHSCORES')
      return scores.filter((_, i) => i % 2 === 1).map((end) => Number(end) > (Number(seconds) + 1) * 1000)
    }
    const cut = lists.length
    relay.refuse()
    await until(async () => !(await leases()).includes(true), { what: 'the end of the leases' })
    const expired = lists.length
    await until(() => lists.length > expired + 10)
    await relay.restore()
    await until(async () => (await leases()).filter(Boolean).length === 2, { what: 'both leases' })
    const renewed = lists.length
    await until(() => lists.length > renewed + 10)
    stop()
    assert.deepEqual([...new Set(lists.slice(cut).map(({ length }) => length))], [2])
  })

  it('is available inside an instance', async () => {
    const peers = [
      { id: 'a', host: 'h1', port: 3000, state: 'serving', weight: 100 },
      { id: 'b', host: 'h2', port: 3000, state: 'draining', weight: 100 },
      { id: 'c', host: 'h3', port: 3000, state: 'starting', weight: 100 },
      { id: 'd', host: 'h4', state: 'serving', weight: 100 },
    ] as Peer[]
    const { lists } = listen(fromFleet(() => peers))
    await until(() => lists.length > 0)
    assert.deepEqual(
      lists[0]?.map(({ id, url, draining }) => [id, url, draining]),
      [
        ['a', 'http://h1:3000', false],
        ['b', 'http://h2:3000', true],
      ],
    )
  })

  it('requires an address of Redis', () => {
    assert.throws(() => new Balancer([], { discover: fromRegistry({}) }), { code: 'FLEET_ERR_OPTION_INVALID' })
  })
})
