import assert from 'node:assert/strict'
import { describe, it, type TestContext } from 'node:test'
import type { CheckContext } from '../../../src/cli/smoke/context.ts'
import { type Login, sessions } from '../../../src/cli/smoke/sessions.ts'
import type { TargetRequest, TargetResponse } from '../../../src/cli/target.ts'
import { context, from, inTurn, recorder, target } from './stand-ins.ts'

const login: Login = { user: 'me@x', password: 'secret', loginPath: '/in', mePath: '/me', logoutPath: '/out' }
const cookie = 'sid=0123456789abcdef'
const token = 'aaaaaaaaaa.bbbbbbbbbb.cccccccccc'

interface App {
  login: Partial<TargetResponse>
  /** Whether this instance accepts the credentials. */
  accepts(headers: Record<string, string>, instance: string): boolean
  user(instance: string): unknown
  logout: Partial<TargetResponse>
  loggedOut: boolean
  readonly asked: { path: string; request: TargetRequest }[]
}

const app = (given: Partial<App> = {}): App => ({
  login: { cookies: ['route=1', cookie], json: { accessToken: token } },
  accepts(headers) {
    return !this.loggedOut && (headers.cookie === cookie || headers.authorization === `Bearer ${token}`)
  },
  user: () => ({ user: { email: 'me@x' } }),
  logout: {},
  loggedOut: false,
  asked: [],
  ...given,
})

/** Three instances in turn behind a front. @param required whether the verb has --sessions */
async function run(
  given: App,
  { required = false, ...more }: Partial<CheckContext> & { required?: boolean } = {},
): Promise<string[]> {
  const { results, said } = recorder()
  const next = inTurn(3)
  const respond = (path: string, request: TargetRequest, instanceId: string): Partial<TargetResponse> => {
    given.asked.push({ path, request })
    const { headers = {} } = request
    if (path === '/in') return given.login
    if (path === '/out') {
      given.loggedOut = true
      return given.logout
    }
    return given.accepts(headers, instanceId)
      ? { instanceId, json: given.user(instanceId) }
      : { status: 401, instanceId }
  }
  const front = target((path, request) => respond(path, request, next()))
  await sessions(context({ front, sample: from({ a: 1, b: 1, c: 1 }), ...more }), login, required, results)
  return said()
}

/** A clock that only this test moves: half a second for each look. */
function quickClock(t: TestContext): void {
  let now = 0
  t.mock.method(performance, 'now', () => (now += 500))
}

