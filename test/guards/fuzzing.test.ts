import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { targets } from '../fuzz/engine/targets.ts'
import { differences } from '../fuzz/wire-differences.ts'

const text = readFileSync(new URL('../../docs/fuzzing.md', import.meta.url), 'utf8')

/** First cells of the rows of the table under a heading. */
function rows(heading: string): string[] {
  const section = text.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''
  return [...section.matchAll(/^\| ([^|]+) \|/gm)].slice(1).map((match) => (match[1] as string).replaceAll('`', ''))
}

describe('docs/fuzzing.md', () => {
  it('lists every target', () => {
    assert.deepEqual(rows('Targets'), targets)
  })

  it('lists every difference from Node’s parser that the wire target tolerates', () => {
    assert.deepEqual(
      rows("Differences between the proxy's parser and Node's").sort(),
      differences.map(({ name }) => name).sort(),
    )
  })
})
