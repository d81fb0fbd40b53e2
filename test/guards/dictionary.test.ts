import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { dictionary, lookup } from '../../src/base/dictionary.ts'
import { networks } from '../../src/base/networks.ts'
import { int, resolveOptions } from '../../src/base/options.ts'
import { duration } from '../../src/cli/doctor/durations.ts'

const src = fileURLToPath(new URL('../../src', import.meta.url))

/** A variable or a member that starts as a plain `{}` and is filled by keys. */
const plainMap =
  /(?:\b(?:const|let|readonly)\s+|#|\bthis\.)#?\w+\s*(?::[^=;\n]*(?:Record<string|\{ \[\w+: string\]|Headers)[^=;\n]*)= \{\}(?!\s*\))/g

const exceptions: ReadonlySet<string> = new Set([
  // Its keys are names of declared options.
  join('base', 'options.ts'),
])

describe('maps whose keys come from outside', () => {
  it('have no prototype', () => {
    for (const file of readdirSync(src, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || file.includes('generated') || exceptions.has(file)) continue
      const found = [...readFileSync(join(src, file), 'utf8').matchAll(plainMap)].map(([text]) => text)
      assert.deepEqual(found, [], `${file}: use dictionary() of base/dictionary.ts, or a Map`)
    }
  })

  it('are detected where they are written as a plain object', () => {
    for (const text of [
      'const headers: Record<string, string> = {}',
      'readonly #facts: Readonly<Record<string, unknown>> = {}',
      'const map: { [key: string]: number } = {}',
      'let headers: Headers = {}',
    ]) {
      assert.equal(text.match(plainMap)?.length, 1, text)
    }
    assert.equal('function f(options: Record<string, string> = {}) {}'.match(plainMap), null)
  })

  it('store keys named like members of objects, and nothing else', () => {
    const map = dictionary<string>()
    assert.equal(map.constructor, undefined)
    const name = '__proto__'
    map[name] = 'x'
    assert.deepEqual(Object.entries(map), [['__proto__', 'x']])
    const table = lookup<Record<string, number>>({ a: 1 })
    assert.deepEqual([table.a, table.constructor, table.toString], [1, undefined, undefined])
  })

  it('are used to look up names in options, addresses and files', () => {
    for (const name of ['constructor', '__proto__', 'toString']) {
      const options = JSON.parse(`{"${name}":1}`)
      assert.throws(() => resolveOptions('x', { a: int(0, 1) }, options), { code: 'FLEET_ERR_OPTION_UNKNOWN' })
      assert.throws(() => networks([name], 'x'), { code: 'FLEET_ERR_OPTION_INVALID' })
    }
    assert.equal(duration('1constructor'), undefined)
  })
})
