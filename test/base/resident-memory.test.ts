import assert from 'node:assert/strict'
import { it } from 'node:test'
import { residentMemory } from '../../src/base/resident-memory.ts'

it('the resident set is the last known one when no file can be opened', (t) => {
  const known = residentMemory()
  assert.ok(known > 2 ** 20)
  t.mock.method(process.memoryUsage, 'rss', () => {
    throw Object.assign(new Error('EMFILE: too many open files, uv_resident_set_memory'), { code: 'EMFILE' })
  })
  assert.equal(residentMemory(), known)
})
