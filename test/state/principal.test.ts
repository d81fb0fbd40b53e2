import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyRequest } from 'fastify'
import { principal } from '../../src/state/principal.ts'

const of = (request: object): string | undefined => principal(request as FastifyRequest)

test('the principal is the subject of the token, else the user of the session, else undefined', () => {
  assert.equal(of({ user: { sub: 'ann' }, session: { userId: 'bob' } }), 'ann')
  assert.equal(of({ user: null, session: { userId: 7 } }), '7')
  assert.equal(of({ user: {}, session: {} }), undefined)
  assert.equal(of({ user: null, session: null }), undefined)
  assert.equal(of({}), undefined)
  for (const odd of ['', {}, [], true]) assert.equal(of({ user: { sub: odd }, session: { userId: odd } }), undefined)
})

test('the field of the session is the option `userId` of the session plugin', () => {
  const server = { fleet: { configuration: { session: { userId: 'account' } } } }
  assert.equal(of({ server, session: { account: 'ann', userId: 'bob' } }), 'ann')
  assert.equal(of({ server, session: { userId: 'bob' } }), undefined)
})
