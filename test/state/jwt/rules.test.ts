import assert from 'node:assert/strict'
import { describe, type TestContext, test } from 'node:test'
import type { FastifyRequest } from 'fastify'
import jsonwebtoken from 'jsonwebtoken'
import { KeyRing, keysFrom } from '../../../src/state/jwt/keys.ts'
import { MemoryTokenStore } from '../../../src/state/jwt/memory-store.ts'
import { Revocations } from '../../../src/state/jwt/revocations.ts'
import { type TokenRules, Tokens } from '../../../src/state/jwt/tokens.ts'
import { code, secret } from './contract.ts'

const startSeconds = 1_800_000_000
const day = 86_400

/** Tokens in memory, with a clock that the test sets in seconds after its start. */
function start(t: TestContext, rules: Partial<TokenRules> = {}) {
  t.mock.timers.enable({ apis: ['Date'], now: startSeconds * 1000 })
  const ring = new KeyRing(keysFrom([secret]))
  const revocations = new Revocations()
  let announced = 0
  let views = 0
  const view = { onRead: (): void => {} }
  const tokens = new Tokens({
    ring: () => ring,
    store: new MemoryTokenStore(),
    revocations,
    rules: {
      issuer: 'shop',
      clockToleranceSeconds: 5,
      lifetimes: { accessSeconds: 900, refreshSeconds: 3600 },
      refreshLeewayMs: 10_000,
      onOutage: 'reject',
      cacheSize: 100,
      ...rules,
    },
    refreshView: async () => {
      views++
      view.onRead()
    },
    announce: () => void announced++,
  })
  const { kid, algorithm } = ring.signing
  const sign = (claims: object, typ: string | null = 'at+jwt', crit?: string[]): string => {
    const header = { alg: algorithm, kid, typ: typ ?? undefined, ...(crit && { crit }) }
    const payload = { iss: 'shop', sub: 'ann', iat: startSeconds, exp: startSeconds + 60, ...claims }
    return jsonwebtoken.sign(payload, secret, { header })
  }
  return {
    tokens,
    revocations,
    sign,
    view,
    at: (seconds: number) => t.mock.timers.setTime((startSeconds + seconds) * 1000),
    counts: () => ({ announced, views }),
  }
}

const invalid = code('FLEET_ERR_TOKEN_INVALID')

describe('token types', () => {
  // A refresh token of 30 days is also rejected by its lifetime, which would hide a missing check of its type.
  for (const refreshSeconds of [600, day, 30 * day])
    test(`never accepts a refresh token of ${refreshSeconds} seconds as an access token`, async (t) => {
      const { tokens } = start(t, { lifetimes: { accessSeconds: 900, refreshSeconds } })
      const { accessToken, refreshToken } = await tokens.issue('ann')
      await assert.rejects(tokens.verify(refreshToken), invalid)
      await assert.rejects(tokens.refresh(accessToken), invalid)
      assert.equal(tokens.cached(refreshToken), undefined)
      assert.equal((await tokens.verify(accessToken)).sub, 'ann')
    })

  test('accepts access tokens of type at+jwt, JWT and without a type, and no others', async (t) => {
    const { tokens, sign } = start(t)
    for (const typ of ['at+jwt', 'JWT', null]) assert.equal((await tokens.verify(sign({}, typ))).sub, 'ann')
    for (const typ of ['rt+jwt', 'at+JWT', 'id+jwt', '']) await assert.rejects(tokens.verify(sign({}, typ)), invalid)
  })

  test('rejects a token with critical extensions', async (t) => {
    const { tokens, sign } = start(t)
    await assert.rejects(tokens.verify(sign({}, 'at+jwt', ['b64'])), invalid)
    await assert.rejects(tokens.verify(sign({}, 'at+jwt', [])), invalid)
  })

  test('rejects a refresh token without a session or a generation', async (t) => {
    const { tokens, sign } = start(t)
    await assert.rejects(tokens.refresh(sign({ gen: 0 }, 'rt+jwt')), invalid)
    await assert.rejects(tokens.refresh(sign({ sid: 'x' }, 'rt+jwt')), invalid)
    await assert.rejects(tokens.refresh(sign({ sid: 'x', gen: '0' }, 'rt+jwt')), invalid)
  })
})

