import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import { SecretToken } from '../../src/base/operator-access.ts'
import { type OperatorsOptions, operators } from '../../src/instance/operators/index.ts'
import { cookieName, SignIn } from '../../src/instance/operators/sign-in.ts'
import { linkLifetimeMs, Tickets } from '../../src/instance/operators/tickets.ts'
import { liveObjects } from '../helpers/live-objects.ts'
import { until } from '../helpers/until.ts'

const token = 'an-operator-token-of-more-than-32-bytes'
const failed = { code: 'FLEET_ERR_SIGN_IN_FAILED', statusCode: 401 }
const limited = { code: 'FLEET_ERR_RATE_LIMITED', statusCode: 429 }

/** A sign-in whose clock the test moves. */
function open(t: TestContext, sessionMs = 3_600_000) {
  let now = Date.parse('2026-01-01T00:00:00Z')
  t.mock.method(Date, 'now', () => now)
  const tickets = new Tickets(token)
  const signIn = new SignIn(new SecretToken(token, 'token'), tickets, sessionMs)
  signIn.addPath('/fleet')
  signIn.addPath('/metrics')
  const pass = (ms: number): void => {
    now += ms
  }
  const enter = (given: { token?: string; code?: string }, client = 'a'): Promise<string[]> =>
    signIn.signIn(client, given, false)
  const fail = async (times: number, client = 'a'): Promise<void> => {
    for (let i = 0; i < times; i++) await assert.rejects(enter({ token: 'wrong' }, client), failed)
  }
  return { signIn, tickets, pass, enter, fail }
}

describe('failed attempts to sign in', () => {
  it('are limited to ten in a minute, which begins with the first one', async (t) => {
    const { enter, fail, pass } = open(t)
    await fail(1)
    pass(10_500)
    await fail(9)
    await assert.rejects(enter({ token }), { ...limited, headers: { 'retry-after': '50' } })
    pass(49_499)
    await assert.rejects(enter({ token }), { ...limited, headers: { 'retry-after': '1' } })
    await enter({ token }, 'another client')
    pass(1)
    await fail(10)
    await assert.rejects(enter({ token }), limited)
  })

  it('are forgotten after a successful one', async (t) => {
    const { enter, fail } = open(t)
    for (let i = 0; i < 3; i++) {
      await fail(9)
      assert.equal((await enter({ token })).length, 2)
    }
  })

  it('are counted for 10,000 clients, the last to begin', async (t) => {
    const { enter, fail } = open(t)
    await fail(10)
    for (let i = 1; i < 10_000; i++) await enter({ token: 'wrong' }, String(i)).catch(() => undefined)
    await assert.rejects(enter({ token }), limited)
    await fail(1, 'one more')
    await enter({ token })
  })
})

describe('the cookie of a sign-in', () => {
  it('is sent to the paths of operators, and valid for its lifetime', async (t) => {
    const { signIn, enter, pass } = open(t, 90_500)
    const cookies = await enter({ token })
    const [, value = ''] = /^fleet_operator=([^;]+);/.exec(cookies[0] ?? '') ?? []
    const end = 'Max-Age=90; HttpOnly; SameSite=Strict'
    assert.deepEqual(cookies, [
      `${cookieName}=${value}; Path=/fleet; ${end}`,
      `${cookieName}=${value}; Path=/metrics; ${end}`,
    ])
    const verify = (cookie: string): boolean => signIn.verify({ headers: { cookie } })
    pass(90_499)
    assert.equal(verify(`${cookieName}=${value}`), true)
    pass(1)
    assert.equal(verify(`${cookieName}=${value}`), false)
    assert.equal(signIn.verify({ headers: {} }), false)
  })

  it('is Secure over TLS, and deleted from the same paths', async (t) => {
    const { signIn } = open(t)
    const [cookie = ''] = await signIn.signIn('a', { token }, true)
    assert.match(cookie, /; SameSite=Strict; Secure$/)
    assert.deepEqual(signIn.signOut(true), [
      'fleet_operator=; Path=/fleet; Max-Age=0; HttpOnly; SameSite=Strict; Secure',
      'fleet_operator=; Path=/metrics; Max-Age=0; HttpOnly; SameSite=Strict; Secure',
    ])
    assert.match(signIn.signOut(false)[0] ?? '', /; SameSite=Strict$/)
  })
})

