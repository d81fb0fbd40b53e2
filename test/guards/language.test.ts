import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'

/** Words that the glossary in CONTRIBUTING.md replaces. Exact words, so that the list never rejects a good sentence. */
const banned = /\b(?:mend|mends|mended|mending|whoever|whosoever|nobody's business|hangs itself)\b/i

const root = fileURLToPath(new URL('../..', import.meta.url))
const places = [
  'src',
  'docs',
  'test',
  'nginx',
  'haproxy',
  'deploy',
  'scripts',
  'README.md',
  'CHANGELOG.md',
  'SECURITY.md',
]
/** Both name the words in order to replace them. */
const exempt = new Set(['test/guards/language.test.ts', 'docs/migration.md'])

it('uses the words of the glossary', () => {
  const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '--', ...places], {
    cwd: root,
    encoding: 'utf8',
  })
  const found = files
    .split('\n')
    .filter((file) => file !== '' && !exempt.has(file))
    .flatMap((file) =>
      readFileSync(join(root, file), 'utf8')
        .split('\n')
        .flatMap((line, index) => (banned.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
    )
  assert.deepEqual(found, [], 'words that CONTRIBUTING.md lists under "not"')
})
