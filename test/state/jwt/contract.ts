import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import type { FastifyInstance } from 'fastify'
import type { Cluster, Redis } from 'ioredis'
import jsonwebtoken from 'jsonwebtoken'
import { FleetError, type FleetErrorCode } from '../../../src/base/errors.ts'
import type { JwtOptions } from '../../../src/state/jwt/index.ts'
import { keysFrom } from '../../../src/state/jwt/keys.ts'
import { until } from '../../helpers/until.ts'

/** The secret of every app in the contract. */
export const secret = 'a secret of these tests, long enough for HS256'
const kidOf = (text: string): string => keysFrom([text])[0]?.kid ?? ''

/** Everything that is stored about tokens: keys in Redis, entries of the log, and revocations in memory. */
async function stored(app: FastifyInstance): Promise<unknown> {
  const { redis } = app
  const nodes = redis?.isCluster ? (redis as Cluster).nodes('master') : redis ? [redis as Redis] : []
  const keys = (await Promise.all(nodes.map((node) => node.keys(`${app.fleet.name}:jwt-*`)))).flat().sort()
  const log = redis ? await redis.zrange(app.redisKey('jwt-revoked', 'log'), 0, '-1') : []
  const metric = await app.metrics?.getSingleMetric('fleet_jwt_revocations')?.get()
  return { keys, log: log.sort(), revocations: metric?.values[0]?.value }
}

export const code = (expected: FleetErrorCode) => (error: unknown) =>
  error instanceof FleetError && error.code === expected

/** Starts an instance of the fleet with this name, or of one that all tests share. */
type Build = (options?: JwtOptions, name?: string) => Promise<FastifyInstance>

let fleets = 0
/** For tests that look at everything stored: keys of other tests may expire meanwhile. */
const newFleet = (): string => `tokens-${fleets++}`