describe('the code of a link', () => {
  it('is accepted once, until it expires, if it is younger than the process and lives for five minutes at most', async (t) => {
    const { tickets, enter, pass } = open(t)
    const old = tickets.issue('link', 60_000)
    await assert.rejects(enter({ code: old }), failed, 'issued when the process started')
    pass(1)
    const [code, late, long] = [linkLifetimeMs, 60_000, linkLifetimeMs + 1].map((ms) => tickets.issue('link', ms))
    await enter({ code })
    await assert.rejects(enter({ code }), failed)
    await assert.rejects(enter({ code: long }), failed)
    pass(59_999)
    await enter({ code: late })
    const other = tickets.issue('link', 1_000)
    pass(1_000)
    await assert.rejects(enter({ code: other }), failed)
    await assert.rejects(enter({ code }), failed, 'it is remembered until it expires')
  })

  it('is not kept in memory for ever after its use', async (t) => {
    const { tickets, enter, pass } = open(t)
    class Id {}
    const verify = () => ({ id: new Id() as string, issuedAt: Date.now(), expiresAt: Date.now() + 1_000 })
    Object.assign(tickets, { verify })
    for (let i = 0; i < 50; i++) {
      pass(1)
      await enter({ code: 'any' })
    }
    pass(1_000)
    await enter({ code: 'any' })
    await until(() => liveObjects(Id) <= 5, { what: 'the end of the codes' })
  })

  it('is consumed in the shared record if there is one, a token is not', async (t) => {
    const { signIn, tickets, enter } = open(t)
    const consumed: string[] = []
    signIn.consumeWith(async ({ id }) => consumed.push(id) === 1)
    await enter({ token })
    const [first, second] = [tickets.issue('link', 1_000), tickets.issue('link', 1_000)]
    await enter({ code: first })
    await assert.rejects(enter({ code: second }), failed)
    assert.deepEqual(consumed, [first.split('.')[2], second.split('.')[2]])
    await assert.rejects(enter({ token: 'wrong', code: tickets.issue('link', 1_000) }), failed, 'the token decides')
    await assert.rejects(enter({ code: tickets.issue('session', 1_000) }), failed)
    assert.equal(consumed.length, 2)
  })
})

async function build(t: TestContext, given: OperatorsOptions = { token }): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(operators, given)
  app.route({ method: ['GET', 'POST'], url: '/', handler: async (request) => app.operators.accessOf(request) })
  return app
}

describe('a request that a page of another site caused', () => {
  const access = async (app: FastifyInstance, method: 'GET' | 'POST', headers: object): Promise<string> =>
    (
      await app.inject({
        ...{ method, url: '/', headers: { 'sec-fetch-site': 'cross-site', ...headers } },
        payload: method === 'POST' ? '{}' : undefined,
      })
    ).body
  const link = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }

  it('is the operator’s with the token, or if a link was followed, and never a command', async (t) => {
    const app = await build(t)
    const bearer = { authorization: `Bearer ${token}` }
    const session = { cookie: `${cookieName}=${new Tickets(token).issue('session', 60_000)}` }
    assert.deepEqual(
      [await access(app, 'GET', bearer), await access(app, 'GET', { ...session, ...link })],
      ['operator', 'operator'],
    )
    assert.equal(await access(app, 'GET', session), 'denied')
    const json = { 'content-type': 'application/json' }
    for (const credential of [bearer, session])
      assert.equal(await access(app, 'POST', { ...credential, ...json, ...link }), 'unproven')
    const development = await build(t, {})
    assert.deepEqual(
      [await access(development, 'GET', link), await access(development, 'GET', {})],
      ['operator', 'denied'],
    )
    assert.equal(await access(development, 'POST', { ...json, ...link }), 'denied')
  })
})

