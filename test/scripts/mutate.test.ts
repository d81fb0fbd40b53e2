import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isAlive } from '../helpers/alive.ts'
import { until } from '../helpers/until.ts'

const script = fileURLToPath(new URL('../../scripts/mutate/main.js', import.meta.url))

const source = 'export const isLarge = (size: number): boolean => size >= 10\n'
const testOf = (...asserts: string[]): string => `
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { isLarge } from '../src/size.ts'
it('tells large from small', () => { ${asserts.join(';')} })
`
const weak = testOf('assert.equal(isLarge(20), true)', 'assert.equal(isLarge(5), false)')
const strong = testOf('assert.equal(isLarge(10), true)', 'assert.equal(isLarge(9), false)')

interface Project {
  readonly root: string
  /** `TMPDIR` of the program. */
  readonly temporary: string
  readonly run: (...args: string[]) => { status: number | null; stdout: string; stderr: string }
}

function project(t: TestContext, files: Record<string, string>): Project {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-mutate-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const root = join(folder, 'project')
  const temporary = join(folder, 'tmp')
  mkdirSync(temporary)
  const all = { 'package.json': '{ "type": "module" }', 'bench/README.md': '', 'src/size.ts': source, ...files }
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  const options = { cwd: root, encoding: 'utf8', env: { ...process.env, TMPDIR: temporary } } as const
  return { root, temporary, run: (...args) => spawnSync(process.execPath, [script, ...args], options) }
}

interface Line {
  mutation: string
  result: string
  test?: string
}
const results = (stdout: string): [mutation: string, result: string][] =>
  stdout
    .trim()
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line)
    .map(({ mutation, result }) => [mutation, result])

const contents = (root: string): Record<string, string> =>
  Object.fromEntries(
    globSync('**/*', { cwd: root })
      .filter((name) => statSync(join(root, name)).isFile())
      .map((name) => [name, readFileSync(join(root, name), 'utf8')]),
  )

