import assert from 'node:assert/strict'
import { createPublicKey, generateKeyPairSync, type JsonWebKey } from 'node:crypto'
import { describe, test } from 'node:test'
import Fastify from 'fastify'
import jsonwebtoken from 'jsonwebtoken'
import jwt, { type JwtKey } from '../../../src/state/jwt/index.ts'
import { redis, sharedSecret } from '../../../src/state/redis/index.ts'
import { apps, asPem, build, ec, ecPair, rsa, rsaPair } from './app.ts'
import { code, secret } from './contract.ts'

describe('keys', () => {
  test('sign and verify with the algorithm of their kind', async () => {
    const p384 = ecPair('P-384')
    const cases: [JwtKey, string][] = [
      [{ kid: 'a', secret }, 'HS256'],
      [{ kid: 'a', secret: secret.repeat(2), algorithm: 'HS512' }, 'HS512'],
      [{ kid: 'a', privateKey: rsa.privateKey }, 'RS256'],
      [{ kid: 'a', privateKey: rsa.privateKey, publicKey: rsa.publicKey, algorithm: 'PS384' }, 'PS384'],
      [{ kid: 'a', privateKey: ec.privateKey }, 'ES256'],
      [{ kid: 'a', privateKey: p384.privateKey }, 'ES384'],
    ]
    for (const [key, algorithm] of cases) {
      const app = await build(null, { keys: [key] })
      const { accessToken } = await app.tokens.issue('ann')
      assert.equal(JSON.parse(Buffer.from(accessToken.split('.')[0] ?? '', 'base64url').toString()).alg, algorithm)
      assert.equal((await app.tokens.verify(accessToken)).sub, 'ann')
    }
  })

  test('rotate: the new key signs, the old one verifies until it is removed', async () => {
    const old: JwtKey = { kid: '2025', secret }
    const next: JwtKey = { kid: '2026', privateKey: ec.privateKey }
    const before = await build(null, { keys: [old] })
    const during = await build(null, { keys: [next, old] })
    const later = await build(null, { keys: [next] })
    const { accessToken } = await before.tokens.issue('ann')
    const fresh = (await during.tokens.issue('ann')).accessToken
    assert.equal((await during.tokens.verify(accessToken)).sub, 'ann')
    assert.equal((await later.tokens.verify(fresh)).sub, 'ann')
    await assert.rejects(later.tokens.verify(accessToken), code('FLEET_ERR_TOKEN_INVALID'))
    await assert.rejects(before.tokens.verify(fresh), code('FLEET_ERR_TOKEN_INVALID'))
  })

  test('rotate for secrets without a configured kid', async () => {
    const next = 'the next secret of these tests, long enough'
    const { accessToken } = await (await build(null)).tokens.issue('ann')
    const during = await build(null, { secret: [next, secret] })
    assert.equal((await during.tokens.verify(accessToken)).sub, 'ann')
    const fresh = (await during.tokens.issue('ann')).accessToken
    await assert.rejects((await build(null)).tokens.verify(fresh), code('FLEET_ERR_TOKEN_INVALID'))
  })

  test('follow a generated secret that the secret of the fleet replaces', async () => {
    const app = await build(null, { secret: undefined })
    const early = (await app.tokens.issue('ann')).accessToken
    const secrets = await sharedSecret(app, 'JWT_SECRET', undefined)
    secrets.splice(0, 1, secret)
    await assert.rejects(app.tokens.verify(early), code('FLEET_ERR_TOKEN_INVALID'))
    const late = (await app.tokens.issue('ann')).accessToken
    assert.equal((await (await build(null)).tokens.verify(late)).sub, 'ann')
  })

  test('are published with their public members only', async () => {
    const p384 = ecPair('P-384')
    const keys: JwtKey[] = [
      { kid: 'rsa', privateKey: rsa.privateKey },
      { kid: 'ec', privateKey: ec.privateKey },
      { kid: 'old', publicKey: p384.publicKey },
      { kid: 'hs', secret },
    ]
    const app = await build(null, { keys })
    const response = await app.inject('/.well-known/jwks.json')
    assert.equal(response.headers['cache-control'], 'public, max-age=300')
    const published = response.json().keys as Record<string, string>[]
    assert.deepEqual(
      published.map((jwk) => Object.keys(jwk).sort().join()),
      ['alg,e,kid,kty,n,use', 'alg,crv,kid,kty,use,x,y', 'alg,crv,kid,kty,use,x,y'],
    )
    assert.deepEqual(
      published.map(({ kid, alg }) => [kid, alg]),
      [
        ['rsa', 'RS256'],
        ['ec', 'ES256'],
        ['old', 'ES384'],
      ],
    )
    // Another service verifies a token with a published key.
    const { accessToken } = await app.tokens.issue('ann')
    const key = createPublicKey({ key: published[0] as JsonWebKey, format: 'jwk' })
    assert.equal((jsonwebtoken.verify(accessToken, key, { algorithms: ['RS256'] }) as { sub: string }).sub, 'ann')

    const elsewhere = await build(null, { keys, jwks: '/keys' })
    assert.equal((await elsewhere.inject('/keys')).statusCode, 200)
    for (const silent of [await build(null), await build(null, { keys, jwks: false })])
      assert.equal((await silent.inject('/.well-known/jwks.json')).statusCode, 404)
  })

  test('are published to every client, without a session', async () => {
    const app = Fastify()
    apps.push(app)
    const configs: unknown[] = []
    app.addHook('onRoute', ({ url, config }) => void (url === '/keys' && configs.push(config)))
    await app.register(redis, { client: null })
    await app.register(jwt, { keys: [{ kid: 'rsa', privateKey: rsa.privateKey }], jwks: '/keys' })
    await app.ready()
    for (const config of configs) assert.partialDeepStrictEqual(config, { rateLimit: false, session: false })
    assert.ok(configs.length > 0)
  })

  test('fail at boot if they are invalid, and are not shown', async () => {
    const weak = rsaPair(1024)
    const other = rsaPair(2048)
    const ed = asPem(generateKeyPairSync('ed25519'))
    const cases: [unknown[], RegExp][] = [
      [[{ secret }], /`jwt.keys\[0\]` must have a `kid`/],
      [[{ kid: 'a b', secret }], /`jwt.keys\[0\].kid` must be up to 64/],
      [[{ kid: 'a' }], /must have a `secret`, a `privateKey` or a `publicKey`/],
      [[{ kid: 'a', secret: 'hunter2' }], /FLEET_ERR_SECRET_WEAK.*needs 32 bytes/],
      [[{ kid: 'a', secret, algorithm: 'HS512' }], /FLEET_ERR_SECRET_WEAK.*needs 64 bytes/],
      [[{ kid: 'a', secret, algorithm: 'RS256' }], /must be HS256, HS384 or HS512/],
      [[{ kid: 'a', secret, algorithm: 'none' }], /must be one of "HS256"/],
      [[{ kid: 'a', secret: rsa.publicKey }], /is a PEM/],
      [[{ kid: 'a', secret, privateKey: rsa.privateKey }], /a secret or PEM keys, not both/],
      [[{ kid: 'a', privateKey: 'hunter2' }], /must be a key in PEM form/],
      [[{ kid: 'a', publicKey: rsa.publicKey }], /the first key signs/],
      [[{ kid: 'a', privateKey: rsa.privateKey, publicKey: other.publicKey }], /does not belong to its `privateKey`/],
      [[{ kid: 'a', privateKey: weak.privateKey }], /FLEET_ERR_SECRET_WEAK.*1024 bits/],
      [[{ kid: 'a', privateKey: ed.privateKey }], /must be an RSA key, or an EC key/],
      [[{ kid: 'a', privateKey: ec.privateKey, algorithm: 'ES512' }], /must be ES256 for this key/],
      [
        [
          { kid: 'a', secret },
          { kid: 'a', secret },
        ],
        /two keys with the same `kid`/,
      ],
      [[{ kid: 'a', secret, kind: 'x' }], /has no option `kind`/],
      [['x'], /must be an object/],
      [[], /the first key signs/],
    ]
    for (const [keys, message] of cases)
      await assert.rejects(build(null, { keys: keys as JwtKey[] }), (error: Error & { code: string }) => {
        assert.match(`${error.code} ${error.message}`, message)
        assert.doesNotMatch(error.message, /hunter2|BEGIN/)
        return true
      })
  })
})
