import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KeyRing, keysFrom } from '../../../src/state/jwt/keys.ts'
import { MemoryTokenStore } from '../../../src/state/jwt/memory-store.ts'
import { type Revocation, Revocations } from '../../../src/state/jwt/revocations.ts'
import type { TokenStore } from '../../../src/state/jwt/store.ts'
import { Tokens } from '../../../src/state/jwt/tokens.ts'
import { secret } from './contract.ts'

test('a revocation is stored while an instance whose clock is slow accepts the token, and as long', async (t) => {
  const now = 1_800_000_000
  t.mock.timers.enable({ apis: ['Date'], now: now * 1000 })
  const ring = new KeyRing(keysFrom([secret]))
  const store: TokenStore = new MemoryTokenStore()
  const stored: Revocation[] = []
  store.record = async (revocation) => void stored.push(revocation)
  let announced = 0
  const tokens = new Tokens({
    ...{ ring: () => ring, store, revocations: new Revocations(), refreshView: async () => {} },
    announce: () => void announced++,
    rules: {
      ...{ clockToleranceSeconds: 5, refreshLeewayMs: 0, onOutage: 'reject', cacheSize: 1 },
      lifetimes: { accessSeconds: 900, refreshSeconds: 3600 },
    },
  })
  await tokens.revokeId('over', now - 65)
  assert.deepEqual([stored, announced], [[], 0])
  await tokens.revokeId('slow', now - 64)
  assert.deepEqual(stored, [{ kind: 'token', id: 'slow', cutoff: 0, until: now + 1 }])
  assert.equal(announced, 1)
})
