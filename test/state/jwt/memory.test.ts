import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Revocations } from '../../../src/state/jwt/revocations.ts'

test('drops revocations once all revoked tokens have expired', (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: 1e12 })
  const revocations = new Revocations()
  for (let i = 0; i < 100; i++) revocations.add({ kind: 'token', id: `${i}`, cutoff: 0, until: 1e9 + 10 })
  revocations.add({ kind: 'subject', id: 'ann', cutoff: 1e9, until: 1e9 + 10 })
  assert.equal(revocations.size, 101)
  t.mock.timers.setTime(1e12 + 61_000)
  revocations.add({ kind: 'session', id: 'x', cutoff: 0, until: 1e9 + 900 })
  assert.equal(revocations.size, 1)
})