describe('sessions', () => {
  it('pass when cookie and token are one user on every instance until the logout, and forged ones are rejected', async () => {
    const given = app()
    assert.deepEqual(await run(given), [
      'pass /me without a login: 401',
      'pass the session is me@x on 3 instances: a, b, c',
      'pass the token is me@x on 3 instances: a, b, c',
      'pass rejected with 401: a tampered cookie, a tampered token, a token with `alg: none`',
      'pass after the logout every instance rejects the session',
      'pass every instance rejects the token within 1 s of the logout',
    ])
    assert.deepEqual(given.asked[0], {
      path: '/in',
      request: { method: 'POST', body: { email: 'me@x', password: 'secret' } },
    })
    assert.deepEqual(given.asked[1], { path: '/me', request: { headers: {} } })
    const forged = given.asked.map(({ request: { headers = {} } }) => headers.cookie ?? headers.authorization)
    const none = `${Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')}.bbbbbbbbbb.`
    for (const each of ['sid=01234567A9abcdef', 'Bearer aaaaaaaaaa.bbbbbbbbbb.ccAccccccc', `Bearer ${none}`])
      assert.ok(forged.includes(each), each)
    const [out] = given.asked.filter(({ path }) => path === '/out')
    assert.deepEqual(out?.request, { method: 'POST', headers: { cookie, authorization: `Bearer ${token}` } })
  })

  it('need an account: a login that fails is reported with its cause, or skipped without a login', async () => {
    const failed = (status: number, required = true) => run(app({ login: { status } }), { required })
    assert.deepEqual(await failed(404), ['fail POST /in: 1 × 404', '→ pass --login-path'])
    assert.deepEqual(await failed(404, false), ['skip POST /in: 1 × 404; no login to test', '→ pass --login-path'])
    assert.deepEqual(await failed(401, false), [
      'fail POST /in: 1 × 401 as me@x',
      '→ pass --user and --password of an account',
    ])
    assert.deepEqual(await failed(429), ['fail POST /in: 1 × 429', '→ the front limits logins; try again later'])
  })

  it('fail when a client without a login is accepted', async () => {
    const said = await run(app({ accepts: () => true }))
    assert.equal(said[0], 'fail /me without a login: 1 × 200; it should be 401')
    assert.ok(
      said.includes(
        'fail not rejected with 401: a tampered cookie (200), a tampered token (200), a token with `alg: none` (200)',
      ),
    )
    const hidden = await run(app({ accepts: (headers) => headers.cookie === cookie }))
    assert.equal(hidden[0], 'pass /me without a login: 401')
  })

  it('fail when an instance rejects them, or knows another user', async () => {
    const rejected = await run(app({ accepts: ({ cookie: sent }, instance) => sent === cookie && instance !== 'b' }))
    assert.match(rejected[1] ?? '', /^fail the session was rejected by b: 1 of 3 \(1 × 401\)$/)
    assert.equal(rejected[2], '→ set the same secrets and REDIS_URL on each instance')
    const mixed = await run(app({ user: (instance) => ({ email: instance === 'c' ? 'other@x' : 'me@x' }) }))
    assert.match(mixed[1] ?? '', /^fail the session is not the same user everywhere: (me@x, other@x|other@x, me@x)$/)
    const nameless = await run(app({ user: () => ({ nothing: 1 }) }))
    assert.equal(nameless[1], 'fail the session is not the same user everywhere: undefined')
  })

  it('find the user under its usual names', async () => {
    for (const user of [
      { username: 'u' },
      { id: 7 },
      { sub: 'u' },
      { name: 'u' },
      { user: { id: 7 } },
      { user: 3, email: 'u' },
    ]) {
      const said = await run(app({ user: () => user }))
      assert.match(said[1] ?? '', /^pass the session is [u7] on 3 instances/, JSON.stringify(user))
    }
  })

  it('find the token at the top or one level below', async () => {
    for (const json of [
      { access_token: token },
      { token },
      { jwt: token },
      { tokens: { accessToken: token } },
      { data: { token } },
    ]) {
      const said = await run(app({ login: { cookies: [cookie], json } }))
      assert.ok(
        said.some((line) => line.startsWith('pass the token is me@x')),
        JSON.stringify(json),
      )
    }
    const without = await run(app({ login: { cookies: [cookie], json: { accessToken: 3 } } }))
    assert.equal(without[2], 'skip the login returns no token')
    assert.equal(without[3], 'pass rejected with 401: a tampered cookie')
    const opaque = await run(app({ login: { cookies: [cookie], json: { token: 'opaque' } } }))
    assert.ok(opaque.includes('pass rejected with 401: a tampered cookie'))
  })

  it('are skipped without a cookie of the login, after as many tries as may reach an instance that knows it', async () => {
    const given = app({ login: { cookies: ['route=1'], json: {} } })
    const said = await run(given)
    assert.deepEqual(said.slice(1), ['skip the login sets no session cookie', 'skip the login returns no token'])
    assert.equal(given.asked.length, 2 + 36)
    let tries = 0
    const late = app({ accepts: ({ cookie: sent }) => sent === cookie && ++tries > 20 })
    assert.ok((await run(late)).some((line) => /^(pass|fail) the session/.test(line)))
  })

  it('are skipped where a sticky front reaches too few instances, unless addresses are given', async () => {
    const given = () => app({ login: { cookies: [cookie], json: {} } })
    const front = target((path, request) => {
      if (path === '/in') return given().login
      return { instanceId: 'a', ...(request.headers?.cookie === cookie ? { json: { id: 1 } } : { status: 401 }) }
    })
    const { results, said } = recorder()
    const sample = from({ a: 1, b: 1 })
    await sessions(context({ front, sample }), login, true, results)
    assert.deepEqual(said().slice(1, 3), [
      'skip the session reached 1 of 2 instances in 24 requests',
      '→ the front is sticky: pass the address of each instance (--instance)',
    ])
    const other = recorder()
    const direct = [target(({ length }) => ({ instanceId: 'b', json: { id: 1 }, ms: length }))]
    await sessions(context({ front, sample, direct }), login, true, other.results)
    assert.equal(other.said()[1], 'pass the session is 1 on 2 instances: a, b')
  })

  it('fail when the session outlives the logout, and mention a token that does', async (t) => {
    quickClock(t)
    const forever = await run(
      app({ accepts: (headers) => headers.cookie === cookie || headers.authorization === `Bearer ${token}` }),
    )
    assert.deepEqual(forever.slice(-2), [
      'fail after the logout 3 requests of 3 were accepted',
      'info the token stays valid after the logout until it expires',
    ])
    const refused = await run(app({ logout: { status: 405 } }))
    assert.equal(refused.at(-1), 'skip POST /out: 1 × 405; the session remains until it expires')
  })

  it('pass a token that is revoked within a second', async (t) => {
    t.mock.method(performance, 'now', () => 0)
    let after = 0
    const given = app({
      accepts(headers) {
        if (headers.cookie === cookie) return !this.loggedOut
        return headers.authorization === `Bearer ${token}` && (!this.loggedOut || ++after < 5)
      },
    })
    assert.equal((await run(given)).at(-1), 'pass every instance rejects the token within 1 s of the logout')
  })
})
