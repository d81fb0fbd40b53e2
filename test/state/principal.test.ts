import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FastifyRequest } from 'fastify'
import { principal } from '../../src/state/principal.ts'

const of = (request: object): string | undefined => principal(request as FastifyRequest)

test('who is logged in: by token, else by session, else nobody', () => {
  assert.equal(of({ user: { sub: 'ann' }, session: { userId: 'bob' } }), 'ann')
  assert.equal(of({ user: null, session: { userId: 7 } }), '7')
  assert.equal(of({ user: {}, session: {} }), undefined)
  assert.equal(of({ user: null, session: null }), undefined)
  assert.equal(of({}), undefined)
})
