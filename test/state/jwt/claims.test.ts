import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isClaims, isId, isSubject, parseHeader } from '../../../src/state/jwt/claims.ts'

test('claims have a subject, times, and ids that are texts', () => {
  const claims = { sub: 'ann', iat: 1, exp: 2 }
  for (const given of [{}, { jti: 'a' }, { sid: 'b' }, { jti: 'a', sid: 'b', gen: 0 }])
    assert.equal(isClaims({ ...claims, ...given }), true, JSON.stringify(given))
  for (const given of [
    ...[{ sub: '' }, { sub: 7 }, { sub: undefined }, { iat: '1' }, { iat: undefined }, { iat: Number.NaN }],
    ...[{ exp: '2' }, { exp: undefined }, { exp: Number.POSITIVE_INFINITY }],
    ...[{ jti: '' }, { jti: 7 }, { jti: null }, { sid: '' }, { sid: 7 }, { sid: {} }],
  ])
    assert.equal(isClaims({ ...claims, ...given }), false, JSON.stringify(given))
  for (const other of [undefined, null, 'ann', []]) assert.equal(isClaims(other), false)
})

test('an id has 1 to 128 visible ASCII characters', () => {
  for (const id of ['!', '~', 'x'.repeat(128)]) assert.equal(isId(id), true, id)
  for (const id of ['', 'x'.repeat(129), 'a b', 'a\n', 'é', '\x7f', 7, null, undefined, ['a']])
    assert.equal(isId(id), false, String(id))
})

test('a subject has 1 to 512 characters', () => {
  for (const subject of ['a', ' ', 'é'.repeat(512)]) assert.equal(isSubject(subject), true)
  for (const subject of ['', 'x'.repeat(513), 'a\ud800', 7, null, undefined, ['a']])
    assert.equal(isSubject(subject), false, String(subject))
})

test('the header of a token of at most 8 KiB is read, if it is an object', () => {
  const head = (json: string): string => `${Buffer.from(json).toString('base64url')}.`
  const token = head('{"alg":"HS256"}')
  assert.deepEqual(parseHeader(token), { alg: 'HS256' })
  assert.deepEqual(parseHeader(token.padEnd(8_192, 'x')), { alg: 'HS256' })
  assert.equal(parseHeader(token.padEnd(8_193, 'x')), undefined)
  for (const other of ['', 'x', head('null'), head('1'), head('{'), undefined, 7, {}])
    assert.equal(parseHeader(other), undefined, String(other))
})
