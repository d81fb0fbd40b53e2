import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { KeyRing, keysFrom } from '../../../src/state/jwt/keys.ts'
import { MemoryTokenStore } from '../../../src/state/jwt/memory-store.ts'
import { Revocations } from '../../../src/state/jwt/revocations.ts'
import { Tokens } from '../../../src/state/jwt/tokens.ts'
import { code, secret } from './contract.ts'

const ring = new KeyRing(keysFrom([secret]))
const tokens = new Tokens({
  ...{ ring: () => ring, store: new MemoryTokenStore(), revocations: new Revocations(), refreshView: async () => {} },
  announce: () => {},
  rules: {
    ...{ clockToleranceSeconds: 5, refreshLeewayMs: 0, onOutage: 'reject', cacheSize: 10 },
    lifetimes: { accessSeconds: 900, refreshSeconds: 3600 },
  },
})

describe('a token is not issued', () => {
  for (const name of ['iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'sid', 'gen'])
    test(`with the claim ${name} of its own`, () =>
      assert.rejects(tokens.issue('ann', { role: 'admin', [name]: undefined }), {
        code: 'FLEET_ERR_OPTION_INVALID',
        message: new RegExp(`\`claims\\.${name}\` is reserved`),
      }))

  test('with more than 5,000 bytes of subject and claims', async () => {
    const { length } = JSON.stringify({ note: '', sub: 'ann' })
    const { accessToken } = await tokens.issue('ann', { note: 'x'.repeat(5_000 - length) })
    assert.equal((await tokens.verify(accessToken)).sub, 'ann')
    await assert.rejects(tokens.issue('ann', { note: 'x'.repeat(5_001 - length) }), {
      message: /have 5001 bytes as JSON; the limit is 5000/,
    })
  })

  test('for a subject that is not a text of 1 to 512 characters', async () => {
    await tokens.issue('x'.repeat(512))
    for (const subject of ['', 'x'.repeat(513), '\ud800', 7, null])
      await assert.rejects(tokens.issue(subject as string), code('FLEET_ERR_OPTION_INVALID'))
  })
})

test('anything but a text is no token', async () => {
  for (const token of [undefined, null, 7, {}, ['a.b.c']])
    await assert.rejects(tokens.verify(token as never), code('FLEET_ERR_TOKEN_INVALID'))
})
