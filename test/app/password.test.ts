import assert from 'node:assert/strict'
import { createHook } from 'node:async_hooks'
import { scryptSync } from 'node:crypto'
import { test } from 'node:test'
import { hashPassword, verifyPassword } from '../../src/app/password.ts'

test('verifies a password against its own hash only', async () => {
  const hash = await hashPassword('pässword')
  assert.match(hash, /^scrypt\$16384\$8\$5\$[\w-]{22}\$[\w-]{43}$/)
  assert.notEqual(hash, await hashPassword('pässword'), 'salted')
  assert.equal(await verifyPassword('pässword', hash), true)
  assert.equal(await verifyPassword('pa\u0308ssword', hash), true, 'the same letter, put together otherwise')
  for (const wrong of ['Pässword', 'pässwor', 'pässword ', 'x']) assert.equal(await verifyPassword(wrong, hash), false)
})

test('accepts a hash with another cost', async () => {
  const hash = scryptSync('password', 'salt', 32, { N: 1024, r: 8, p: 1 }).toString('base64url')
  const cheap = `scrypt$1024$8$1$${Buffer.from('salt').toString('base64url')}$${hash}`
  assert.equal(await verifyPassword('password', cheap), true)
  assert.equal(await verifyPassword('wrong', cheap), false)
})

test('rejects malformed hashes', async () => {
  for (const broken of ['scrypt$16384$8$5$AAAA$', 'scrypt$16384$8$5$$AAAA'])
    assert.equal(await verifyPassword('x', broken), false, broken)
})

test('an unknown user costs the same: one derivation with the same parameters', async () => {
  const hash = await hashPassword('password')
  let derivations = 0
  const hook = createHook({
    init(_id, type) {
      if (/SCRYPT/.test(type)) derivations++
    },
  }).enable()
  try {
    assert.equal(await verifyPassword('password', hash), true)
    assert.equal(derivations, 1)
    assert.equal(await verifyPassword('password', undefined), false)
    assert.equal(derivations, 2)
  } finally {
    hook.disable()
  }
})