describe('an address', () => {
  it('is a credential without a token, on direct connections with a host that no other name leads to', async (t) => {
    const access = async (given: OperatorsOptions, remoteAddress: string, headers: object): Promise<string> =>
      (await (await build(t, given)).inject({ url: '/', remoteAddress, headers: { ...headers } })).body
    const allow = { allow: ['203.0.113.0/24'], hosts: ['Ops.example'] }
    const proxied = { host: 'localhost', 'x-forwarded-for': '127.0.0.1' }
    for (const [given, address, headers, expected] of [
      [{}, '127.0.0.1', { host: 'localhost' }, 'operator'],
      [{}, '::1', { host: '127.0.0.1:3000' }, 'operator'],
      [{}, '127.0.0.1', proxied, 'denied'],
      [{}, '127.0.0.1', { host: 'shop.example' }, 'denied'],
      [{}, '127.0.0.1', { host: 'a b' }, 'denied'],
      [{}, '203.0.113.9', { host: 'localhost' }, 'denied'],
      [{ loopback: false }, '127.0.0.1', { host: 'localhost' }, 'denied'],
      [{ token }, '127.0.0.1', { host: 'localhost' }, 'denied'],
      [allow, '203.0.113.9', { host: 'localhost' }, 'operator'],
      [allow, '203.0.113.9', { host: '192.0.2.1' }, 'operator'],
      [allow, '203.0.113.9', { host: 'ops.example' }, 'operator'],
      [allow, '203.0.113.9', { host: 'shop.example' }, 'denied'],
      [allow, '203.0.113.9', { ...proxied, host: '192.0.2.1' }, 'denied'],
      [allow, '198.51.100.1', { host: '192.0.2.1' }, 'denied'],
      [allow, '127.0.0.1', { host: 'ops.example' }, 'denied'],
    ] as const)
      assert.equal(await access(given, address, headers), expected, JSON.stringify([given, address, headers]))
  })
})

describe('the sign-in page', () => {
  const offered = async (app: FastifyInstance, remoteAddress: string, headers = {}): Promise<boolean> =>
    (await app.inject({ url: '/offered', remoteAddress, headers })).json()
  const open = async (t: TestContext, given: OperatorsOptions): Promise<FastifyInstance> => {
    const app = await build(t, given)
    app.get('/offered', async (request) => app.operators.offersSignIn(request))
    return app
  }

  it('is for every client, or only for `allow` and direct connections from this machine', async (t) => {
    const all = await open(t, { token })
    assert.equal(await offered(all, '198.51.100.1'), true)
    const some = await open(t, { token, allow: ['203.0.113.0/24'] })
    const asked = ['203.0.113.9', '127.0.0.1', '::1', '198.51.100.1'].map((address) => offered(some, address))
    assert.deepEqual(await Promise.all(asked), [true, true, true, false])
    assert.equal(await offered(some, '127.0.0.1', { 'x-forwarded-for': '198.51.100.1' }), false)
    const strict = await open(t, { token, allow: ['203.0.113.0/24'], loopback: false })
    assert.equal(await offered(strict, '127.0.0.1'), false)
  })

  it('is for nobody without a token', async (t) => {
    assert.equal(await offered(await open(t, {}), '127.0.0.1'), false)
  })
})

describe('an instance in production without a token', () => {
  it('warns once it is ready, and one with a token does not', async (t) => {
    const { NODE_ENV } = process.env
    t.after(() => {
      if (NODE_ENV === undefined) delete process.env.NODE_ENV
      else process.env.NODE_ENV = NODE_ENV
    })
    const warnings = async (production: boolean, given: OperatorsOptions): Promise<number> => {
      process.env.NODE_ENV = production ? 'production' : 'test'
      const app = Fastify()
      const warn = t.mock.method(app.log, 'warn')
      await app.register(operators, given)
      const before = warn.mock.callCount()
      await app.ready()
      await app.close()
      const [line] = warn.mock.calls.map(({ arguments: [text] }) => String(text))
      if (line !== undefined) assert.match(line, /FLEET_ADMIN_TOKEN is not set/)
      return warn.mock.callCount() - before
    }
    assert.deepEqual([await warnings(true, {}), await warnings(true, { token }), await warnings(false, {})], [1, 0, 0])
  })
})
