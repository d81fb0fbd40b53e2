import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { oneThread, rareCollection } from '../helpers/compiler.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { type Check, checks } from './docs-code-checks.ts'

// Every code block of README and docs in TypeScript or JavaScript is type-checked and executed. An HTML comment before
// a block says what it needs:
//
//   <!-- setup: app -->        `app` is an app with the umbrella plugin, and some names that readers replace are declared
//   <!-- setup: new app -->    the same without the plugin, which the block registers
//   <!-- setup: continue -->   the blocks before it on the page come first
//   <!-- check: NAME -->       the entry NAME of docs-code-checks.ts starts what it needs, and asserts what the page says
//   <!-- types only: FILE, run by test/FOLDER -->   it is not executed here; tests in that folder run it
//
// Blocks without a comment are complete. Those that consist of tests are run by `node --test`. Those without a check run
// one after the other in one process, because most of the time of a process is spent on loading the toolkit.

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = temporaryFolder('docs')

const newApp = `
import Fastify from 'fastify'
import fleet from 'fastify-fleet'
const app = Fastify()
`
const placeholders = `
const id = 1
const fetchPrice = async (id: number) => id
const data = { sku: 'tea', name: 'Tea', priceCents: 450 }
const handler = async () => 'ok'
const [login, search, order, cleanUp, build] = [handler, handler, handler, handler, async (_: object) => 'ok']
const everyMinute = async (task: () => Promise<unknown>, _: AbortSignal) => void (await task())
const stopYourWork = () => {}
`
const client = 'const prisma = { product: { findUnique: async ({ where }: { where: { id: number } }) => where } }\n'
const setups: Readonly<Record<string, string>> = {
  'new app': newApp + placeholders,
  app: `${newApp}await app.register(fleet, { lifecycle: { signals: false } })\n${placeholders}${client}`,
}

interface Block {
  readonly name: string
  readonly file: string
  readonly page: string
  readonly code: string
  readonly check: Check
  /** Why it is not executed. */
  readonly typesOnly: string | undefined
}

const commentOf = (comments: string, name: string): string | undefined =>
  new RegExp(`<!-- ${name}: (.*?) -->`).exec(comments)?.[1]
/** Names of the checks of the blocks that are executed. */
const named = new Set<string>()

function blocksOf(page: string): Block[] {
  const text = readFileSync(join(root, page), 'utf8')
  const found = [...text.matchAll(/((?:^<!-- [^\n]* -->\n+)*)^```(ts|js)\n([\s\S]*?)^```$/gm)]
  let earlier = ''
  return found.map(([, comments = '', language = '', written = ''], i) => {
    const setup = commentOf(comments, 'setup')
    const start = setup === undefined ? '' : setup === 'continue' ? earlier : setups[setup]
    assert.ok(start !== undefined, `${page}: unknown setup ${setup}`)
    const code = `${start}${written}`
    earlier = code
    const checkName = commentOf(comments, 'check')
    const check = checkName === undefined ? {} : checks[checkName]
    assert.ok(check, `${page}: unknown check ${checkName}`)
    const typesOnly = commentOf(comments, 'types only')
    if (checkName !== undefined && typesOnly === undefined) named.add(checkName)
    const name = `${page}, block ${i + 1}`
    const file = `${page.replace(/\W/g, '-')}-${i + 1}.${language === 'ts' ? 'ts' : 'mjs'}`
    return { name, page, file, code, check, typesOnly }
  })
}

const pages = ['README.md', ...globSync('docs/**/*.md', { cwd: root, exclude: ['docs/node_modules/**'] }).sort()]
const blocks = pages.flatMap(blocksOf)

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const sources = Object.entries<{ default?: string }>(manifest.exports).flatMap(([name, { default: file }]) =>
  file ? [[`fastify-fleet${name.slice(1)}`, join(root, file.replace('/dist/', '/src/').replace(/\.js$/, '.ts'))]] : [],
)

/** Resolves the package to its sources, and other packages to those of this project. */
const hooks = `
import { registerHooks } from 'node:module'
const sources = new Map(${JSON.stringify(sources.map(([name, file]) => [name, pathToFileURL(file as string).href]))})
registerHooks({
  resolve(specifier, context, next) {
    const url = sources.get(specifier)
    if (url) return { url, shortCircuit: true }
    const isOwn = context.parentURL?.startsWith(${JSON.stringify(pathToFileURL(folder).href)})
    return next(specifier, isOwn && /^[@a-z]/.test(specifier) ? { ...context, parentURL: ${JSON.stringify(pathToFileURL(root).href)} } : context)
  },
})
`
/** Starts the app of a block, which makes Fastify check its routes. */
const finish = `
if (typeof app !== 'undefined') { await app.ready(); await app.close() }
`
const exit = 'setImmediate(() => process.exit())\n'

/** Runs the blocks that its arguments name, and prints the result of each. */
const runner = `
import { setImmediate as nextTurn } from 'node:timers/promises'
for (const file of process.argv.slice(2)) {
  const error = await import('./' + file).then(() => nextTurn()).then(() => undefined, (thrown) => thrown)
  const result = error === undefined ? 'ran' : error instanceof Error ? error.stack : String(error)
  process.stdout.write('\\n' + JSON.stringify({ file, result }) + '\\n')
}
${exit}`