describe('npm run mutate', { concurrency: 2 }, () => {
  it('kills every mutant of a source that has a strong test', (t) => {
    const { run } = project(t, { 'test/size.test.ts': strong })
    const { status, stdout } = run('src/size.ts', '--json')
    assert.equal(status, 0)
    assert.deepEqual(results(stdout), [
      ['return: size >= 10 → true', 'killed'],
      ['return: size >= 10 → false', 'killed'],
      ['boundary: size >= 10 → size > 10', 'killed'],
      ['number: size >= 10 → size >= 11', 'killed'],
      ['number: size >= 10 → size >= 0', 'killed'],
    ])
  })

  it('shows what a weak test does not notice, with the line and the difference', (t) => {
    const { run } = project(t, { 'test/size.test.ts': weak })
    const { stdout } = run('src')
    const line = 'export const isLarge = (size: number): boolean => size'
    assert.equal(
      stdout,
      `
src/size.ts:1 boundary: size >= 10 → size > 10
- ${line} >= 10
+ ${line} > 10

src/size.ts:1 number: size >= 10 → size >= 11
- ${line} >= 10
+ ${line} >= 11

src: 60 %: 3 killed (0 by the time limit), 2 survived, 0 equivalent; 5 of 5, seed 1
`,
    )
  })

  it('counts all mutants of a source without tests as survived', (t) => {
    const { run } = project(t, {})
    const { stdout, stderr } = run('src')
    assert.match(stdout, /src: 0 %: 0 killed .*, 5 survived/)
    assert.match(stderr, /no test for src\/size\.ts/)
  })

  it('leaves out a test that fails without a mutant', (t) => {
    const { run } = project(t, { 'test/size.test.ts': strong, 'test/broken.test.ts': `${strong} throw new Error()` })
    const { stdout, stderr } = run('src', '--sample', '1')
    assert.match(stderr, /left out: test\/broken\.test\.ts: fails without a mutant/)
    assert.match(stdout, /1 of 5/)
  })

  it('counts equivalent mutants apart, and reports entries of the list that match no mutant', (t) => {
    const mutation = 'boundary: size >= 10 → size > 10'
    const entry = { file: 'src/size.ts', text: source.trim(), mutation, reason: 'sizes are odd' }
    const list = [entry, { ...entry, text: 'an older line' }]
    const { run } = project(t, { 'test/size.test.ts': weak, 'bench/mutants/equivalent.json': JSON.stringify(list) })
    const { stdout, stderr } = run('src', '--json')
    assert.deepEqual(
      results(stdout).filter(([, result]) => result === 'equivalent'),
      [[mutation, 'equivalent']],
    )
    assert.deepEqual(stderr.match(/the list of equivalent mutants is out of date/g)?.length, 1)
  })

  it('rejects an equivalent mutant without a reason', (t) => {
    const list = [{ file: 'src/size.ts', text: source.trim(), mutation: 'boundary: size >= 10 → size > 10' }]
    const { run } = project(t, { 'bench/mutants/equivalent.json': JSON.stringify(list) })
    const { status, stderr } = run('src', '--list')
    assert.notEqual(status, 0)
    assert.match(stderr, /has no reason/)
  })

  it('draws the same sample for the same seed', (t) => {
    const { run } = project(t, {})
    const sample = (seed: string): string => run('src', '--list', '--sample', '2', '--seed', seed).stdout
    const samples = ['1', '2', '3', '4', '5'].map(sample)
    assert.ok(samples.every((lines) => lines.trim().split('\n').length === 2))
    assert.equal(sample('1'), samples[0])
    assert.ok(new Set(samples).size > 1)
  })

  it('changes nothing in the project and leaves no temporary file', (t) => {
    const { root, temporary, run } = project(t, { 'test/size.test.ts': weak })
    const before = contents(root)
    run('src', '--workers', '2')
    assert.deepEqual(contents(root), before)
    assert.deepEqual(globSync('*', { cwd: temporary }), [])
  })

  it('saves one row per module, in alphabetical order', (t) => {
    const { root, run } = project(t, { 'src/b/size.ts': source, 'test/size.test.ts': weak })
    const rows = (): string[] =>
      readFileSync(join(root, 'bench/MUTATION.md'), 'utf8')
        .split('\n')
        .filter((line) => line.startsWith('| `'))
        .map((line) => line.replace(/\d{4}-\d\d-\d\d/, 'DATE'))
    run('src/size.ts', '--save', '--sample', '1', '--seed', '3')
    run('src/b', '--save')
    run('src/size.ts', '--save')
    assert.deepEqual(rows(), [
      '| `src/b` | 0 % | 0 | 0 | 5 | 0 | all 5 | 1 | 20 s | DATE |',
      '| `src/size.ts` | 60 % | 3 | 0 | 2 | 0 | all 5 | 1 | 20 s | DATE |',
    ])
  })

  it('leaves no file and no process when it is stopped', async (t) => {
    // The test never ends, and its child has left its group.
    const { root, temporary } = project(t, {
      'test/size.test.ts': `
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { isLarge } from '../src/size.ts'
const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore' })
writeFileSync(process.env.PIDS, process.pid + ' ' + child.pid)
setInterval(() => isLarge(1), 1000)
`,
    })
    const file = join(root, '..', 'pids')
    const env = { ...process.env, TMPDIR: temporary, PIDS: file }
    const program = spawn(process.execPath, [script, 'src', '--budget', '3600'], { cwd: root, env, stdio: 'ignore' })
    const pids = await until(() => (existsSync(file) ? /^(\d+) (\d+)$/.exec(readFileSync(file, 'utf8')) : null))
    program.kill('SIGTERM')
    const [code] = await once(program, 'exit')
    assert.equal(code, 143)
    await until(() => ![pids[1], pids[2]].map(Number).some(isAlive))
    assert.deepEqual(globSync('*', { cwd: temporary }), [])
  })

  it('rejects a folder that does not exist, a number that is none and an unknown option', (t) => {
    const { run } = project(t, {})
    for (const args of [[], ['test'], ['src/none'], ['src', '--sample', 'x'], ['src', '--seed=-1'], ['src', '--fast']])
      assert.equal(run(...args).status, 2, args.join(' '))
  })
})
