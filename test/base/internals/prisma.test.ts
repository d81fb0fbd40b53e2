import assert from 'node:assert/strict'
import { test } from 'node:test'
import { executorOf, withExecutor } from '../../../src/base/internals/prisma.ts'

test('rejects a client without the parts of Prisma 7', () => {
  const code = { code: 'FLEET_ERR_OPTION_INVALID' }
  const changed = { _originalClient: {}, _extensions: { append: () => ({}) }, $extends: () => ({}) }
  for (const client of [{}, changed, { ...changed, _requestHandler: {} }]) {
    assert.throws(() => executorOf(client), code)
    assert.throws(() => withExecutor(client, async () => undefined), code)
  }
})