describe('the lifetime of a token', () => {
  test('ends with its expiry and the clock tolerance, to the second', async (t) => {
    const { tokens, at } = start(t, { cacheSize: 0 })
    const { accessToken, refreshToken, expiresIn } = await tokens.issue('ann')
    assert.equal(expiresIn, 900)
    at(904)
    await tokens.verify(accessToken)
    at(905)
    await assert.rejects(tokens.verify(accessToken), code('FLEET_ERR_TOKEN_EXPIRED'))
    at(3599)
    await tokens.refresh(refreshToken)
    const late = await tokens.issue('ann')
    at(3599 + 3605)
    await assert.rejects(tokens.refresh(late.refreshToken), code('FLEET_ERR_TOKEN_EXPIRED'))
  })

  test('ends in the cache at the same second', async (t) => {
    const { tokens, at } = start(t)
    const { accessToken } = await tokens.issue('ann')
    await tokens.verify(accessToken)
    at(904.999)
    assert.equal(tokens.cached(accessToken)?.sub, 'ann')
    at(905)
    assert.equal(tokens.cached(accessToken), undefined)
  })

  test('is not that of a cached token with the same signature', async (t) => {
    const { tokens } = start(t)
    const { accessToken } = await tokens.issue('ann')
    await tokens.verify(accessToken)
    const [, ...rest] = accessToken.split('.')
    for (const other of [`x${accessToken}`, accessToken.slice(-24), ['e30', ...rest].join('.')])
      assert.equal(tokens.cached(other), undefined)
    await assert.rejects(tokens.verify(`x${accessToken}`), invalid)
  })

  test('is a day at most, or `accessTtlMs` if that is longer', async (t) => {
    const { tokens, sign } = start(t)
    await tokens.verify(sign({ exp: startSeconds + day }))
    await assert.rejects(tokens.verify(sign({ exp: startSeconds + day + 1 })), invalid)
  })

  test('may be that of `accessTtlMs`, beyond a day', async (t) => {
    const { tokens, sign } = start(t, { lifetimes: { accessSeconds: 2 * day, refreshSeconds: day } })
    await tokens.verify(sign({ exp: startSeconds + 2 * day }))
    await assert.rejects(tokens.verify(sign({ exp: startSeconds + 2 * day + 1 })), invalid)
  })
})

describe('issuer and audience', () => {
  const accepts = async (t: TestContext, rules: Partial<TokenRules>, claims: object): Promise<boolean> => {
    const { tokens, sign } = start(t, rules)
    return tokens.verify(sign(claims)).then(
      () => true,
      (error) => !invalid(error),
    )
  }
  for (const [what, rules, claims, expected] of [
    ['the right issuer', {}, {}, true],
    ['another issuer', {}, { iss: 'other' }, false],
    ['no issuer', {}, { iss: undefined }, false],
    ['no issuer, where refresh tokens may have none', { refreshesWithoutIssuer: true }, { iss: undefined }, false],
    ['any issuer where none is required', { issuer: undefined }, { iss: 'other' }, true],
    ['the right audience', { audience: ['api', 'admin'] }, { aud: 'admin' }, true],
    ['one right audience of two', { audience: 'api' }, { aud: ['x', 'api'] }, true],
    ['another audience', { audience: 'api' }, { aud: 'web' }, false],
    ['no audience', { audience: 'api' }, {}, false],
    ['the right audience and another issuer', { audience: 'api' }, { aud: 'api', iss: 'other' }, false],
    ['another audience and no required issuer', { audience: 'api', issuer: undefined }, { aud: 'web' }, false],
  ] as const)
    test(`${expected ? 'accepts' : 'rejects'} an access token with ${what}`, async (t) =>
      assert.equal(await accepts(t, rules, claims), expected))

  test('accepts a refresh token without an issuer only where that is permitted, and none of another issuer', async (t) => {
    const { tokens, sign } = start(t, { refreshesWithoutIssuer: true })
    const unknown = code('FLEET_ERR_TOKEN_REVOKED') // It was read, and its session does not exist.
    await assert.rejects(tokens.refresh(sign({ iss: undefined, sid: 'x', gen: 0 }, 'rt+jwt')), unknown)
    await assert.rejects(tokens.refresh(sign({ iss: 'other', sid: 'x', gen: 0 }, 'rt+jwt')), invalid)
  })

  test('rejects a refresh token without an issuer where one is required', async (t) => {
    const { tokens, sign } = start(t)
    await assert.rejects(tokens.refresh(sign({ iss: undefined, sid: 'x', gen: 0 }, 'rt+jwt')), invalid)
  })
})

