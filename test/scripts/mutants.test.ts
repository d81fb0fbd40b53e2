import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'

interface Mutant {
  file: string
  line: number
  text: string
  mutation: string
  start: number
  end: number
  replacement: string
}

interface Found {
  test: string
  isNear: boolean
  isOwn: boolean
}

const load = async <T>(name: string): Promise<T> =>
  (await import(new URL(`../../scripts/mutate/${name}`, import.meta.url).href)) as T
const { mutantsOf } = await load<{ mutantsOf(file: string, source: string): Mutant[] }>('mutants.js')
const { testFinder } = await load<{ testFinder(root: string): (file: string) => Found[] }>('tests.js')

const namesOf = (found: Found[]): string[] => found.map(({ test }) => test)
const mutations = (source: string): string[] => mutantsOf('src/a.ts', source).map(({ mutation }) => mutation)

describe('mutantsOf', () => {
  it('moves a boundary, replaces a condition and a number', () => {
    assert.deepEqual(mutations('if (a < 10) b = c'), [
      'condition: a < 10 → true',
      'condition: a < 10 → false',
      'boundary: a < 10 → a <= 10',
      'number: a < 10 → a < 11',
      'number: a < 10 → a < 0',
      'statement: b = c → ;',
    ])
  })

  it('never makes a loop endless', () => {
    assert.deepEqual(mutations('while (busy) wait()'), ['condition: busy → false', 'statement: wait() → ;'])
    assert.deepEqual(mutations('for (;;) {}'), [])
  })

  it('empties a branch only if the other one exists, as no condition does the same', () => {
    assert.deepEqual(
      mutations('if (a) { b() }').filter((m) => /^(block|else)/.test(m)),
      [],
    )
    assert.deepEqual(
      mutations('if (a) { b() } else { c() }').filter((m) => /^(block|else)/.test(m)),
      ['block: { b() } → {}', 'else: { c() } → nothing'],
    )
  })

  const single: [source: string, ...expected: string[]][] = [
    ['x = a === b', 'equality: a === b → a !== b'],
    ['x = a && b', 'logical: a && b → a || b'],
    ['x = a || b', 'logical: a || b → a && b'],
    ['x = !a', 'negation: !a → a'],
    ['x = a + b', 'arithmetic: a + b → a - b'],
    ['x = a % b', 'arithmetic: a % b → a * b'],
    ['x = a ?? b', 'nullish: a ?? b → a'],
    ['x = a?.b', 'optional: a?.b → a.b'],
    ['x = a?.[b]', 'optional: a?.[b] → a[b]'],
    ['x = a?.(b)', 'optional: a?.(b) → a(b)'],
    ['x = a.every(b)', 'method: a.every(b) → a.some(b)'],
    ['x = Math.min(a, b)', 'method: Math.min(a, b) → Math.max(a, b)'],
    ['x = true', 'boolean: x = true → x = false'],
    ["x = 'draining'", "string: x = 'draining' → x = ''"],
    ['x += a', 'arithmetic: x += a → x -= a'],
    ['x--', 'arithmetic: x-- → x++'],
    ['x = () => a in b', 'return: a in b → true', 'return: a in b → false'],
  ]
  for (const [source, ...expected] of single) {
    it(`changes \`${source}\``, () => {
      const found = mutations(source)
      assert.deepEqual(
        found.filter((mutation) => !mutation.startsWith('statement')),
        expected,
      )
      assert.equal(found.length - expected.length, 1, 'the statement as a whole')
    })
  }

  it('replaces what a function returns, if that is declared as boolean', () => {
    assert.deepEqual(mutations('function f(): boolean { return g() }'), ['return: g() → true', 'return: g() → false'])
    assert.deepEqual(mutations('function f(): string { return g() }'), [])
  })

  it('leaves types, imports, log lines, error texts, names of members and text for people', () => {
    for (const source of [
      "import { a } from './a.ts'",
      "export * from './a.ts'",
      "type A = 'a' | 1; interface B { c: true }; declare module 'd' { interface E { f: 2 } }",
      "log.warn({ a: 1 }, 'late')",
      "class A { #log; b() { this.#log.error('late', !a) } }",
      "console.log('late')",
      "throw new TypeError('bad' + 1)",
      "const a = new FleetError('FLEET_ERR_A', `after`, 1)",
      "const a = { 'content-type': b }",
      "const a = 'a sentence'",
      "const a = b + ' c'",
      'class A extends B { constructor() { super(c) } }',
    ])
      assert.deepEqual(mutations(source), [], source)
  })

  it('reads code inside of a type assertion', () => {
    assert.deepEqual(mutations('const a = (b < c) as boolean'), ['boundary: b < c → b <= c'])
  })

  it('tells the line, its text, and what is replaced', () => {
    const source = 'const a = 1\n  const b = c && d // why\n'
    const [, , mutant] = mutantsOf('src/a.ts', source)
    assert.ok(mutant)
    assert.deepEqual([mutant.line, mutant.text], [2, 'const b = c && d // why'])
    assert.deepEqual([source.slice(mutant.start, mutant.end), mutant.replacement], ['&&', '||'])
  })
})

