import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyRequest } from 'fastify'
import { principal } from '../../src/state/principal.ts'

const of = (request: object): string | undefined => principal(request as FastifyRequest)

test('returns the user of the token, else of the session, else undefined', () => {
  assert.equal(of({ user: { sub: 'ann' }, session: { userId: 'bob' } }), 'ann')
  assert.equal(of({ user: null, session: { userId: 7 } }), '7')
  assert.equal(of({ user: {}, session: {} }), undefined)
  assert.equal(of({ user: null, session: null }), undefined)
  assert.equal(of({}), undefined)
  for (const odd of ['', {}, [], true]) assert.equal(of({ user: { sub: odd }, session: { userId: odd } }), undefined)
})

test('distinguishes users by the whole id, of any type that has one', () => {
  const ids = ['Ann', 'ann', ' ann', 0, -1, 7n].map((sub) => of({ user: { sub } }))
  assert.deepEqual(ids, ['Ann', 'ann', ' ann', '0', '-1', '7'])
  for (const odd of [Number.NaN, Number.POSITIVE_INFINITY, Symbol('ann'), () => 'ann'])
    assert.equal(of({ user: { sub: odd }, session: { userId: odd } }), undefined, 'many values have this text')
})

test('reads the session field of the session plugin’s options', () => {
  const server = { fleet: { configuration: { session: { userId: 'account' } } } }
  assert.equal(of({ server, session: { account: 'ann', userId: 'bob' } }), 'ann')
  assert.equal(of({ server, session: { userId: 'bob' } }), undefined)
})
