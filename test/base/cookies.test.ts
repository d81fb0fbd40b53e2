import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cookiePairs, cookieValues } from '../../src/base/cookies.ts'

test('reads every cookie of a name in the order in which they were sent', () => {
  const header = 'sid=1; xsid=2;sid=; sid ; sid2=3;  sid = 4 ; SID=5; x=sid=6; sid=a=b'
  assert.deepEqual(cookieValues(header, 'sid'), ['1', '', '4', 'a=b'])
  assert.deepEqual(cookiePairs(header, 'sid').slice(0, 2), ['sid=1', 'sid='])
})

test('reads none of a header without the name', () => {
  for (const header of [undefined, '', ';', '=', 'a=b', 'sid', 'a=sid', 'sids=1'])
    assert.deepEqual(cookieValues(header, 'sid'), [], header)
})

test('reads a bounded number', () => {
  assert.equal(cookieValues('sid=1;'.repeat(10_000), 'sid').length, 32)
})
