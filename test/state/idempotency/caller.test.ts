import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { laterScopes, scopeOf, startedSession } from '../../../src/state/idempotency/scope.ts'

const id = 's'.repeat(16)
interface Given {
  headers?: Record<string, unknown>
  session?: object | null
  user?: object
  address?: string
}
const request = ({ headers = {}, session, user, address = '203.0.113.1' }: Given = {}) =>
  ({ headers, session, user, socket: { remoteAddress: address }, raw: {} }) as never
const reply = (cookies?: unknown) =>
  ({ getHeader: (name: string) => (name === 'set-cookie' ? cookies : undefined) }) as never
const options = { credentialHeaders: [] }
const scope = (given: Given, more: object = {}) => scopeOf(request(given), { ...options, ...more })
const withCookie = (cookie: string, sessionId: unknown = id, more: Given = {}): Given => ({
  ...more,
  headers: { cookie, ...more.headers },
  session: { sessionId },
})

describe('the caller of a request', () => {
  test('is its user, then its credentials, then its client', () => {
    const client = { by: 'client', id: 'client 203.0.113.1', owner: 'client 203.0.113.1', session: undefined }
    assert.deepEqual(scope({}), client)
    const user = { by: 'user', id: 'user ann', owner: 'user ann', session: undefined }
    assert.deepEqual(scope({ user: { sub: 'ann' }, headers: { authorization: 'x' } }), user)
    const { id: digest, ...credentials } = scope({ headers: { authorization: 'x' } })
    assert.deepEqual(credentials, { by: 'credentials', owner: 'client 203.0.113.1', session: undefined })
    assert.match(digest, /^credentials [\w-]{43}$/)
    assert.deepEqual(scope({}, { scope: () => 'acme' }), { ...client, by: 'custom', id: 'acme' })
  })

  test('differs with each of its credentials, and with the header that has them', () => {
    const both = { credentialHeaders: ['x-tenant'] }
    const ids = [
      scope({ headers: { authorization: 'x' } }, both),
      scope({ headers: { authorization: 'y' } }, both),
      scope({ headers: { 'x-api-key': 'x' } }, both),
      scope({ headers: { 'x-tenant': 'x' } }, both),
      scope({ headers: { authorization: 'x', 'x-api-key': 'x' } }, both),
      scope({ headers: { authorization: 'x', cookie: 'a=1' } }, both),
      scope(withCookie(`sid=${id}`), both),
      scope({ headers: { authorization: id } }, both),
      scope({ headers: { cookie: 'a=1' } }, both),
      scope({}, both),
    ].map(({ id }) => id)
    assert.equal(new Set(ids).size, ids.length)
    assert.equal(scope({ headers: { authorization: '' } }).by, 'client', 'an empty header names none')
    assert.equal(scope({ headers: { authorization: undefined } }).by, 'client', 'a hook removed its value')
    const inherited = Object.create({ authorization: 'x' })
    assert.equal(scope({ headers: inherited }).by, 'client')
  })

  test('has the session that its cookie names, which stands for its cookies', () => {
    const first = scope(withCookie(`a=1; sid=${id}.signature`))
    assert.deepEqual([first.by, first.session, first.owner], ['credentials', id, 'client 203.0.113.1'])
    assert.equal(scope(withCookie(`sid=${id}.signature; b=2`)).id, first.id)
    assert.equal(scope(withCookie(`sid=${'%73'.repeat(16)}`)).session, id, 'an encoded cookie')
    assert.equal(scope(withCookie('sid=other')).session, undefined, 'the session is new')
    assert.equal(scope({ session: { sessionId: id } }).session, undefined, 'without a cookie')
    const short = 's'.repeat(15)
    for (const odd of [short, 7, undefined, '']) assert.equal(scope(withCookie(`sid=${short}`, odd)).session, undefined)
  })
})

describe('a session that a response starts', () => {
  const started = (cookies: unknown, given: Given): unknown => startedSession(request(given), reply(cookies))

  test('has its id in a cookie of the response, and not in one of the request', () => {
    const fresh = { session: { sessionId: id } }
    assert.equal(started(`sid=${id}.x; Path=/`, fresh), id)
    assert.equal(started(['a=1', `sid=${id}.x`], fresh), id)
    assert.equal(started(`sid=${'%73'.repeat(16)}`, fresh), id)
    assert.equal(started('a=1', fresh), undefined)
    assert.equal(started(undefined, fresh), undefined)
    assert.equal(started(`sid=${id}.x`, withCookie(`sid=${id}.x`)), undefined, 'renewed')
    assert.equal(started(`sid=${id}.x`, withCookie('sid=gone')), id, 'in place of one that has ended')
    assert.equal(started(`sid=${id}.x`, { session: null }), undefined)
  })
})

describe('the later scopes of a request', () => {
  const later = (given: Given, first: object, cookies?: unknown, more: object = {}): [string, unknown][] => {
    const scopes = laterScopes(request(given), reply(cookies), { ...options, ...more }, first as never)
    return scopes.map(({ by, session }) => [by, session])
  }
  const guest = scope({})

  test('include the session that it started', () => {
    assert.deepEqual(later({ session: { sessionId: id } }, guest, `sid=${id}`), [['credentials', id]])
    assert.deepEqual(later({ session: { sessionId: id } }, guest), [], 'no cookie was sent')
  })

  test('include the user who logged in, with the old session and without', () => {
    const first = scope(withCookie(`sid=${id}`))
    const next = 'n'.repeat(16)
    const cookie = { cookie: `sid=${id}` }
    const login = { headers: cookie, session: { sessionId: next, userId: 'ann' } }
    assert.deepEqual(later(login, first, `sid=${next}`), [
      ['user', next],
      ['client', undefined],
    ])
    const token = { headers: { ...cookie, authorization: 'x' }, session: null, user: { sub: 'ann' } }
    assert.deepEqual(later(token, scope({ ...withCookie(`sid=${id}`), user: undefined })), [
      ['user', undefined],
      ['user', undefined],
    ])
  })

  test('include the client or the user after a logout', () => {
    const first = scope(withCookie(`sid=${id}`))
    const loggedOut = { headers: { cookie: `sid=${id}` }, session: null }
    const [one, two, ...more] = later(loggedOut, first)
    assert.deepEqual([one, two, more], [['client', undefined], ['client', undefined], []])
  })

  test('are none if nothing changed, and with the option `scope`', () => {
    const same = withCookie(`sid=${id}`)
    assert.deepEqual(later(same, scope(same)), [])
    assert.deepEqual(later({ user: { sub: 'ann' } }, scope({ user: { sub: 'ann' } })), [])
    assert.deepEqual(later({ address: '203.0.113.2' }, guest), [], 'of a client')
    const custom = { scope: () => 'acme' }
    assert.deepEqual(later({ session: { sessionId: id } }, scope({}, custom), `sid=${id}`, custom), [])
  })
})
