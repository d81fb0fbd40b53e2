import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const src = fileURLToPath(new URL('../../src', import.meta.url))

/** What a room may import besides its own folder: lower floors only. */
const floor: Record<string, number> = {
  base: 0,
  instance: 1,
  dashboard: 2,
  state: 2,
  database: 2,
  edge: 3,
  host: 3,
  cli: 4,
  'fleet.ts': 5,
  'index.ts': 6,
  app: 7,
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

describe('the house', () => {
  it('has only folders with a floor', () => {
    for (const { file } of sources) assert.ok(folder(file) in floor, `${file} stands on no floor`)
  })

  it('imports downwards only', () => {
    for (const { file, imports } of sources) {
      const own = floor[folder(file)] ?? 0
      for (const target of imports) {
        if (folder(target) === folder(file) || target.includes('generated')) continue
        const below = floor[folder(target)] ?? 99
        assert.ok(below < own, `${file} imports ${target}`)
      }
    }
  })

  it('lets the reference application in by the public doors only', () => {
    const { exports } = JSON.parse(readFileSync(join(src, '../package.json'), 'utf8'))
    const doors = Object.values<{ default?: string }>(exports).map((door) =>
      door.default?.replace('./dist/', '').replace(/\.js$/, '.ts').replaceAll('/', sep),
    )
    for (const { file, imports } of sources.filter((source) => folder(source.file) === 'app')) {
      for (const target of imports) {
        assert.ok(folder(target) === 'app' || doors.includes(target), `${file} imports ${target}`)
      }
    }
  })

  it('has no circles', () => {
    const graph = new Map(sources.map(({ file, imports }) => [file, imports]))
    const done = new Set<string>()
    const visit = (file: string, path: string[]): void => {
      assert.ok(!path.includes(file), `circle: ${[...path.slice(path.indexOf(file)), file].join(' → ')}`)
      if (done.has(file)) return
      for (const next of graph.get(file) ?? []) visit(next, [...path, file])
      done.add(file)
    }
    for (const file of graph.keys()) visit(file, [])
  })

  it('reads the environment in one file', () => {
    const readers = sources.filter(({ text }) =>
      /process\.env\b/.test(text.replace(/\/\*[\s\S]*?\*\/|\/\/.*|`[^`]*`/g, '')),
    )
    assert.deepEqual(
      readers.map(({ file }) => file),
      [join('base', 'env.ts')],
    )
  })

  it('does not import tests', () => {
    for (const { file, text } of sources) assert.doesNotMatch(text, /from '[^']*\/test\//, file)
  })
})
