import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Redis } from 'ioredis'
import jsonwebtoken from 'jsonwebtoken'
import { FleetError } from '../../../src/base/errors.ts'
import identity from '../../../src/instance/identity.ts'
import jwt, { type JwtOptions } from '../../../src/state/jwt/index.ts'
import { RedisTokenStore } from '../../../src/state/jwt/redis-store.ts'
import redis, { type RedisOptions } from '../../../src/state/redis/index.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'
import { patient, patientApp, within } from '../redis/patience.ts'
import { apps, build, forge, now, part, rsa } from './app.ts'
import { code, contract, secret } from './contract.ts'

contract('memory', (options, name) => build(null, options, name))

describe('attacks', () => {
  let app: FastifyInstance
  before(async () => {
    app = await build(null, {
      keys: [
        { kid: 'hs', secret },
        { kid: 'rs', publicKey: rsa.publicKey },
      ],
    })
    app.get('/me', { preHandler: app.authenticate }, (request) => request.user)
  })
  const rejects = async (token: string, expected = 'FLEET_ERR_TOKEN_INVALID'): Promise<void> => {
    const response = await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })
    assert.equal(response.statusCode, 401, token.slice(0, 80))
    assert.equal(response.json().code, expected)
    assert.match(String(response.headers['www-authenticate']), /error="invalid_token"/)
    for (const secretly of [secret, 'jwt malformed', 'at ']) assert.ok(!response.body.includes(secretly))
  }
  const claims = { iss: 'fleet', sub: 'ann', iat: now(), exp: now() + 60 }

  test('replaces a user that an earlier hook has set, and rejects its request without a valid token', async () => {
    const other = await build(null)
    const earlier = async (request: { user: unknown }): Promise<void> => {
      request.user = { sub: 'eve' }
    }
    other.get('/me', { preHandler: [earlier, other.authenticate] }, ({ user }) => user)
    const { accessToken } = await other.tokens.issue('ann')
    const get = (token: string) => other.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })
    assert.deepEqual([(await get(accessToken)).json().sub, (await get('x')).statusCode], ['ann', 401])
  })

  test('accepts the forgeries below if they are signed with the right key', async () => {
    assert.equal((await app.tokens.verify(forge({}, secret, { keyid: 'hs' }))).sub, 'ann')
    const signed = forge({}, rsa.privateKey, { keyid: 'rs', algorithm: 'RS256' })
    assert.equal((await app.tokens.verify(signed)).sub, 'ann')
  })

  test('rejects alg none', async () => {
    for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null, undefined, ['HS256']])
      for (const kid of ['hs', 'rs', undefined])
        for (const signature of ['', 'x', createHmac('sha256', '').update('x').digest('base64url')])
          await rejects(`${part({ alg, kid, typ: 'JWT' })}.${part(claims)}.${signature}`)
  })

  test('rejects algorithm confusion, such as HS for RS', async () => {
    const unsigned = `${part({ alg: 'HS256', kid: 'rs', typ: 'JWT' })}.${part(claims)}`
    for (const key of [rsa.publicKey, rsa.publicKey.trim(), Buffer.from(rsa.publicKey).toString('base64')])
      await rejects(`${unsigned}.${createHmac('sha256', key).update(unsigned).digest('base64url')}`)
    await rejects(forge({}, rsa.privateKey, { keyid: 'hs', algorithm: 'RS256' }))
    await rejects(forge({}, secret, { keyid: 'hs', algorithm: 'HS512' }))
    await rejects(forge({}, rsa.privateKey, { keyid: 'rs', algorithm: 'PS256' }))
  })

  test('rejects kid injection: a path, SQL, names of the prototype', async () => {
    const kids = [
      '../../../dev/null',
      "x' UNION SELECT 'k",
      '__proto__',
      'constructor',
      '',
      'HS',
      'hs\0',
      'x'.repeat(5000),
    ]
    for (const kid of kids) await rejects(forge({}, secret, { keyid: kid }))
    for (const kid of [null, 1, true, {}, ['hs'], { toString: 'hs' }]) {
      const unsigned = `${part({ alg: 'HS256', kid, typ: 'JWT' })}.${part(claims)}`
      await rejects(`${unsigned}.${createHmac('sha256', secret).update(unsigned).digest('base64url')}`)
    }
    await rejects(forge({}, secret)) // No kid, and more than one key.
    const otherSecret = 'another secret, which is long enough for HS256'
    const jwk = { kty: 'oct', k: Buffer.from(otherSecret).toString('base64url') }
    for (const header of [{ jwk }, { jku: 'http://127.0.0.1/keys' }, { x5u: 'http://127.0.0.1/keys' }])
      await rejects(
        forge({}, otherSecret, { header: { alg: 'HS256', kid: 'hs', ...header } as jsonwebtoken.JwtHeader }),
      )
    const header = { alg: 'HS256', kid: 'hs', crit: ['b64'] } as jsonwebtoken.JwtHeader
    await rejects(forge({}, secret, { header }))
  })

  test('rejects tokens beyond the allowed clock skew', async () => {
    const sign = (more: object): string => signRaw({ ...claims, ...more })
    await app.tokens.verify(sign({ iat: now() - 60, exp: now() - 3 }))
    await app.tokens.verify(sign({ nbf: now() + 3 }))
    await rejects(sign({ iat: now() - 60, exp: now() - 6 }), 'FLEET_ERR_TOKEN_EXPIRED')
    await rejects(sign({ nbf: now() + 30 }))
    for (const exp of [undefined, null, '9999999999', -1, 9e15, now() + 100 * 86_400])
      await rejects(signRaw({ sub: 'ann', iat: now(), exp }), exp === -1 ? 'FLEET_ERR_TOKEN_EXPIRED' : undefined)
    for (const iat of [undefined, null, 'now']) await rejects(signRaw({ sub: 'ann', iat, exp: now() + 60 }))
  })

  test('rejects oversized tokens', async (t) => {
    const large = forgedPadding(8193)
    const parse = t.mock.method(JSON, 'parse')
    const from = t.mock.method(Buffer, 'from')
    await assert.rejects(app.tokens.verify(large), code('FLEET_ERR_TOKEN_INVALID'))
    assert.deepEqual([parse.mock.callCount(), from.mock.callCount()], [0, 0])
    t.mock.restoreAll()
    await rejects(large)
    await rejects('x'.repeat(12_000))
    await rejects(`Bearer ${'.'.repeat(10_000)}`)
  })

  test('issues tokens for as long as the options say, rounded up to seconds', async () => {
    const { tokens } = await build(null, { accessTtlMs: 3_599_001, refreshTtlMs: 86_400_000 })
    const { accessToken, refreshToken } = await tokens.issue('ann')
    const [access, refresh] = [accessToken, refreshToken].map((token) => {
      const { iat, exp } = jsonwebtoken.decode(token) as { iat: number; exp: number }
      return exp - iat
    })
    assert.deepEqual([access, refresh], [3_600, 86_400])
  })

  test('accepts a token of 8,192 bytes in a request', async () => {
    const space = 8_192 - signRaw({ ...claims, pad: '' }).length
    const token = signRaw({ ...claims, pad: 'x'.repeat(Math.ceil((space * 3) / 4)) })
    assert.equal(token.length, 8_192)
    const response = await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })
    assert.equal(response.statusCode, 200)
  })

  test('rejects malformed tokens', async () => {
    const good = forge({}, secret, { keyid: 'hs' })
    const [header, payload, signature] = good.split('.') as [string, string, string]
    const signed = (body: string): string => {
      const text = `${part({ alg: 'HS256', kid: 'hs' })}.${Buffer.from(body).toString('base64url')}`
      return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
    }
    for (const token of [
      ...['.', '..', '...', 'a', 'a.b', 'a.b.c', 'a.b.c.d', '\u00ff\u00fe', '{}', 'null', '%00', ' ', '\t'],
      ...[`${good}.`, `.${good}`, `${good} x`, ` ${good}`, good.slice(0, -1), good.slice(1), `${good}${good}`],
      ...[`${header}..${signature}`, `.${payload}.${signature}`, `${header}.${payload}.`, `${header}.${payload}`],
      ...[part(null), part([]), part('x'), part(1), part({})].map((bad) => `${bad}.${payload}.${signature}`),
      ...['', '{', 'null', '[]', '"x"', '1', '{}', '{"sub":1}', '{"sub":{}}', '[{"sub":"ann"}]'].map(signed),
      signRaw({ ...claims, sub: '' }),
      signRaw({ ...claims, jti: {} }),
      signRaw({ ...claims, sid: 5 }),
    ])
      await rejects(token)
    for (const token of [undefined, null, 7, {}, [], true] as unknown as string[]) {
      await assert.rejects(app.tokens.verify(token), code('FLEET_ERR_TOKEN_INVALID'))
      await assert.rejects(app.tokens.refresh(token), code('FLEET_ERR_TOKEN_INVALID'))
    }
  })

  test('rejects another issuer or audience', async () => {
    const strict = await build(null, { issuer: 'shop', audience: ['api', 'admin'] })
    const verify = (more: object) => strict.tokens.verify(forge(more, secret))
    await verify({ iss: 'shop', aud: 'admin' })
    for (const more of [{ iss: 'shop' }, { aud: 'api' }, { iss: 'shop', aud: 'x' }, { iss: ['shop'], aud: 'api' }])
      await assert.rejects(verify(more), code('FLEET_ERR_TOKEN_INVALID'))
  })

  /** A correctly signed token with any claims. */
  function signRaw(body: object): string {
    const unsigned = `${part({ alg: 'HS256', kid: 'hs', typ: 'JWT' })}.${part(body)}`
    return `${unsigned}.${createHmac('sha256', secret).update(unsigned).digest('base64url')}`
  }
  function forgedPadding(length: number): string {
    const token = forge({ pad: 'x'.repeat(length) }, secret, { keyid: 'hs' })
    return token.slice(0, length)
  }
})

