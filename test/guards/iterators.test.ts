import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

// An iterator that is kept between calls keeps every entry that was deleted since it moved last: V8 links each old table of a Map or
// Set to its successor until no iterator is on it.

const root = join(import.meta.dirname, '../../src')
/** A field, or an assignment to one, whose value is an iterator. */
const kept =
  /(?:^ {2}(?:readonly )?|\bthis\.)#?\w+(?:: [^=]+)? \??\??= .*\.(?:entries|keys|values|\[Symbol\.iterator\])\(\)$/

test('no field keeps an iterator of a Map or Set', () => {
  for (const line of [
    '  #hand = this.#entries.entries()',
    '  readonly #hand: Iterator<string> = this.#entries.keys()',
    '      if (done) this.#hand = this.#entries.values()',
  ])
    assert.match(line, kept)
  const found = globSync('**/*.ts', { cwd: root }).flatMap((file) =>
    readFileSync(join(root, file), 'utf8')
      .split('\n')
      .filter((line) => kept.test(line))
      .map((line) => `${file}: ${line.trim()}`),
  )
  assert.deepEqual(found, [])
})
