import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { errorCodes } from '../../src/base/errors.ts'

describe('the error table', () => {
  const documented = [
    ...readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8').matchAll(/^## (\S+)$/gm),
  ].map((match) => match[1])

  it('and docs/errors.md list the same codes, each once', () => {
    assert.deepEqual([...documented].sort(), [...errorCodes].sort())
  })
})