describe('with Redis', () => {
  let server: RedisServer
  before(async () => {
    server = await startRedis()
  })

  contract('Redis', (options, name) => build(server.url, options, name))

  /** Two instances of a separate fleet. */
  const pair = async (options: JwtOptions = {}): Promise<[FastifyInstance, FastifyInstance]> => {
    const name = `pair${apps.length}`
    return [await build(server.url, options, name), await build(server.url, options, name)]
  }
  const revokedOn = (app: FastifyInstance, token: string): Promise<unknown> =>
    within(1000, 'revoked', () => app.tokens.verify(token).then(() => false, code('FLEET_ERR_TOKEN_REVOKED')))

  test('shares tokens, refreshes and revocations among instances', async () => {
    const [a, b] = await pair({ refreshLeewayMs: 0 })
    const first = await a.tokens.issue('ann')
    await b.tokens.verify(first.accessToken)
    const second = await b.tokens.refresh(first.refreshToken)
    await a.tokens.verify(second.accessToken)
    await a.tokens.revoke(second.accessToken)
    await revokedOn(b, first.accessToken)
    await assert.rejects(b.tokens.refresh(second.refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))

    const third = await a.tokens.issue('ann')
    const { jti } = await b.tokens.verify(third.accessToken)
    await a.tokens.revokeId(String(jti))
    await revokedOn(b, third.accessToken)

    const fourth = await b.tokens.issue('ann')
    await a.tokens.verify(fourth.accessToken)
    await b.tokens.revokeAll('ann')
    await revokedOn(a, fourth.accessToken)

    const fifth = await a.tokens.issue('ann')
    await b.tokens.refresh(fifth.refreshToken)
    await assert.rejects(a.tokens.refresh(fifth.refreshToken), code('FLEET_ERR_TOKEN_REUSED'))
    await revokedOn(b, fifth.accessToken)
  })

  test('records a reuse at the next attempt if recording it failed', async (t) => {
    const [a] = await pair({ refreshLeewayMs: 0 })
    const first = await a.tokens.issue('ann')
    const second = await a.tokens.refresh(first.refreshToken)
    const unavailable = code('FLEET_ERR_STATE_UNAVAILABLE')
    const record = t.mock.method(RedisTokenStore.prototype, 'record', async () => {
      throw new FleetError('FLEET_ERR_STATE_UNAVAILABLE')
    })
    await assert.rejects(a.tokens.refresh(first.refreshToken), unavailable)
    record.mock.restore()
    await a.tokens.verify(second.accessToken)
    await assert.rejects(a.tokens.refresh(first.refreshToken), code('FLEET_ERR_TOKEN_REVOKED'))
    await assert.rejects(a.tokens.verify(second.accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
  })

  test('knows earlier revocations on an instance that starts later', async (t) => {
    const [a] = await pair()
    const { accessToken } = await a.tokens.issue('ann')
    await a.tokens.revoke(accessToken)
    const { since } = RedisTokenStore.prototype
    t.mock.method(RedisTokenStore.prototype, 'since', async function (this: RedisTokenStore, cursor: string) {
      await sleep(20)
      return since.call(this, cursor)
    })
    for (const onOutage of ['reject', 'allow'] as const) {
      const later = await build(server.url, { onOutage }, a.fleet.name)
      await assert.rejects(later.tokens.verify(accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
    }
  })

  test('finds a revocation in the log if its announcement is lost', async () => {
    const [a, b] = await pair()
    const { accessToken } = await a.tokens.issue('ann')
    await b.tokens.verify(accessToken)
    a.fleet.publish = async () => {}
    await a.tokens.revoke(accessToken)
    await revokedOn(b, accessToken)
  })

  test('removes expired revocations from the log', async () => {
    const app = await build(server.url, {}, 'log')
    const log = app.redisKey('jwt-revoked', 'log')
    assert.ok(app.redis)
    for (let i = 0; i < 50; i++) await app.redis.call('ZADD', log, String(i), `1000 0 token old${i}`)
    for (let i = 0; i < 200; i++) await app.tokens.revokeId(`some-token-${i}`)
    const left = await app.redis.zrange(log, '0', '-1')
    assert.equal(left.filter((member) => member.includes('some-token')).length, 200)
    assert.ok(left.length < 215, `${left.length} left`)
    assert.ok((await app.redis.ttl(log)) > 0)
  })

  test('reads more revocations than fit in one page', async () => {
    const app = await build(server.url, {}, 'many')
    const { accessToken } = await app.tokens.issue('ann')
    for (let n = 0; n < 2500; n += 100)
      await Promise.all(Array.from({ length: 100 }, (_, i) => app.tokens.revokeId(`some-token-${n + i}`)))
    await app.tokens.revoke(accessToken)
    const later = await build(server.url, {}, 'many')
    await assert.rejects(later.tokens.verify(accessToken), code('FLEET_ERR_TOKEN_REVOKED'))
  })

  test('verifies a cached token without a command', async (t) => {
    const app = await build(server.url)
    app.get('/me', { preHandler: app.authenticate }, (request) => request.user)
    assert.ok(app.redis)
    const sent = t.mock.method(app.redis as Redis, 'sendCommand')
    const names = (): Set<string> => new Set(sent.mock.calls.map((call) => call.arguments[0].name))
    const headers = { authorization: `Bearer ${(await app.tokens.issue('ann')).accessToken}` }
    await app.inject({ url: '/me', headers })
    assert.ok(names().has('eval') || names().has('evalsha'))
    sent.mock.resetCalls()
    for (let i = 0; i < 500; i++) assert.equal((await app.inject({ url: '/me', headers })).statusCode, 200)
    // The feed still reads the log at its interval.
    const feed = 'zrangebyscore'
    assert.deepEqual(
      [...names()].filter((name) => name !== feed),
      [],
    )
  })

  test('shares a generated secret when none is configured', async () => {
    const bare = async (): Promise<FastifyInstance> => {
      const app = Fastify(patientApp)
      apps.push(app)
      await app.register(identity, { name: 'bare' })
      await app.register(redis, { url: server.url, ...patient })
      await app.register(jwt)
      return app
    }
    const [a, b] = [await bare(), await bare()]
    assert.equal((await b.tokens.verify((await a.tokens.issue('ann')).accessToken)).sub, 'ann')
  })
})

describe('while Redis is unavailable', () => {
  const boot = async (onOutage: 'reject' | 'allow', where: RedisOptions = {}) => {
    const server = await startRedis({ appendonly: true })
    const name = `outage-${onOutage}`
    const a = await build(server.url, { onOutage }, name, where)
    const b = await build(server.url, { onOutage }, name, where)
    a.get('/me', { preHandler: a.authenticate }, (request) => request.user)
    const get = (token: string) => a.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })
    return { server, a, b, get }
  }
  const unavailable = code('FLEET_ERR_STATE_UNAVAILABLE')

  test("rejects tokens with onOutage 'reject' until Redis is back and the log was read", async () => {
    const { server, a, b, get } = await boot('reject')
    const { accessToken, refreshToken } = await a.tokens.issue('ann')
    const other = await a.tokens.issue('bob')
    assert.equal((await get(accessToken)).statusCode, 200)
    await server.kill('SIGKILL')
    const response = await until(async () => {
      const response = await get(accessToken)
      return response.statusCode === 503 ? response : undefined
    })
    assert.equal(response.headers['retry-after'], '1')
    assert.equal(response.json().code, 'FLEET_ERR_STATE_UNAVAILABLE')
    assert.equal((await get('garbage')).statusCode, 401)
    await assert.rejects(a.tokens.issue('ann'), unavailable)
    await assert.rejects(a.tokens.refresh(refreshToken), unavailable)
    await assert.rejects(a.tokens.revoke(accessToken), unavailable)
    await assert.rejects(a.tokens.revokeAll('ann'), unavailable)

    await server.restart()
    // The other instance revokes the token as soon as Redis is back. This instance must not accept it afterwards.
    await until(() => b.tokens.revoke(other.accessToken).then(() => true))
    await until(async () => (await get(other.accessToken)).statusCode === 401)
    assert.equal((await get(accessToken)).statusCode, 200)
    await a.tokens.refresh(refreshToken)
  })

  test("accepts valid tokens with onOutage 'allow', but issues no new ones", async () => {
    const { server, a, get } = await boot('allow')
    const { accessToken, refreshToken } = await a.tokens.issue('ann')
    const unseen = await a.tokens.issue('ann')
    const revoked = await a.tokens.issue('ann')
    await a.tokens.revoke(revoked.accessToken)
    await get(accessToken)
    await server.kill('SIGKILL')
    await until(() => a.tokens.issue('ann').then(() => false, unavailable))
    assert.equal((await get(accessToken)).statusCode, 200)
    assert.equal((await get(unseen.accessToken)).statusCode, 200)
    assert.equal((await get(revoked.accessToken)).statusCode, 401)
    await assert.rejects(a.tokens.refresh(refreshToken), unavailable)
  })

  test('delays no request beyond the command timeout when Redis is suspended', async () => {
    const { server, a, get } = await boot('reject', { commandTimeoutMs: 1000 })
    const { accessToken } = await a.tokens.issue('ann')
    process.kill(server.pid, 'SIGSTOP')
    try {
      await until(async () => (await get(accessToken)).statusCode === 503)
    } finally {
      process.kill(server.pid, 'SIGCONT')
    }
    await until(async () => (await get(accessToken)).statusCode === 200)
  })
})

test('rejects options of version 0.1 and names the new ones', async () => {
  for (const [name, value, message] of [
    ['failMode', 'open', /`jwt\.failMode` is now `onOutage: /],
    ['accessTtl', 900, /is now `accessTtlMs`/],
    ['refreshTtl', 900, /is now `refreshTtlMs`/],
    ['clockTolerance', 5, /is now `clockToleranceMs`/],
  ] as const)
    await assert.rejects(build(null, { [name]: value }), { code: 'FLEET_ERR_OPTION_UNKNOWN', message })
})
