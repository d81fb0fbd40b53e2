import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { instanceIn, isUnclear } from '../../../src/cli/init/instance.ts'
import { parseSource, readGraph } from '../../../src/cli/init/source.ts'
import '../../helpers/cleanup.ts'
import { type Files, project } from './projects.ts'

/** The variable and the statement of the instance, or why it is unclear. */
function found(text: string, file = 'a.mjs', type?: string): string | undefined {
  const source = parseSource(file, text, type)
  const instance = instanceIn(source)
  if (!instance) return undefined
  if (isUnclear(instance)) return `${instance.line}: ${instance.reason}`
  const { name, statement, mayAwait } = instance
  return `${name}${mayAwait ? ' await' : ''}: ${text.slice(statement.start, statement.end)}`
}

describe('the Fastify instance', () => {
  it('is the variable with the result of the factory, however that was loaded', () => {
    for (const [load, call] of [
      ["import F from 'fastify'", 'F()'],
      ["import { fastify } from 'fastify'", 'fastify()'],
      ["import { fastify as f } from 'fastify'", 'f()'],
      ["import { default as f } from 'fastify'", 'f()'],
      ["import * as ns from 'fastify'", 'ns.fastify()'],
      ["import * as ns from 'fastify'", 'ns.default()'],
    ] as const)
      assert.equal(found(`${load}\nconst app = ${call}\n`), `app await: const app = ${call}`)
    for (const [load, call] of [
      ['', "require('fastify')()"],
      ['', "require('fastify').fastify()"],
      ['', "require('fastify').default()"],
      ["const F = require('fastify')", 'F()'],
      ["const F = require('fastify')", 'F.fastify()'],
      ["const F = require('fastify').default", 'F()'],
      ["const { fastify } = require('fastify')", 'fastify()'],
      ["const { fastify: f } = require('fastify')", 'f()'],
      ["const { default: f } = require('fastify')", 'f()'],
    ] as const)
      assert.equal(found(`${load}\nvar app = ${call}\n`, 'a.cjs'), `app: var app = ${call}`, load)
  })

  it('is none of another module or member', () => {
    for (const text of [
      "import F from 'other'\nconst app = F()",
      "import { errorCodes } from 'fastify'\nconst app = errorCodes()",
      "import * as ns from 'fastify'\nconst app = ns()",
      "import * as ns from 'fastify'\nconst app = ns.other()",
      "const { other } = require('fastify')\nconst app = other()",
      "const app = require('fastify').other()",
      "const app = load('fastify')()",
      "import F from 'fastify'\nconst app = other.F()",
    ])
      assert.equal(found(text), undefined, text)
  })

  it('may have a type provider, and its statement has the export', () => {
    const line = (code: string): string => `import F from 'fastify'\n${code}\n`
    for (const code of [
      'const app = F().withTypeProvider()',
      'const app = F({}).withTypeProvider().withTypeProvider()',
      'export const app = F()',
      'export const app = F().withTypeProvider()',
    ])
      assert.equal(found(line(code)), `app await: ${code}`)
    for (const code of [
      'const app = F().register(x)',
      'const app = F().withTypeProvider',
      'F()',
      'app = F()',
      'f(F())',
    ])
      assert.equal(found(line(code)), '2: the Fastify instance is not declared as a variable', code)
    assert.equal(found(line('const { server } = F()')), '2: the Fastify instance is taken apart')
    assert.equal(
      found(line('\nfor (const app = F(); ; ) break')),
      '3: the Fastify instance is not declared in a plain block',
    )
    assert.equal(found(line('const a = F()\nconst b = F()')), '1: it creates 2 Fastify instances')
  })

  it('may be awaited for in an async function, and at the top of a module that allows it', () => {
    const mayAwait = (text: string, file?: string, type?: string): boolean =>
      / await: /.test(found(`import F from 'fastify'\n${text}`, file, type) ?? '')
    const top = 'const app = F()\n'
    assert.deepEqual(
      [
        mayAwait(top, 'a.mjs'),
        mayAwait(top, 'a.mts'),
        mayAwait(top, 'a.js', 'module'),
        mayAwait(top, 'a.js', 'commonjs'),
        mayAwait(top, 'a.js'),
        mayAwait(top, 'a.ts', 'module'),
        mayAwait(`${top}await app.ready()`, 'a.ts'),
        mayAwait(`${top}const f = async () => { await 0 }`, 'a.ts'),
      ],
      [true, true, true, false, false, false, true, false],
    )
    assert.deepEqual(
      [
        'async function make() { const app = F() }',
        'const make = async () => { const app = F() }',
        'function make() { const app = F() }',
        'async function outer() { return () => { const app = F() } }',
        'function outer() { return async () => { const app = F() } }',
        'if (x) { const app = F() }',
      ].map((text) => mayAwait(text)),
      [true, true, false, false, true, true],
    )
  })
})