/** The contract of `app.tokens`, for every store. */
export function contract(engine: string, build: Build): void {
  describe(`tokens in ${engine}`, () => {
    const apps: FastifyInstance[] = []
    after(() => Promise.all(apps.map((app) => app.close())))
    const start: Build = async (options, name) => {
      const app = await build(options, name)
      app.get('/me', { preHandler: app.authenticate }, (request) => request.user)
      apps.push(app)
      return app
    }
    const me = (app: FastifyInstance, token: string) =>
      app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })

    test('accepts an issued token, at first and from the cache', async () => {
      const app = await start({ issuer: 'shop', audience: ['api', 'admin'] })
      const { accessToken, expiresIn, tokenType } = await app.tokens.issue('ann', { role: 'buyer' })
      assert.deepEqual({ expiresIn, tokenType }, { expiresIn: 900, tokenType: 'Bearer' })
      for (const _ of [1, 2]) {
        const response = await me(app, accessToken)
        assert.equal(response.statusCode, 200)
        const { sub, role, iss, aud, exp, iat } = response.json()
        assert.deepEqual({ sub, role, iss, aud }, { sub: 'ann', role: 'buyer', iss: 'shop', aud: ['api', 'admin'] })
        assert.equal(exp - iat, 900)
      }
    })

    test('rejects a request without a token, or with another scheme, with 401 and no details', async () => {
      const app = await start()
      for (const authorization of [undefined, '', 'Basic YTpi', 'Bearer', 'Bearers x']) {
        const response = await app.inject({ url: '/me', headers: authorization === undefined ? {} : { authorization } })
        assert.equal(response.statusCode, 401)
        assert.equal(response.json().code, 'FLEET_ERR_TOKEN_MISSING')
        assert.equal(response.headers['www-authenticate'], 'Bearer realm="fleet"')
      }
    })

    test('accepts the scheme in any case', async () => {
      const app = await start()
      const { accessToken } = await app.tokens.issue('ann')
      const response = await app.inject({ url: '/me', headers: { authorization: `bEARER ${accessToken}` } })
      assert.equal(response.statusCode, 200)
    })

    test('supports awaiting authenticate in another hook', async () => {
      const app = await start()
      app.get(
        '/own',
        {
          onRequest: async (request, reply) => {
            await app.authenticate(request, reply)
          },
        },
        (request) => request.user?.sub,
      )
      const { accessToken } = await app.tokens.issue('ann')
      const get = (token: string) => app.inject({ url: '/own', headers: { authorization: `Bearer ${token}` } })
      assert.equal((await get(accessToken)).body, 'ann')
      assert.equal((await get(accessToken)).body, 'ann')
      assert.equal((await get('nonsense')).statusCode, 401)
    })

    test('freezes claims, because requests share them', async () => {
      const app = await start()
      const { accessToken } = await app.tokens.issue('ann', { rights: { write: false } })
      const claims = await app.tokens.verify(accessToken)
      assert.throws(() => Object.assign(claims.rights as object, { write: true }), TypeError)
      assert.equal(await app.tokens.verify(accessToken), claims)
    })

    test('rejects reserved claims and invalid subjects', async () => {
      const app = await start()
      for (const claim of ['exp', 'sub', 'jti', 'sid', 'iat', 'gen'])
        await assert.rejects(app.tokens.issue('ann', { [claim]: 1 }), code('FLEET_ERR_OPTION_INVALID'))
      for (const subject of ['', 'x'.repeat(513), '\ud800', undefined, 7])
        await assert.rejects(app.tokens.issue(subject as string), code('FLEET_ERR_OPTION_INVALID'))
    })

    test('supports subjects with special characters', async () => {
      const app = await start()
      for (const subject of ['}{', '{a}', 'a b\nc', 'ünï', '../x']) {
        const { accessToken, refreshToken } = await app.tokens.issue(subject)
        assert.equal((await app.tokens.verify(accessToken)).sub, subject)
        const next = await app.tokens.refresh(refreshToken)
        await app.tokens.revokeAll(subject)
        await assert.rejects(app.tokens.verify(next.accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
      }
    })

    test('issues new tokens with the same session, subject and claims at a refresh', async () => {
      const app = await start()
      const first = await app.tokens.issue('ann', { role: 'buyer' })
      const second = await app.tokens.refresh(first.refreshToken)
      const third = await app.tokens.refresh(second.refreshToken)
      const [a, c] = await Promise.all([first, third].map((pair) => app.tokens.verify(pair.accessToken)))
      assert.ok(a && c)
      assert.deepEqual([c.sub, c.role, c.sid], ['ann', 'buyer', a.sid])
      assert.notEqual(c.jti, a.jti)
      assert.equal(c.gen, undefined)
    })

    test('rejects a refresh token as an access token, and the reverse', async () => {
      const app = await start()
      const { accessToken, refreshToken } = await app.tokens.issue('ann')
      await assert.rejects(app.tokens.verify(refreshToken), code('FLEET_ERR_TOKEN_INVALID'))
      await assert.rejects(app.tokens.refresh(accessToken), code('FLEET_ERR_TOKEN_INVALID'))
    })

    test('refresh reuse: ends the session with all its tokens, and no other session', async () => {
      const app = await start({ refreshLeewayMs: 0 })
      const other = await app.tokens.issue('ann')
      const first = await app.tokens.issue('ann')
      const second = await app.tokens.refresh(first.refreshToken)
      await app.tokens.verify(second.accessToken)
      await assert.rejects(app.tokens.refresh(first.refreshToken), code('FLEET_ERR_TOKEN_REUSED'))
      await assert.rejects(app.tokens.refresh(second.refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
      for (const pair of [first, second])
        await assert.rejects(app.tokens.verify(pair.accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
      await app.tokens.verify(other.accessToken)
      await app.tokens.refresh(other.refreshToken)
    })

    test('without a leeway, serves one of many simultaneous uses of a refresh token and ends the session', async () => {
      const app = await start({ refreshLeewayMs: 0 })
      const { refreshToken } = await app.tokens.issue('ann')
      const uses = await Promise.allSettled(Array.from({ length: 20 }, () => app.tokens.refresh(refreshToken)))
      const served = uses.filter((use) => use.status === 'fulfilled')
      assert.equal(served.length, 1)
      const next = served[0]?.value
      assert.ok(next)
      await assert.rejects(app.tokens.refresh(next.refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
      await assert.rejects(app.tokens.verify(next.accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
    })

    test('returns the same pair to every use of a refresh token within the leeway', async () => {
      const [a, b] = [await start(), await start()]
      const { refreshToken } = await a.tokens.issue('ann', { role: 'buyer' })
      const apps = engine === 'memory' ? [a] : [a, b]
      const use = (i: number) => (apps[i % apps.length] as FastifyInstance).tokens.refresh(refreshToken)
      const pairs = await Promise.all(Array.from({ length: 20 }, (_, i) => use(i)))
      for (const pair of pairs) assert.deepEqual(pair, pairs[0])
      const [pair] = pairs
      assert.ok(pair)
      assert.equal((await a.tokens.verify(pair.accessToken)).role, 'buyer')
      const next = await a.tokens.refresh(pair.refreshToken)
      assert.notEqual(next.refreshToken, pair.refreshToken)
      await assert.rejects(a.tokens.refresh(refreshToken), code('FLEET_ERR_TOKEN_REUSED'), 'two generations ago')
      await assert.rejects(a.tokens.verify(next.accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
    })

    test('a use after the leeway ends the session, and repetitions do not extend the leeway', async () => {
      const app = await start({ refreshLeewayMs: 300 })
      const { refreshToken } = await app.tokens.issue('ann')
      const pair = await app.tokens.refresh(refreshToken)
      const again = () => app.tokens.refresh(refreshToken)
      const isSame = (same: object): boolean => {
        assert.deepEqual(same, pair)
        return false
      }
      await until(() => again().then(isSame, code('FLEET_ERR_TOKEN_REUSED')))
      await assert.rejects(app.tokens.refresh(pair.refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
    })

    test('a logout within the leeway ends it', async () => {
      const app = await start()
      const { refreshToken } = await app.tokens.issue('ann')
      const { accessToken } = await app.tokens.refresh(refreshToken)
      await app.tokens.revoke(accessToken)
      await assert.rejects(app.tokens.refresh(refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
      const other = await app.tokens.issue('ann')
      await app.tokens.refresh(other.refreshToken)
      await app.tokens.revokeAll('ann')
      await assert.rejects(app.tokens.refresh(other.refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
    })

    test('with a request, the leeway applies to the same client only', async () => {
      const app = await start()
      app.post<{ Body: { token: string } }>('/refresh', (request) => app.tokens.refresh(request.body.token, request))
      const refresh = async (token: string, agent: string, remoteAddress = '10.0.0.1') => {
        const headers = { 'user-agent': agent }
        const url = '/refresh'
        return (await app.inject({ method: 'POST', url, payload: { token }, headers, remoteAddress })).json()
      }
      for (const [agent, address] of [
        ['curl', '10.0.0.1'],
        ['browser', '10.0.0.2'],
      ] as const) {
        const { refreshToken } = await app.tokens.issue('ann')
        const pair = await refresh(refreshToken, 'browser')
        assert.ok(pair.accessToken)
        assert.deepEqual(await refresh(refreshToken, 'browser'), pair)
        assert.equal((await refresh(refreshToken, agent, address)).code, 'FLEET_ERR_TOKEN_REUSED')
        assert.equal((await refresh(refreshToken, 'browser')).code, 'FLEET_ERR_TOKEN_REVOKED')
      }
    })

    test('replay after logout: rejects both tokens of the session', async () => {
      const app = await start()
      for (const way of ['access', 'refresh', 'claims'] as const) {
        const { accessToken, refreshToken } = await app.tokens.issue('ann')
        assert.equal((await me(app, accessToken)).statusCode, 200)
        const claims = await app.tokens.verify(accessToken)
        const what = {
          access: accessToken,
          refresh: refreshToken,
          claims: { sub: claims.sub, sid: String(claims.sid) },
        }
        await app.tokens.revoke(what[way])
        const response = await me(app, accessToken)
        assert.equal(response.statusCode, 401)
        assert.equal(response.json().code, 'FLEET_ERR_TOKEN_REVOKED')
        assert.match(String(response.headers['www-authenticate']), /^Bearer realm="fleet", error="invalid_token"/)
        await assert.rejects(app.tokens.refresh(refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
        await app.tokens.revoke(what[way]) // Again, for the client that did not get the first response.
      }
    })

    test('revokes one access token by its jti, without ending its session', async () => {
      const app = await start()
      const { accessToken, refreshToken } = await app.tokens.issue('ann')
      const { jti } = await app.tokens.verify(accessToken)
      await app.tokens.revokeId(String(jti))
      await assert.rejects(app.tokens.verify(accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
      const next = await app.tokens.refresh(refreshToken)
      const claims = await app.tokens.verify(next.accessToken)
      await app.tokens.revokeId(String(claims.jti), claims.exp)
      await assert.rejects(app.tokens.verify(next.accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
    })

    test('revokeAll ends all earlier sessions, even of the same second, and no later ones', async () => {
      const app = await start()
      const bob = await app.tokens.issue('bob')
      for (const _ of [1, 2, 3]) {
        const before = [await app.tokens.issue('ann'), await app.tokens.issue('ann')]
        await app.tokens.revokeAll('ann')
        const later = await app.tokens.issue('ann')
        for (const { accessToken, refreshToken } of before) {
          await assert.rejects(app.tokens.verify(accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
          await assert.rejects(app.tokens.refresh(refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
        }
        await app.tokens.verify((await app.tokens.refresh(later.refreshToken)).accessToken)
      }
      await app.tokens.verify(bob.accessToken)
    })

    test('rejects a revocation of anything that is not a token of this fleet with 401, and stores nothing', async () => {
      const app = await start({}, newFleet())
      const { accessToken, refreshToken } = await app.tokens.issue('ann')
      const { jti, sub } = await app.tokens.verify(accessToken)
      const [head, body, signature = ''] = accessToken.split('.')
      const before = await stored(app)
      const texts = [
        '',
        'a.b.c',
        'AAAA-12345678',
        'x'.repeat(9000),
        String(jti),
        accessToken.slice(0, -6),
        `${head}.${body}.`,
      ]
      const forged = `${head}.${Buffer.from(JSON.stringify({ sub, sid: 'x' })).toString('base64url')}.${signature}`
      const objects = [
        undefined,
        null,
        7,
        [],
        {},
        { jti },
        { sub },
        { sid: 'x' },
        { sub: { a: 1 }, sid: ['x'] },
        { sub: '\ud800', sid: 'x' },
        { sub, sid: 'x'.repeat(129) },
        { sub: 'x'.repeat(513), sid: 'x' },
        [accessToken],
      ]
      for (const what of [...texts, forged, ...objects])
        await assert.rejects(app.tokens.revoke(what as never), (error) => {
          assert.ok(code('FLEET_ERR_TOKEN_INVALID')(error), `${JSON.stringify(what)}: ${error}`)
          return (error as FleetError).statusCode === 401
        })
      assert.deepEqual(await stored(app), before)
      await app.tokens.verify(accessToken)
      await app.tokens.refresh(refreshToken)
    })

    test('stores nothing for a session that does not exist, or a token that has expired', async () => {
      const app = await start({}, newFleet())
      const before = await stored(app)
      const iat = Math.floor(Date.now() / 1000) - 3600
      const expired = (more: object): string => {
        const claims = { iss: app.fleet.name, sub: 'ann', iat, exp: iat + 60, ...more }
        return jsonwebtoken.sign(claims, secret, { algorithm: 'HS256', keyid: kidOf(secret) })
      }
      for (let i = 0; i < 20; i++) {
        await app.tokens.revoke({ sub: 'ann', sid: `session-${i}` })
        await app.tokens.revoke(expired({ sid: `session-${i}` }))
        await app.tokens.revoke(expired({ jti: `token-${i}` }))
      }
      assert.deepEqual(await stored(app), before)
    })

    test('stores a repeated revocation once', async () => {
      const app = await start({}, newFleet())
      const { accessToken, refreshToken } = await app.tokens.issue('ann')
      const { sub, sid } = await app.tokens.verify(accessToken)
      await app.tokens.revoke(accessToken)
      const once = await stored(app)
      for (const what of [accessToken, refreshToken, { sub, sid: String(sid) }, accessToken])
        await app.tokens.revoke(what)
      assert.deepEqual(await stored(app), once)
    })

    test('keeps one cut-off for repeated calls of revokeAll, and ends sessions issued in between', async () => {
      const app = await start()
      await app.tokens.revokeAll('ann')
      for (let i = 0; i < 100; i++) await app.tokens.revokeAll('ann')
      const { accessToken } = await app.tokens.issue('ann')
      const { iat } = await app.tokens.verify(accessToken)
      assert.ok(iat < Date.now() / 1000 + 5, 'the cut-off does not run ahead of the clock')
      await app.tokens.revokeAll('ann')
      await assert.rejects(app.tokens.verify(accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
    })

    test('rejects ids that are not short text', async () => {
      const app = await start({}, newFleet())
      const before = await stored(app)
      for (const id of ['', 'a b', 'x'.repeat(129), '\u00e9', undefined, 7, {}, ['x']])
        await assert.rejects(app.tokens.revokeId(id as never), code('FLEET_ERR_OPTION_INVALID'))
      for (const subject of ['', undefined, 7, {}, ['ann'], 'x'.repeat(513)])
        await assert.rejects(app.tokens.revokeAll(subject as never), code('FLEET_ERR_OPTION_INVALID'))
      assert.deepEqual(await stored(app), before)
    })

    test('rejects claims that would make a token too large to be verified, and stores nothing', async () => {
      const app = await start({}, newFleet())
      const before = await stored(app)
      await assert.rejects(app.tokens.issue('ann', { x: 'y'.repeat(5000) }), code('FLEET_ERR_OPTION_INVALID'))
      assert.deepEqual(await stored(app), before)
      const { accessToken, refreshToken } = await app.tokens.issue('\u0001'.repeat(512), { x: 'y'.repeat(1800) })
      assert.ok(refreshToken.length <= 8192)
      assert.equal((await app.tokens.verify(accessToken)).x, 'y'.repeat(1800))
    })

    test('names the fleet as the issuer and rejects tokens of another issuer', async () => {
      const app = await start()
      const { accessToken } = await app.tokens.issue('ann')
      assert.equal((await app.tokens.verify(accessToken)).iss, app.fleet.name)
      for (const issuer of ['another', false] as const) {
        const other = await start({ issuer })
        const otherPair = await other.tokens.issue('ann')
        assert.equal((await other.tokens.verify(otherPair.accessToken)).iss, issuer || undefined)
        await assert.rejects(app.tokens.verify(otherPair.accessToken), code('FLEET_ERR_TOKEN_INVALID'))
        await assert.rejects(app.tokens.revoke(otherPair.accessToken), code('FLEET_ERR_TOKEN_INVALID'))
      }
    })

    test('refreshes a session without an issuer, unless an issuer is configured', async () => {
      const fleet = newFleet()
      const kept = await start({}, fleet)
      const { sub, sid, iat } = await kept.tokens.verify((await kept.tokens.issue('ann')).accessToken)
      const options = { algorithm: 'HS256', keyid: kidOf(secret), header: { alg: 'HS256', typ: 'rt+jwt' } } as const
      const old = jsonwebtoken.sign({ sub, sid, gen: 0, iat, exp: iat + 600 }, secret, options)
      const strict = await start({ issuer: kept.fleet.name }, fleet)
      await assert.rejects(strict.tokens.refresh(old), code('FLEET_ERR_TOKEN_INVALID'))
      const unknown = jsonwebtoken.sign({ sub, sid: 'of-another-fleet', gen: 0, iat, exp: iat + 600 }, secret, options)
      const before = await stored(kept)
      await assert.rejects(kept.tokens.refresh(unknown), code('FLEET_ERR_TOKEN_REVOKED'))
      await kept.tokens.revoke(unknown)
      assert.deepEqual(await stored(kept), before)
      const next = await kept.tokens.refresh(old)
      assert.equal((await kept.tokens.verify(next.accessToken)).iss, kept.fleet.name)
    })

    test('rejects an expired token with 401, even if it is in the cache', async (t) => {
      const app = await start({ clockToleranceMs: 0, onOutage: 'allow' })
      const { accessToken, refreshToken } = await app.tokens.issue('ann')
      await app.tokens.verify(accessToken)
      t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 1_000_000 })
      await assert.rejects(app.tokens.verify(accessToken), code('FLEET_ERR_TOKEN_EXPIRED'))
      t.mock.timers.setTime(Date.now() + 2_592_000_000)
      await assert.rejects(app.tokens.refresh(refreshToken), code('FLEET_ERR_TOKEN_EXPIRED'))
    })
  })
}