describe('the leeway of a refresh', () => {
  const request = (ip: string, agent: string) =>
    ({
      ip,
      raw: { socket: { remoteAddress: ip } },
      socket: { remoteAddress: ip },
      headers: { 'user-agent': agent },
    }) as unknown as FastifyRequest

  test('ends at the millisecond, and an earlier repetition does not extend it', async (t) => {
    const { tokens, at } = start(t)
    const { refreshToken } = await tokens.issue('ann')
    const pair = await tokens.refresh(refreshToken)
    at(9.999)
    assert.deepEqual(await tokens.refresh(refreshToken), pair)
    at(10)
    await assert.rejects(tokens.refresh(refreshToken), code('FLEET_ERR_TOKEN_REUSED'))
    await assert.rejects(tokens.verify(pair.accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
  })

  for (const [what, ip, agent] of [
    ['address', '10.0.0.2', 'curl'],
    ['User-Agent', '10.0.0.1', 'browser'],
  ] as const)
    test(`is not granted to a client with another ${what}`, async (t) => {
      const { tokens } = start(t)
      const { refreshToken } = await tokens.issue('ann')
      const pair = await tokens.refresh(refreshToken, request('10.0.0.1', 'curl'))
      assert.deepEqual(await tokens.refresh(refreshToken, request('10.0.0.1', 'curl')), pair)
      await assert.rejects(tokens.refresh(refreshToken, request(ip, agent)), code('FLEET_ERR_TOKEN_REUSED'))
      await assert.rejects(tokens.refresh(pair.refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
    })

  test('is for the last generation only', async (t) => {
    const { tokens } = start(t)
    const first = await tokens.issue('ann')
    const second = await tokens.refresh(first.refreshToken)
    await tokens.refresh(second.refreshToken)
    await assert.rejects(tokens.refresh(first.refreshToken), code('FLEET_ERR_TOKEN_REUSED'))
  })
})

describe('revocation', () => {
  const ends = startSeconds + 500

  test('by id affects that token only, by session that session only, by subject that subject only', () => {
    const revocations = new Revocations()
    const claims = { sub: 'ann', iat: startSeconds, exp: ends, jti: 'j', sid: 's' }
    const has = (more: object) => revocations.has({ ...claims, ...more })
    for (const [kind, id, other] of [
      ['token', 'j', { jti: 'k' }],
      ['session', 's', { sid: 't' }],
      ['subject', 'ann', { sub: 'bob' }],
    ] as const) {
      const before = new Revocations()
      assert.equal(before.has(claims), false)
      before.add({ kind, id, cutoff: startSeconds, until: ends })
      assert.equal(before.has(claims), true, kind)
      assert.equal(before.has({ ...claims, ...other }), false, `${kind} of another`)
    }
    revocations.add({ kind: 'token', id: 's', cutoff: 0, until: ends })
    revocations.add({ kind: 'session', id: 'j', cutoff: 0, until: ends })
    assert.equal(has({}), false, 'an id of another kind')
  })

  test('of a subject includes its second and nothing later, and a smaller cut-off never replaces a larger one', () => {
    const revocations = new Revocations()
    const has = (iat: number) => revocations.has({ sub: 'ann', iat, exp: ends })
    revocations.add({ kind: 'subject', id: 'ann', cutoff: startSeconds, until: ends })
    assert.deepEqual([has(startSeconds - 1), has(startSeconds), has(startSeconds + 1)], [true, true, false])
    revocations.add({ kind: 'subject', id: 'ann', cutoff: startSeconds - 10, until: ends - 10 })
    assert.equal(has(startSeconds), true)
    assert.equal(revocations.size, 1)
  })

  for (const [accessSeconds, life] of [
    [900, day],
    [2 * day, 2 * day],
  ] as const)
    test(`of a subject lasts ${life} s if access tokens last ${accessSeconds} s, and longer for slow clocks`, async (t) => {
      const { tokens, revocations, at } = start(t, { lifetimes: { accessSeconds, refreshSeconds: 3600 } })
      await tokens.revokeAll('ann')
      for (const [seconds, lasts] of [
        [life + 65, true],
        [life + 125, false],
      ] as const) {
        at(seconds)
        await tokens.revokeId('any')
        assert.equal(revocations.has({ sub: 'ann', iat: startSeconds, exp: 0 }), lasts)
      }
    })

  test('by id lasts until the token expires, and never longer than a token can live', async (t) => {
    const { tokens, revocations, at } = start(t)
    await tokens.revokeId('soon', startSeconds + 60)
    await tokens.revokeId('far', Number.MAX_SAFE_INTEGER)
    const left = async (seconds: number): Promise<string[]> => {
      at(seconds)
      await tokens.revokeId('any')
      return ['soon', 'far'].filter((jti) => revocations.has({ sub: 'ann', jti, iat: startSeconds, exp: 0 }))
    }
    assert.deepEqual([await left(120), await left(190), await left(3 * day)], [['soon', 'far'], ['far'], []])
  })

  test('reaches a token that is in the cache', async (t) => {
    const { tokens, counts } = start(t)
    const { accessToken } = await tokens.issue('ann')
    const { sid } = await tokens.verify(accessToken)
    assert.ok(tokens.cached(accessToken))
    await tokens.revoke({ sub: 'ann', sid: String(sid) })
    assert.equal(tokens.cached(accessToken), undefined)
    await assert.rejects(tokens.verify(accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
    assert.equal(counts().announced, 1)
  })

  test('of an unknown session or of the session of another subject changes nothing', async (t) => {
    const { tokens, counts } = start(t)
    const { accessToken } = await tokens.issue('ann')
    const { sid } = await tokens.verify(accessToken)
    await tokens.revoke({ sub: 'bob', sid: String(sid) })
    assert.equal((await tokens.verify(accessToken)).sub, 'ann')
    assert.equal(counts().announced, 0)
  })

  for (const onOutage of ['reject', 'allow'] as const)
    test(`that is not known up to now ${onOutage === 'reject' ? 'is read first' : 'is not awaited'} with onOutage '${onOutage}'`, async (t) => {
      const { tokens, revocations, counts } = start(t, { onOutage })
      const { accessToken } = await tokens.issue('ann')
      revocations.knownUntil = startSeconds * 1000 + 1
      await tokens.verify(accessToken)
      assert.ok(tokens.cached(accessToken))
      assert.equal(counts().views, 0)
      revocations.knownUntil = startSeconds * 1000
      assert.equal(tokens.cached(accessToken) === undefined, onOutage === 'reject')
      await tokens.verify(accessToken)
      assert.equal(counts().views, onOutage === 'reject' ? 1 : 0)
    })

  test("that is not known up to now is read first with onOutage 'reject', and applies to the token", async (t) => {
    const { tokens, revocations, view } = start(t)
    const { accessToken } = await tokens.issue('ann')
    await tokens.verify(accessToken)
    revocations.knownUntil = startSeconds * 1000
    view.onRead = () => revocations.add({ kind: 'subject', id: 'ann', cutoff: startSeconds, until: ends })
    await assert.rejects(tokens.verify(accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
  })
})
