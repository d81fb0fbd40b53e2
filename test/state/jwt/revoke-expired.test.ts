import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { KeyRing, keysFrom } from '../../../src/state/jwt/keys.ts'
import { MemoryTokenStore } from '../../../src/state/jwt/memory-store.ts'
import { type Revocation, Revocations } from '../../../src/state/jwt/revocations.ts'
import type { TokenStore } from '../../../src/state/jwt/store.ts'
import { Tokens } from '../../../src/state/jwt/tokens.ts'
import { secret } from './contract.ts'

const now = 1_800_000_000

function start(t: TestContext) {
  t.mock.timers.enable({ apis: ['Date'], now: now * 1000 })
  const ring = new KeyRing(keysFrom([secret]))
  const store: TokenStore = new MemoryTokenStore()
  const stored: Revocation[] = []
  store.record = async (revocation) => void stored.push(revocation)
  const revocations = new Revocations()
  let announced = 0
  const tokens = new Tokens({
    ...{ ring: () => ring, store, revocations, refreshView: async () => {} },
    announce: () => void announced++,
    rules: {
      ...{ clockToleranceSeconds: 5, refreshLeewayMs: 0, onOutage: 'reject', cacheSize: 1 },
      lifetimes: { accessSeconds: 900, refreshSeconds: 3600 },
    },
  })
  return { tokens, store, stored, revocations, announced: () => announced }
}

test('a revocation is stored while an instance whose clock is slow accepts the token, and as long', async (t) => {
  const { tokens, stored, announced } = start(t)
  await tokens.revokeId('over', now - 65)
  assert.deepEqual([stored, announced()], [[], 0])
  await tokens.revokeId('slow', now - 64)
  assert.deepEqual(stored, [{ kind: 'token', id: 'slow', cutoff: 0, until: now + 1 }])
  assert.equal(announced(), 1)
})

test('a revocation is announced once the other instances can read it, and not if it could not be stored', async (t) => {
  const { tokens, store, revocations, announced } = start(t)
  const writing = Promise.withResolvers<void>()
  store.record = () => writing.promise
  const revoking = tokens.revokeId('a')
  await turn()
  assert.deepEqual([announced(), revocations.size], [0, 0])
  writing.resolve()
  await revoking
  assert.deepEqual([announced(), revocations.size], [1, 1])
  store.record = () => Promise.reject(new Error('no Redis'))
  await assert.rejects(tokens.revokeId('b'), /no Redis/)
  assert.deepEqual([announced(), revocations.size], [1, 1])
})
