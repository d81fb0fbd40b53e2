import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const src = fileURLToPath(new URL('../../src', import.meta.url))

/** A module imports its own folder and lower layers only. */
const layer: Record<string, number> = {
  base: 0,
  instance: 1,
  dashboard: 3,
  state: 2,
  database: 2,
  edge: 3,
  host: 3,
  geo: 4,
  cli: 5,
  'plugins.ts': 6,
  'fleet.ts': 7,
  'index.ts': 8,
  app: 9,
}

interface Source {
  file: string
  imports: string[]
  text: string
}

const sources: Source[] = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.includes('generated'))
  .map((file) => {
    const text = readFileSync(join(src, file), 'utf8')
    const found = text.matchAll(
      /(?:^|\n)\s*(?:import|export)\b[^'\n]*(?:\{[^}]*\})?[^'\n]*'(\.[^']+)'|import\('(\.[^']+)'\)/g,
    )
    const imports = [...found].map((match) => relative(src, resolve(src, dirname(file), match[1] ?? match[2] ?? '')))
    return { file, imports, text }
  })

const folder = (file: string): string => file.split(sep)[0] ?? ''

describe('the layers', () => {
  it('contain every folder of src', () => {
    for (const { file } of sources) assert.ok(folder(file) in layer, `${file} is in no layer`)
  })

  it('import lower layers only', () => {
    for (const { file, imports } of sources) {
      const own = layer[folder(file)] ?? 0
      for (const target of imports) {
        if (folder(target) === folder(file) || target.includes('generated')) continue
        const below = layer[folder(target)] ?? 99
        assert.ok(below < own, `${file} imports ${target}`)
      }
    }
  })

  it('let the reference application use the public entry points only', () => {
    const { exports } = JSON.parse(readFileSync(join(src, '../package.json'), 'utf8'))
    const entries = Object.values<{ default?: string }>(exports).map((entry) =>
      entry.default?.replace('./dist/', '').replace(/\.js$/, '.ts').replaceAll('/', sep),
    )
    for (const { file, imports } of sources.filter((source) => folder(source.file) === 'app')) {
      for (const target of imports) {
        assert.ok(folder(target) === 'app' || entries.includes(target), `${file} imports ${target}`)
      }
    }
  })

  it('have no circular imports', () => {
    const graph = new Map(sources.map(({ file, imports }) => [file, imports]))
    const done = new Set<string>()
    const visit = (file: string, path: string[]): void => {
      assert.ok(!path.includes(file), `circular import: ${[...path.slice(path.indexOf(file)), file].join(' → ')}`)
      if (done.has(file)) return
      for (const next of graph.get(file) ?? []) visit(next, [...path, file])
      done.add(file)
    }
    for (const file of graph.keys()) visit(file, [])
  })

  it('read the environment in one file', () => {
    const readers = sources.filter(({ text }) =>
      /process\.env\b/.test(text.replace(/\/\*[\s\S]*?\*\/|\/\/.*|`[^`]*`/g, '')),
    )
    assert.deepEqual(
      readers.map(({ file }) => file),
      [join('base', 'env.ts')],
    )
  })

  it('read the resident set, which fails without a free descriptor, in one file', () => {
    const readers = sources.filter(({ text }) => text.includes('memoryUsage'))
    assert.deepEqual(
      readers.map(({ file }) => file),
      [join('base', 'resident-memory.ts')],
    )
  })

  it('import no tests', () => {
    for (const { file, text } of sources) assert.doesNotMatch(text, /from '[^']*\/test\//, file)
  })
})
