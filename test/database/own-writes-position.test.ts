import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { database, type OwnWritesOptions } from '../../src/database/index.ts'
import { fakeRouter, read, write } from './fake-servers.ts'

const secret = 's'.repeat(32)
const start = Date.parse('2026-01-01T00:00:00Z')

/** An app whose replica is behind all writes, and whose clock the test sets. */
async function open(t: TestContext, ownWrites: OwnWritesOptions = { secret }, session?: object) {
  let now = start
  let uptime = 1_000
  t.mock.method(Date, 'now', () => now)
  t.mock.method(performance, 'now', () => uptime)
  const { primary, replicas, router } = await fakeRouter(1, { waitMs: 0 })
  primary.position = '0/6000'
  const client = Object.assign(primary, { $routing: () => router, $primary: () => primary })
  const app = Fastify()
  t.after(() => app.close())
  if (session) app.decorateRequest('session', { getter: () => session as never })
  await app.register(database, { client: client as never, ownWrites })
  app.post('/write', () => router.route(write))
  app.post('/write-then-read', async () => {
    await router.route(write)
    return { server: await router.route(read) }
  })
  app.post('/write-then-raw', async () => {
    await router.write({ action: '$executeRaw', clientMethod: '$executeRaw' })
    return { server: await router.readLate(read), own: await router.route(read) }
  })
  app.post('/slow', async ({ query }) => {
    await router.route(write)
    uptime += Number((query as { ms: string }).ms)
    return { server: await router.route(read) }
  })
  app.get('/read', async () => ({ server: await router.route(read) }))
  const at = (ms: number): void => {
    now = start + ms
  }
  return { app, primary, replica: replicas[0], router, at }
}

const serverOf = async (app: FastifyInstance, cookie?: string): Promise<string> =>
  (await app.inject({ url: '/read', headers: cookie === undefined ? {} : { cookie } })).json().server

async function cookieOf(app: FastifyInstance): Promise<string> {
  const { cookies } = await app.inject({ method: 'POST', url: '/write' })
  return `${cookies[0]?.name}=${cookies[0]?.value}`
}

