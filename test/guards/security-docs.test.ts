import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'

const root = new URL('../../', import.meta.url)
const text = readFileSync(new URL('docs/security.md', root), 'utf8')
const tests = [...text.matchAll(/`(test\/[^`]+)`/g)].map(([, path = '']) => path)

describe('docs/security.md', () => {
  for (const path of new Set(tests)) {
    it(`names a test that exists: ${path}`, () => assert.ok(existsSync(new URL(path, root)), path))
  }

  it('names a test for each guarantee', () => {
    const promises = text
      .split('\n')
      .filter((line) => line.startsWith('| ') && !/\| Shown by \|$/.test(line))
      .map((line) => line.slice(1, -1).split('|').at(-1) ?? '')
    assert.ok(promises.length > 40)
    for (const shown of promises) assert.match(shown, /`test\/[\w./-]+\.ts`/)
  })
})
