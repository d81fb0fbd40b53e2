import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { describe, it } from 'node:test'

const page = new URL('../../docs/security.md', import.meta.url)
const text = readFileSync(page, 'utf8')
const links = [...text.matchAll(/\[([^\]]+)\]\(([^)#]+)(?:#[^)]*)?\)/g)].map(([, label = '', path = '']) => ({
  label,
  path,
}))

describe('docs/security.md', () => {
  for (const path of new Set(links.map((link) => link.path))) {
    it(`links to a file that exists: ${path}`, () => assert.ok(existsSync(new URL(path, page)), path))
  }

  it('links each guarantee to a test', () => {
    const promises = text
      .split('\n')
      .filter((line) => line.startsWith('| ') && !/\| Shown by \|$/.test(line))
      .map((line) => line.slice(1, -1).split('|').at(-1) ?? '')
    assert.ok(promises.length > 40)
    for (const shown of promises) assert.match(shown, /\]\(\.\.\/test\/[\w./-]+\.ts\)/)
  })

  it('names each test by its file', () => {
    for (const { label, path } of links.filter(({ path }) => path.startsWith('../test/'))) {
      assert.equal(label, path.split('/').at(-1))
    }
  })
})
