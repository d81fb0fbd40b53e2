import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
/** Names of the same form that are no metrics: cookies. */
const others = new Set(['fleet_canary', 'fleet_operator', 'fleet_target'])

describe('the tables of metrics in docs/observability.md', () => {
  it('and the source have the same names', () => {
    const text = readFileSync(join(root, 'docs/observability.md'), 'utf8')
    const rows = text.split('\n').filter((line) => /^\| `(?:fleet|http)_/.test(line))
    const documented = rows.flatMap((row) =>
      [...(row.split('|')[1] ?? '').matchAll(/`(\w+)`/g)].map(([, name]) => name),
    )
    const sources = globSync('src/**/*.ts', { cwd: root }).map((file) => readFileSync(join(root, file), 'utf8'))
    const names = sources.flatMap((source) =>
      [...source.matchAll(/'((?:fleet|http)_\w+)'/g)].map(([, name = '']) => name),
    )
    const registered = [...new Set(names)].filter((name) => !others.has(name))
    assert.ok(registered.length > 40)
    assert.deepEqual(documented.sort(), registered.sort())
  })
})