describe('the files of an app', () => {
  const graph = (files: Files, entry = 'src/app.js') => {
    const folder = project({ 'package.json': '{}', 'outside.js': '', ...files })
    const { sources, unread, runsDirectly } = readGraph(join(folder, 'app'), entry, 'module')
    return { files: sources.map(({ file }) => file), unread: unread.map(({ file }) => file), runsDirectly }
  }
  const app = (files: Files): Files =>
    Object.fromEntries(Object.entries(files).map(([name, text]) => [`app/${name}`, text]))

  it('are the entry and what it imports, each once, and none outside of the folder', () => {
    const files = app({
      'src/app.js': "import './b.js'\nimport '../c'\nimport './folder'\nimport pg from 'pg'\nimport '../../outside.js'",
      'src/b.js': "export * from './app.js'\nrequire('./d')",
      'src/d.cjs': '',
      'src/folder/index.js': '',
      'c.mjs': "import '../outside'\nimport './data.json'",
      'data.json': '{}',
    })
    assert.deepEqual(graph(files), {
      files: ['src/app.js', 'src/b.js', 'c.mjs', 'src/folder/index.js', 'src/d.cjs'],
      unread: [],
      runsDirectly: true,
    })
  })

  const autoload = (dir: string, name = 'dir'): string =>
    `app.register(require('@fastify/autoload'), { ${name}: join(__dirname, ${dir}) })`

  it('are those that @fastify/autoload loads, without declarations and tests', () => {
    const plugins = app({
      'src/plugins/a.js': '',
      'src/plugins/in/b.ts': '',
      'src/plugins/c.d.ts': '',
      'src/plugins/d.test.js': '',
    })
    const loaded = (text: string): string[] => graph({ ...plugins, ...app({ 'src/app.js': text }) }).files.slice(1)
    assert.deepEqual(loaded(autoload("'plugins'")), ['src/plugins/a.js', 'src/plugins/in/b.ts'])
    assert.deepEqual(loaded(`${autoload("'plugins'")}\n${autoload("'plugins'")}`), [
      'src/plugins/a.js',
      'src/plugins/in/b.ts',
    ])
    for (const text of [
      autoload("'../..'"),
      autoload('plugins'),
      autoload("'plugins'", 'other'),
      autoload("'plugins'").replace('autoload', 'static'),
    ])
      assert.deepEqual(loaded(text), [], text)
  })

  it('are at most 200', () => {
    const many = Array.from({ length: 250 }, (_, i) => `src/f${i}.js`)
    const text = many.map((file) => `import './${file.slice(4)}'`).join('\n')
    assert.equal(
      graph(app({ 'src/app.js': text, ...Object.fromEntries(many.map((file) => [file, ''])) })).files.length,
      200,
    )
    const loaded = many.map((file) => [file.replace('src', 'src/plugins'), ''])
    assert.equal(graph(app({ 'src/app.js': autoload("'plugins'"), ...Object.fromEntries(loaded) })).files.length, 200)
  })

  it('run without a build if Node finds each under its name, and parses each', () => {
    const direct = (text: string, more: Files = {}): boolean =>
      graph(app({ 'src/app.ts': text, 'src/b.ts': '', ...more }), 'src/app.ts').runsDirectly
    assert.deepEqual(
      [direct("import './b.ts'"), direct("import './b.js'"), direct("import './b'"), direct('enum A { B }')],
      [true, false, false, false],
    )
    const broken = graph(app({ 'src/app.js': "import './b.js'", 'src/b.js': 'const = 1' }))
    assert.deepEqual(broken, { files: ['src/app.js'], unread: ['src/b.js'], runsDirectly: true })
  })
})

it('the types of a file are removed without silencing warnings of Node', () => {
  const { emitWarning } = process
  parseSource('a.ts', 'let a: 1', 'module')
  assert.throws(() => parseSource('a.ts', 'enum A {}', 'module'), SyntaxError)
  assert.equal(process.emitWarning, emitWarning)
})
