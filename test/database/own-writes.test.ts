import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SessionStore } from '@fastify/session'
import type { FastifyInstance } from 'fastify'
import type { ReadCounts } from '../../src/database/router.ts'
import { until } from '../helpers/until.ts'
import { atEnd, type Cluster, caughtUp, pause, resume, startCluster } from './cluster.ts'
import { type ShopOptions, shop, Visitor } from './shop.ts'

const lateMs = 200
let cluster: Cluster
before(async () => {
  cluster = await startCluster({ recovery_min_apply_delay: `${lateMs}ms` })
})

/** Independent instances of one application. */
async function shops(count: number, options: Partial<ShopOptions> = {}): Promise<FastifyInstance[]> {
  const { primary, one, two } = cluster
  const made = await Promise.all(
    Array.from({ length: count }, () =>
      shop({
        primary: primary.url,
        replicas: [one.url, two.url],
        probeIntervalMs: 100,
        probeTimeoutMs: 10_000,
        ...options,
      }),
    ),
  )
  for (const app of made) atEnd(() => app.close())
  for (const app of made) await until(async () => (await app.inject('/fit')).json() === 2)
  return made
}

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0)

/** Writes, then reads the same data from another instance. @returns number of stale reads */
async function pairs(apps: readonly FastifyInstance[], visitor: Visitor, sku: string, count: number): Promise<number> {
  let stale = 0
  const at = (index: number): FastifyInstance => apps[index % apps.length] as FastifyInstance
  for (let price = 1; price <= count; price++) {
    await visitor.send(at(price), 'POST', price === 1 || price % 2 ? '/items' : '/batch', { sku, price })
    const read = await visitor.send<{ price: number }>(at(price + 1), 'GET', `/items/${sku}`)
    if (read.price !== price) stale++
  }
  return stale
}