const tools = `
import assert from 'node:assert/strict'
import { until } from ${JSON.stringify(join(root, 'test/helpers/until.ts'))}
`
const checked = ({ code, check: { assertions } }: Block): string =>
  assertions === undefined ? code : code + tools + assertions
const isTest = ({ code }: Block): boolean => code.includes("from 'node:test'")

const environment = { PORT: 0, LOG_LEVEL: 'silent' }
const execArgv = ['--import', pathToFileURL(join(folder, 'hooks.mjs')).href]
const executed = ({ file }: Block): string => file.replace(/\.(\w+)$/, '.run.$1')

/** Executes a block in a process of its own, and returns what it printed. */
async function run(block: Block): Promise<string> {
  const { env, files = {}, replaced } = block.check
  let code = checked(block)
  for (const [from, to] of Object.entries((await replaced?.()) ?? {})) code = code.replaceAll(from, to)
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  const file = executed(block)
  writeFileSync(join(folder, file), isTest(block) ? code : code + finish + exit)
  const options = isTest(block) ? [...execArgv, '--test', '--test-reporter=tap'] : execArgv
  const app = forkApp(file, { cwd: folder, execArgv: options, env: { ...environment, ...(await env?.()) } })
  const { code: status } = await app.exit
  assert.equal(status, 0, app.stderr + app.stdout)
  return app.stdout
}

describe('the code of the documentation', () => {
  before(() => {
    for (const block of blocks) writeFileSync(join(folder, block.file), `${checked(block)}\nexport {}\n`)
    mkdirSync(join(folder, 'generated/prisma'), { recursive: true })
    const client = JSON.stringify(join(root, 'src/app/generated/prisma/client.ts'))
    for (const file of ['client.ts', 'client.js'])
      writeFileSync(join(folder, 'generated/prisma', file), `export * from ${client}\n`)
    writeFileSync(join(folder, 'hooks.mjs'), hooks)
  })

  it('is found', () => assert.ok(blocks.length > 15))

  it('type-checks', () => {
    const paths = {
      ...Object.fromEntries(sources.map(([name, file]) => [name, [file]])),
      '*': [join(root, 'node_modules/@types/*'), join(root, 'node_modules/*')],
    }
    const compilerOptions = {
      strict: true,
      target: 'es2024',
      lib: ['es2024'],
      module: 'esnext',
      moduleResolution: 'bundler',
      types: ['node'],
      typeRoots: [join(root, 'node_modules/@types')],
      paths,
      skipLibCheck: true,
      allowImportingTsExtensions: true,
      noEmit: true,
    }
    const files = blocks.map(({ file }) => file).filter((file) => file.endsWith('.ts'))
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', '.', ...oneThread], {
      cwd: folder,
      env: rareCollection,
      encoding: 'utf8',
    })
    assert.equal(status, 0, stdout)
  })

  it('uses every check', () => assert.deepEqual([...named].sort(), Object.keys(checks).sort()))

  for (const { name, page, typesOnly } of blocks.filter(({ typesOnly }) => typesOnly !== undefined))
    it(`is run by other tests: ${name}`, () => {
      const [, tests] = /^\S+, run by (test\/\S+)$/.exec(typesOnly as string) ?? []
      assert.ok(tests, `${name}: \`types only\` names the tests that run it`)
      const readers = globSync(`${tests}/*.test.ts`, { cwd: root }).map((file) =>
        readFileSync(join(root, file), 'utf8'),
      )
      assert.ok(
        readers.some((code) => code.includes(`'${basename(page)}'`)),
        `no test in ${tests} reads the page`,
      )
    })

  describe('when it runs', { concurrency: 2 }, () => {
    const runnable = blocks.filter(({ typesOnly }) => typesOnly === undefined)
    const needsNothing = (block: Block): boolean => Object.keys(block.check).length === 0 && !isTest(block)
    const together = runnable.filter(needsNothing)
    let app: App

    before(() => {
      for (const block of together) writeFileSync(join(folder, executed(block)), checked(block) + finish)
      writeFileSync(join(folder, 'runner.mjs'), runner)
      app = forkApp('runner.mjs', { cwd: folder, execArgv, args: together.map(executed), env: environment })
    })

    for (const block of together)
      it(block.name, { timeout: 120_000 }, async () => {
        const file = JSON.stringify(executed(block))
        const [line] = await app.waitFor(new RegExp(`^{"file":${file},.*$`, 'm'), 120_000)
        assert.equal(JSON.parse(line).result, 'ran')
      })

    it('ends without an error', async () => assert.equal((await app.exit).code, 0, app.stderr))

    for (const block of runnable.filter((block) => !needsNothing(block)))
      it(block.name, { timeout: 120_000 }, async () => {
        const output = await run(block)
        const { warnings } = block.check
        if (warnings) {
          const logged = output.split('\n').filter((line) => line.includes('"level":40'))
          assert.equal(logged.length, warnings.length, output)
          for (const [i, pattern] of warnings.entries()) assert.match(logged[i] as string, pattern)
        }
        if (isTest(block)) {
          const passed = Number(/^# pass (\d+)$/m.exec(output)?.[1])
          assert.equal(passed, block.code.split('\ntest(').length - 1, output)
        }
      })
  })
})