function project(t: TestContext, files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'fleet-mutants-'))
  t.after(() => rmSync(root, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  return root
}

describe('testFinder', () => {
  it('returns the test of the name, then those of the folder, then others that import the file or its importers', (t) => {
    const root = project(t, {
      'src/one/a.ts': '',
      'src/two/b.ts': "import '../one/a.ts'",
      'src/two/c.ts': "import './b.ts'",
      'src/types.ts': "import type { A } from './one/a.ts'",
      'test/helper.ts': "import '../src/one/a.ts'",
      'test/one/a.test.ts': "import '../../src/one/a.ts'",
      'test/one/other.test.ts': '',
      'test/direct.test.ts': "import './helper.ts'",
      'test/program.test.ts': "fork('../src/one/a.ts')",
      'test/two/b.test.ts': "import '../../src/two/b.ts'",
      'test/two/c.test.ts': "import '../../src/two/c.ts'",
      'test/types.test.ts': "import '../src/types.ts'",
      'test/fleet/slow.test.ts': "import '../../src/one/a.ts'",
      'test/prove/kill.prove.ts': "import '../../src/one/a.ts'",
    })
    assert.deepEqual(namesOf(testFinder(root)('src/one/a.ts')), [
      'test/one/a.test.ts',
      'test/direct.test.ts',
      'test/program.test.ts',
      'test/two/b.test.ts',
      'test/one/other.test.ts',
    ])
  })

  it('puts those first that share more of the name, whether in the folder or beside it', (t) => {
    const routes = "import '../../src/one/sign-in-routes.ts'"
    const root = project(t, {
      'src/one/sign-in-routes.ts': '',
      'src/one/index.ts': "import './sign-in-routes.ts'",
      'src/fleet.ts': "import './one/index.ts'",
      'test/one/all.test.ts': routes,
      'test/one/other.test.ts': '',
      'test/one/sign-in-link.test.ts': "import '../../src/fleet.ts'",
      'test/one/sign-in.test.ts': "import '../../src/fleet.ts'",
      'test/one/through-fleet.test.ts': "import '../../src/fleet.ts'",
      'test/one-sign-in-routes.test.ts': routes.replace('../../', '../'),
      'test/ones.test.ts': "import '../src/fleet.ts'",
      'test/two/far.test.ts': "import '../../src/fleet.ts'",
      'test/two/near.test.ts': "import '../../src/one/index.ts'",
    })
    const found = testFinder(root)('src/one/sign-in-routes.ts')
    assert.deepEqual(namesOf(found.filter(({ isNear }) => isNear)), [
      'test/one-sign-in-routes.test.ts',
      'test/one/sign-in.test.ts',
      'test/one/sign-in-link.test.ts',
      'test/one/all.test.ts',
      'test/one/through-fleet.test.ts',
    ])
    const own = found.filter(({ isOwn }) => isOwn)
    assert.deepEqual(namesOf(own), ['test/one-sign-in-routes.test.ts', 'test/one/sign-in.test.ts'])
    assert.deepEqual(namesOf(found.filter(({ isNear }) => !isNear)), [
      'test/two/near.test.ts',
      'test/one/other.test.ts',
    ])
  })
})

describe('bench/mutants/equivalent.json', () => {
  it('lists mutants that exist', () => {
    const root = new URL('../../', import.meta.url)
    const entries = JSON.parse(readFileSync(new URL('bench/mutants/equivalent.json', root), 'utf8')) as Mutant[]
    for (const { file, text, mutation } of entries) {
      const found = mutantsOf(file, readFileSync(new URL(file, root), 'utf8'))
      assert.ok(
        found.some((mutant) => mutant.text === text && mutant.mutation === mutation),
        `${file}: ${mutation}`,
      )
    }
  })
})