describe("a client's own writes", () => {
  it('are read from the primary in the same request, even by a client without a cookie', async (t) => {
    const { app } = await open(t)
    assert.equal(await serverOf(app), 'replica 1')
    const response = await app.inject({ method: 'POST', url: '/write-then-read' })
    assert.deepEqual(response.json(), { server: 'primary' })
  })

  it('are read from the primary after a body that arrives in several packets', async (t) => {
    const { app } = await open(t)
    const url = await app.listen({ host: '127.0.0.1', port: 0 })
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify('x'.repeat(500_000))
    const response = await fetch(`${url}/write-then-read`, { method: 'POST', headers, body })
    assert.deepEqual(await response.json(), { server: 'primary' })
  })

  it('include those of hooks that run before the body is read', async (t) => {
    const { app, router } = await open(t)
    app.addHook('onRequest', async ({ query }) => {
      if ((query as { hook?: string }).hook) await router.route(write)
    })
    const { cookies, ...response } = await app.inject({ url: '/read?hook=1' })
    assert.deepEqual([response.json(), cookies[0]?.name], [{ server: 'primary' }, 'fleet.wal'])
    assert.equal(await serverOf(app), 'replica 1')
  })

  it('include raw statements and $primary(), and do not bind $replica()', async (t) => {
    const { app } = await open(t)
    const response = await app.inject({ method: 'POST', url: '/write-then-raw' })
    assert.deepEqual(response.json(), { server: 'replica 1', own: 'primary' })
    assert.equal(response.cookies[0]?.name, 'fleet.wal')
  })

  it('are read by other clients and by background jobs from any replica', async (t) => {
    const { app, router } = await open(t)
    await cookieOf(app)
    assert.equal(await serverOf(app), 'replica 1')
    assert.equal(await router.route(read), 'replica 1')
  })

  it('are remembered for keepMs in the same request, and not longer', async (t) => {
    for (const [ms, server] of [
      [60_000, 'primary'],
      [60_001, 'replica 1'],
    ] as const) {
      const { app } = await open(t)
      const response = await app.inject({ method: 'POST', url: `/slow?ms=${ms}` })
      assert.deepEqual(response.json(), { server }, `${ms} ms`)
      t.mock.restoreAll()
    }
  })

  it('are remembered by a cookie, however much the clocks of the instances differ', async (t) => {
    const { app, at } = await open(t)
    const cookie = await cookieOf(app)
    for (const ms of [0, 60_001, -60_001, 3_600_000, -3_600_000]) {
      at(ms)
      assert.equal(await serverOf(app, cookie), 'primary', `${ms} ms`)
    }
  })

  it('of an unknown position are read from a replica again after a read from the primary', async (t) => {
    const { app, replica, router } = await open(
      t,
      { secret },
      { a: 1, walPosition: `x.${(start / 1000).toString(36)}` },
    )
    assert.ok(replica)
    replica.position = '0/6000'
    await router.set.replicas[0]?.ask()
    assert.deepEqual([await serverOf(app), await serverOf(app)], ['primary', 'replica 1'])
  })

  it('are read from a replica once it has replayed their very last byte', async (t) => {
    const { app, replica, router } = await open(t)
    const cookie = await cookieOf(app)
    assert.ok(replica)
    for (const [position, server] of [
      ['0/5FFF', 'primary'],
      ['0/6000', 'replica 1'],
    ] as const) {
      replica.position = position
      await router.set.replicas[0]?.ask()
      assert.equal(await serverOf(app, cookie), server, position)
    }
  })

  it('are kept in a cookie for scripts to leave alone, for keepMs in whole seconds', async (t) => {
    const { app } = await open(t, { secret, keepMs: 1_001, cookieName: 'seen' })
    const { cookies } = await app.inject({ method: 'POST', url: '/write' })
    assert.equal(cookies.length, 1)
    const [{ name, value, path, httpOnly, sameSite, maxAge } = {}] = cookies as Partial<(typeof cookies)[0]>[]
    assert.deepEqual([name, path, httpOnly, sameSite, maxAge], ['seen', '/', true, 'Lax', 2])
    const text = `${(0x6000).toString(36)}.${(start / 1000).toString(36)}`
    const mac = createHmac('sha256', secret).update(`wal:${text}`).digest('base64url').slice(0, 22)
    assert.equal(value, `${text}.${mac}`)
  })

  it('need a valid signature in the cookie, of any secret of the list', async (t) => {
    const [first, second] = ['a'.repeat(32), 'b'.repeat(32)]
    const signers = await Promise.all(
      [first, second, secret].map(async (one) => cookieOf((await open(t, { secret: one })).app)),
    )
    const { app } = await open(t, { secret: [first, second] })
    const servers = await Promise.all(signers.map((cookie) => serverOf(app, cookie)))
    assert.deepEqual(servers, ['primary', 'primary', 'replica 1'])
    const own = await cookieOf(app)
    assert.equal(own, signers[0], 'the first secret signs')
    const [text = '', mac = ''] = own.split(/\.(?=[^.]*$)/)
    const plain = createHmac('sha256', first).update(text.slice('fleet.wal='.length)).digest('base64url').slice(0, 22)
    for (const forged of [text, `${text}.`, `${text}.${mac.slice(1)}`, `${text}.${mac}A`, `${text}.${plain}`])
      assert.equal(await serverOf(app, forged), 'replica 1', forged)
  })

  it('cost one query for the position per writing request, and none per reading one', async (t) => {
    const { app, primary } = await open(t)
    const before = primary.asked
    await serverOf(app)
    assert.equal(primary.asked, before)
    await app.inject({ method: 'POST', url: '/write-then-read' })
    assert.equal(primary.asked, before + 1)
  })
})

describe('the secret of the cookie', () => {
  it('has at least 32 bytes, each of a list', async (t) => {
    const weak = { code: 'FLEET_ERR_SECRET_WEAK' }
    await assert.rejects(open(t, { secret: 's'.repeat(31) }), weak)
    await assert.rejects(open(t, { secret: [secret, 's'.repeat(31)] }), weak)
    await open(t, { secret: 'é'.repeat(16) })
  })

  it('is required in production', async (t) => {
    const { NODE_ENV } = process.env
    process.env.NODE_ENV = 'production'
    t.after(() => {
      if (NODE_ENV === undefined) delete process.env.NODE_ENV
      else process.env.NODE_ENV = NODE_ENV
    })
    await assert.rejects(open(t, {}), { code: 'FLEET_ERR_SECRET_MISSING' })
    await open(t, { secret })
  })
})