describe('read-your-writes with lagging replicas', () => {
  it('without it, every read is stale while the replicas are paused', async () => {
    const apps = await shops(2, { ownWrites: false, maxLagMs: 600_000 })
    const { one, two } = cluster
    await Promise.all([one, two].map(pause))
    try {
      assert.equal(await pairs(apps, new Visitor(), 'stale', 10), 10)
    } finally {
      await Promise.all([one, two].map(resume))
    }
  })

  it('no read of own writes is stale on any of three instances, and replicas serve all other clients', async () => {
    const apps = await shops(3)
    let going = true
    /** A client that only reads. */
    const others = async (): Promise<void> => {
      const visitor = new Visitor()
      for (let index = 0; going; index++) {
        await visitor.send(apps[index % 3] as FastifyInstance, 'GET', '/items/a')
        await sleep(2)
      }
    }
    const background = others()
    const stale = await Promise.all(Array.from({ length: 10 }, (_, i) => pairs(apps, new Visitor(), `own-${i}`, 15)))
    going = false
    await background
    assert.equal(sum(stale), 0)
    const reads = await Promise.all(apps.map(async (app) => (await app.inject('/reads')).json<ReadCounts>()))
    assert.ok(sum(reads.flatMap(({ replicas }) => replicas)) > 0)
    assert.equal(sum(reads.map(({ primary }) => primary)), sum(reads.map(({ own }) => own)), 'only own reads are there')
  })

  it('replicas serve the writer again after they have replayed the write', async () => {
    const [app] = await shops(1, { waitMs: 10_000 })
    assert.ok(app)
    const visitor = new Visitor()
    await visitor.send(app, 'POST', '/items', { sku: 'later', price: 1 })
    assert.deepEqual(visitor.cookies, ['fleet.wal'])
    await caughtUp(cluster.primary, cluster.one)
    await caughtUp(cluster.primary, cluster.two)
    const before = await visitor.send<ReadCounts>(app, 'GET', '/reads')
    for (let i = 0; i < 10; i++) await visitor.send(app, 'GET', '/items/later')
    const after = await visitor.send<ReadCounts>(app, 'GET', '/reads')
    assert.equal(sum(after.replicas) - sum(before.replicas), 10)
    assert.equal(after.primary, before.primary)
  })

  it('waits for a replica up to waitMs', async () => {
    const [app] = await shops(1, { waitMs: 60_000 })
    assert.ok(app)
    assert.equal(await pairs([app], new Visitor(), 'patient', 3), 0)
    const { own, replicas } = (await app.inject('/reads')).json<ReadCounts>()
    assert.deepEqual([own, sum(replicas)], [0, 3])
  })

  it('reads go to the primary within the writing request; writes through $primary() count', async () => {
    const [app] = await shops(1)
    assert.ok(app)
    const visitor = new Visitor()
    await visitor.send(app, 'POST', '/items', { sku: 'same', price: 1 })
    for (let price = 2; price < 6; price++) {
      assert.deepEqual(await visitor.send(app, 'POST', '/same', { sku: 'same', price }), { price })
      assert.deepEqual(await visitor.send(app, 'GET', '/items/same'), { price })
    }
  })

  for (const place of ['before', 'after'] as const)
    it(`stores the position in an existing session, registered ${place} the database`, async () => {
      const [app] = await shops(1, { session: place })
      assert.ok(app)
      const visitor = new Visitor()
      await visitor.send(app, 'POST', '/login')
      assert.equal(await pairs([app], visitor, `session-${place}`, 6), 0)
      assert.deepEqual(visitor.cookies, ['fleet.sid'])
      // An empty session is not created for it.
      const outsider = new Visitor()
      assert.equal(await pairs([app], outsider, `stranger-${place}`, 2), 0)
      assert.deepEqual(outsider.cookies, ['fleet.wal'])
    })

  it('saves a session that the request changes only once; an unsaved one gets the cookie', async () => {
    const kept = new Map<string, object>()
    let sets = 0
    const store = {
      get: (id: string, done: (error: null, found: object | null) => void) => done(null, kept.get(id) ?? null),
      set(id: string, value: object, done: () => void) {
        sets++
        kept.set(id, structuredClone(value))
        done()
      },
      destroy: (_id: string, done: () => void) => done(),
    } as SessionStore
    const [app] = await shops(1, { session: 'before', store })
    assert.ok(app)
    const visitor = new Visitor()
    await visitor.send(app, 'POST', '/items', { sku: 'visited', price: 1 })
    let price = 1
    const visit = async (as: string): Promise<unknown> => {
      const before = sets
      const payload = { sku: 'visited', price: ++price, as }
      const response = await app.inject({ method: 'POST', url: '/visit', payload, headers: { cookie: visitor.header } })
      visitor.learn(response.headers['set-cookie'])
      assert.deepEqual(await visitor.send(app, 'GET', '/items/visited'), { price })
      return [response.statusCode, sets - before]
    }
    assert.deepEqual(await visit('json'), [200, 1])
    assert.deepEqual(await visit('text'), [200, 2])
    assert.deepEqual(await visit('failure'), [500, 0])
  })

  it('stores the position in a cookie when the session store is full', async () => {
    for (const as of ['json', 'text']) {
      const [app] = await shops(1, { session: 'before', anonymous: { perMinute: 1 } })
      assert.ok(app)
      const [first, second] = [new Visitor(), new Visitor()]
      await first.send(app, 'POST', '/items', { sku: 'crowded', price: 1 })
      for (const [visitor, name] of [
        [first, 'fleet.sid'],
        [second, 'fleet.wal'],
      ] as const) {
        const price = Math.ceil(Math.random() * 1e6)
        const payload = { sku: 'crowded', price, as }
        const reply = await app.inject({ method: 'POST', url: '/visit', payload })
        visitor.learn(reply.headers['set-cookie'])
        assert.ok(visitor.cookies.includes(name), visitor.cookies.join())
        assert.deepEqual(await visitor.send(app, 'GET', '/items/crowded'), { price })
      }
      assert.deepEqual(second.cookies, ['fleet.wal'])
    }
  })

  it('ignores a foreign cookie, and sets none after a read', async () => {
    const [app] = await shops(1)
    assert.ok(app)
    const visitor = new Visitor()
    await visitor.send(app, 'POST', '/items', { sku: 'forged', price: 1 })
    const forged = new Visitor()
    forged.learn(visitor.header.replace(/=./, '=x'))
    const { own } = await forged.send<ReadCounts>(app, 'GET', '/reads')
    await forged.send(app, 'GET', '/items/forged')
    assert.equal((await forged.send<ReadCounts>(app, 'GET', '/reads')).own, own)
    const plain = await app.inject('/items/a')
    assert.equal(plain.headers['set-cookie'], undefined)
  })

  it('warns once if browsers would discard its cookie, because it is Secure and the request came without TLS', async (t) => {
    const env = { SESSION_COOKIE_SECURE: 'true', TRUST_PROXY: 'loopback' }
    Object.assign(process.env, env)
    t.after(() => {
      for (const name of Object.keys(env)) delete process.env[name]
    })
    const [app] = await shops(1)
    assert.ok(app)
    const warn = t.mock.method(app.log, 'warn')
    const write = async (headers: Record<string, string>): Promise<void> => {
      const payload = { sku: 'secure', price: 1 }
      const { cookies } = await app.inject({ method: 'POST', url: '/items', headers, payload })
      assert.equal(cookies[0]?.secure, true)
    }
    const warnings = (): number =>
      warn.mock.calls.filter(({ arguments: [text] }) => /is Secure/.test(String(text))).length
    await write({ 'x-forwarded-proto': 'https' })
    assert.equal(warnings(), 0)
    await write({})
    await write({})
    assert.equal(warnings(), 1)
  })

  it('uses the latest position of several cookies, in any order', async () => {
    const [app] = await shops(1)
    assert.ok(app)
    const { one, two } = cluster
    await Promise.all([one, two].map(pause))
    try {
      const [older, newer] = [new Visitor(), new Visitor()]
      await older.send(app, 'POST', '/items', { sku: 'several', price: 1 })
      await newer.send(app, 'POST', '/items', { sku: 'several', price: 2 })
      const sent = ['fleet.wal=stale.sig', 'fleet.wal=', older.header, newer.header]
      for (const cookies of [sent, sent.toReversed()]) {
        const headers = { cookie: cookies.join('; ') }
        assert.equal((await app.inject({ url: '/items/several', headers })).json().price, 2)
      }
    } finally {
      await Promise.all([one, two].map(resume))
    }
  })

  it('reads only from the primary when the position after a write is unknown', async () => {
    const [app] = await shops(1)
    assert.ok(app)
    const routing = (app.database as unknown as { $routing(): { position: () => Promise<number> } }).$routing()
    Object.assign(routing, { position: () => Promise.reject(new Error('the connection is gone')) })
    const visitor = new Visitor()
    await visitor.send(app, 'POST', '/items', { sku: 'lost', price: 1 })
    assert.match(visitor.header, /=x\./)
    await visitor.send(app, 'GET', '/items/lost')
    assert.equal((await visitor.send<ReadCounts>(app, 'GET', '/reads')).own, 1)
  })
})
