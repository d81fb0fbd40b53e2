import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'

const { page, tables } = (await import(new URL('../../scripts/options.js', import.meta.url).href)) as {
  page(): Promise<string>
  tables: readonly string[][]
}

describe('docs/options.md', () => {
  it('has the options, accepted values, defaults and texts of src; `npm run options` writes it', async () => {
    assert.equal(readFileSync(new URL('../../docs/options.md', import.meta.url), 'utf8'), await page())
  })

  it('explains every option', async () => {
    const empty = (await page()).split('\n').filter((line) => /^\| `.*\|\s*\|$/.test(line))
    assert.deepEqual(empty, [])
  })

  it('has each plugin once, in alphabetical order', () => {
    const titles = tables.map(([title]) => (title as string).toLowerCase())
    assert.deepEqual(titles, [...new Set(titles)].sort())
  })
})
