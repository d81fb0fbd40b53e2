import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'

// Every code block of README and docs in TypeScript or JavaScript is type-checked and executed. An HTML comment before
// a block says what it needs:
//
//   <!-- setup: app -->        `app` is an app with the umbrella plugin, and some names that readers replace are declared
//   <!-- setup: new app -->    the same without the plugin, which the block registers
//   <!-- setup: continue -->   the blocks before it on the page come first
//   <!-- types only: reason --> it is not executed
//
// Blocks without a comment are complete.

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
const data = { id } as never
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
  readonly code: string
  readonly isRun: boolean
}

function blocksOf(page: string): Block[] {
  const text = readFileSync(join(root, page), 'utf8')
  const found = [...text.matchAll(/((?:^<!-- [^\n]* -->\n+)*)^```(ts|js)\n([\s\S]*?)^```$/gm)]
  let earlier = ''
  return found.map(([, comments = '', language = '', written = ''], i) => {
    const setup = /<!-- setup: (.*?) -->/.exec(comments)?.[1]
    const start = setup === undefined ? '' : setup === 'continue' ? earlier : setups[setup]
    assert.ok(start !== undefined, `${page}: unknown setup ${setup}`)
    const code = `${start}${written}`
    earlier = code
    const name = `${page}, block ${i + 1}`
    const file = `${page.replace(/\W/g, '-')}-${i + 1}.${language === 'ts' ? 'ts' : 'mjs'}`
    return { name, file, code, isRun: !comments.includes('<!-- types only: ') }
  })
}

const pages = ['README.md', ...globSync('docs/**/*.md', { cwd: root, exclude: ['docs/node_modules/**'] }).sort()]
const blocks = pages.flatMap(blocksOf)

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const sources = Object.entries<{ default?: string }>(manifest.exports).flatMap(([name, { default: file }]) =>
  file ? [[`fastify-fleet${name.slice(1)}`, join(root, file.replace('/dist/', '/src/').replace(/\.js$/, '.ts'))]] : [],
)

/** Resolves the package to its sources, and other packages to those of this project. Ends the process once it has run. */
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
/** Starts the app of a block, which makes Fastify check its routes, and ends the process. */
const finish = `
if (typeof app !== 'undefined') { await app.ready(); await app.close() }
setImmediate(() => process.exit())
`

describe('the code of the documentation', () => {
  before(() => {
    for (const { file, code } of blocks) writeFileSync(join(folder, file), `${code}\nexport {}\n`)
    mkdirSync(join(folder, 'generated/prisma'), { recursive: true })
    const client = JSON.stringify(join(root, 'src/app/generated/prisma/client.ts'))
    writeFileSync(join(folder, 'generated/prisma/client.ts'), `export * from ${client}\n`)
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
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', '.', '--singleThreaded'], {
      cwd: folder,
      encoding: 'utf8',
    })
    assert.equal(status, 0, stdout)
  })

  for (const { name, file, code, isRun } of blocks) {
    it(`runs: ${name}`, { skip: !isRun && 'needs another server' }, () => {
      const run = file.replace(/\.(\w+)$/, '.run.$1')
      writeFileSync(join(folder, run), code + finish)
      const env = { ...process.env, PORT: '0', LOG_LEVEL: 'silent' }
      const args = ['--import', pathToFileURL(join(folder, 'hooks.mjs')).href, run]
      const { status, stderr } = spawnSync(process.execPath, args, {
        cwd: folder,
        encoding: 'utf8',
        env,
        timeout: 60_000,
      })
      assert.equal(status, 0, stderr)
    })
  }
})
