import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import { describe, test } from 'node:test'
import { type Algorithm, type JwtKey, KeyRing, keysFrom, keysFromJson } from '../../../src/state/jwt/keys.ts'
import { asPem, ecPair, rsaPair } from './app.ts'

const secret = 's'.repeat(64)
const rsa = rsaPair(2048)
const curves = { ES256: ecPair('P-256'), ES384: ecPair('P-384'), ES512: ecPair('P-521') }
const algorithmOf = (key: Partial<JwtKey>): Algorithm => new KeyRing([{ kid: 'a', ...key }]).signing.algorithm
const rejected = (key: object, message: RegExp, code = 'FLEET_ERR_OPTION_INVALID') =>
  assert.throws(() => new KeyRing([{ kid: 'a', ...key }]), { code, message })

describe('the algorithm of a key', () => {
  test('of a secret needs as many bytes as its hash has', () => {
    assert.equal(algorithmOf({ secret }), 'HS256')
    for (const [algorithm, bytes] of [
      ['HS256', 32],
      ['HS384', 48],
      ['HS512', 64],
    ] as const) {
      assert.equal(algorithmOf({ secret: 's'.repeat(bytes), algorithm }), algorithm)
      const weak = { secret: 's'.repeat(bytes - 1), algorithm }
      rejected(weak, new RegExp(`needs ${bytes} bytes`), 'FLEET_ERR_SECRET_WEAK')
      assert.equal(algorithmOf({ secret: 'é'.repeat(bytes / 2), algorithm }), algorithm, 'bytes, not characters')
    }
  })

  test('of an RSA key is RS256, or another one for RSA', () => {
    assert.equal(algorithmOf(rsa), 'RS256')
    for (const algorithm of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const)
      assert.equal(algorithmOf({ ...rsa, algorithm }), algorithm)
    for (const algorithm of ['HS256', 'ES256'] as const)
      rejected({ ...rsa, algorithm }, /must be RS256, RS384, RS512, PS256, PS384, PS512 for this key/)
  })

  test('of an EC key is that of its curve', () => {
    for (const [algorithm, pair] of Object.entries(curves)) {
      assert.equal(algorithmOf(pair), algorithm)
      assert.equal(algorithmOf({ ...pair, algorithm: algorithm as Algorithm }), algorithm)
    }
    rejected({ ...curves.ES384, algorithm: 'ES256' }, /must be ES384 for this key/)
    rejected(ecPair('secp256k1'), /must be an RSA key, or an EC key on P-256, P-384 or P-521/)
    rejected(asPem(generateKeyPairSync('ed25519')), /must be an RSA key/)
  })
})

describe('a ring of keys', () => {
  const [one, two] = [
    { kid: 'one', secret },
    { kid: 'two', ...rsa },
  ]

  test('signs with the first key, and finds each by its id and algorithm only', () => {
    const ring = new KeyRing([one, two])
    assert.equal(ring.signing.kid, 'one')
    assert.deepEqual(
      Array.from(ring.keys, ({ kid }) => kid),
      ['one', 'two'],
    )
    const find = (header: object) => ring.find(header)?.kid
    assert.equal(find({ kid: 'one', alg: 'HS256' }), 'one')
    assert.equal(find({ kid: 'two', alg: 'RS256' }), 'two')
    for (const alg of ['RS256', 'none', 'HS512', undefined]) assert.equal(find({ kid: 'one', alg }), undefined)
    assert.equal(find({ kid: 'two', alg: 'HS256' }), undefined)
    for (const kid of ['three', undefined, null, '', '__proto__', ['one']])
      assert.equal(find({ kid, alg: 'HS256' }), undefined, String(kid))
  })

  test('of one key accepts tokens without an id, and none with another', () => {
    const ring = new KeyRing([one])
    assert.equal(ring.find({ alg: 'HS256' })?.kid, 'one')
    assert.equal(ring.find({ alg: 'HS512' }), undefined)
    for (const kid of ['two', null, '']) assert.equal(ring.find({ kid, alg: 'HS256' }), undefined)
  })

  test('needs a first key that signs, and different ids', () => {
    assert.throws(() => new KeyRing([]), /the first key signs/)
    assert.throws(() => new KeyRing([{ kid: 'a', publicKey: rsa.publicKey }]), /the first key signs/)
    assert.throws(() => new KeyRing([one, { ...two, kid: 'one' }]), /two keys with the same `kid`/)
    const ring = new KeyRing([one, { kid: 'b', publicKey: rsa.publicKey }])
    const found = ring.find({ kid: 'b', alg: 'RS256' })
    assert.deepEqual([found?.verify.type, found?.sign], ['public', undefined])
  })

  test('accepts ids of up to 64 characters, and numbers', () => {
    for (const kid of ['x'.repeat(64), 'a.b_c:d@e-f', 7])
      assert.equal(new KeyRing([{ kid: kid as string, secret }]).signing.kid, kid)
    for (const kid of ['x'.repeat(65), '', 'a b', null, true])
      assert.throws(() => new KeyRing([{ kid: kid as string, secret }]), { code: 'FLEET_ERR_OPTION_INVALID' })
  })

  test('signs with the private part and verifies with the public one', () => {
    const { sign, verify } = new KeyRing([{ kid: 'a', privateKey: rsa.privateKey }]).signing
    assert.deepEqual([sign.type, verify.type], ['private', 'public'])
    assert.equal(verify.export({ type: 'spki', format: 'pem' }), rsa.publicKey)
    const other = rsaPair(2048)
    rejected({ privateKey: rsa.privateKey, publicKey: other.publicKey }, /does not belong/)
    const short = rsaPair(2040)
    rejected(short, /2040 bits, but needs 2048/, 'FLEET_ERR_SECRET_WEAK')
  })
})

describe('keys of plain secrets and of JWT_KEYS', () => {
  test('have a fingerprint of the secret as their id', () => {
    const id = (text: string) => createHmac('sha256', text).update('fastify-fleet kid').digest('base64url').slice(0, 8)
    assert.deepEqual(keysFrom(['a', 'b']), [
      { kid: id('a'), secret: 'a' },
      { kid: id('b'), secret: 'b' },
    ])
  })

  test('are a list that is not empty', () => {
    assert.deepEqual(keysFromJson('[{"kid":"a"}]'), [{ kid: 'a' }])
    for (const json of ['[]', '{}', '"hunter2"', '[hunter2', '', 'null'])
      assert.throws(
        () => keysFromJson(json),
        ({ code, message }: { code: string; message: string }) =>
          code === 'FLEET_ERR_ENV_INVALID' && !message.includes('hunter2'),
      )
  })
})
