import { type Change, newFile } from './change.ts'
import { type Own, own } from './manifest.ts'

/** A program that registers fleet, then the plugin that `fastify start` would load. */
export function serverText(given: {
  plugin: string
  options: string
  isModule: boolean
  topLevelAwait: boolean
}): string {
  const { plugin, options, isModule, topLevelAwait } = given
  const wait = topLevelAwait ? 'await ' : isModule ? 'void ' : ''
  const loads = isModule
    ? [
        "import { fastify } from 'fastify'",
        "import { fleet, serverOptions } from 'fastify-fleet'",
        `import plugin from '${plugin}'`,
      ]
    : [
        "const { fastify } = require('fastify')",
        "const { fleet, serverOptions } = require('fastify-fleet')",
        `const plugin = require('${plugin}')`,
      ]
  return `${loads.join('\n')}

const app = fastify(serverOptions())
${wait}app.register(fleet, ${options})
${wait}app.register(plugin)
${wait}app.listen({ port: Number(process.env.PORT ?? 3000), host: process.env.HOST ?? 'localhost' })
`
}

/** A new app: the one of the README, with a test. */
export function newApp(name: string, typescript: boolean, environment: Change): Change[] {
  const main = typescript ? 'app.ts' : 'app.js'
  const files: Record<string, string> = {
    [main]: appText(name, typescript),
    [typescript ? 'app.test.ts' : 'app.test.js']: testText(main),
    'package.json': manifestText(name, main, typescript, own()),
    '.gitignore': 'node_modules/\n.env\n',
    ...(typescript && { 'tsconfig.json': tsconfigText }),
  }
  return [...Object.entries(files).map(([file, text]) => newFile(file, text)), environment]
}

const appText = (name: string, typescript: boolean): string => `import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'
${
  typescript
    ? `
declare module 'fastify' {
  interface Session { visits?: number } // the fields of your sessions
}
`
    : ''
}
export const app = Fastify(serverOptions()) // timeouts that fit a load balancer
await app.register(fleet, { name: '${name}' }) // options win over environment variables
app.get('/', async (request) => {
  request.session.visits = (request.session.visits ?? 0) + 1
  return { visits: request.session.visits, servedBy: app.fleet.instance.id }
})
await app.listen({ port: Number(process.env.PORT ?? 3000), host: process.env.HOST ?? 'localhost' })
`

const testText = (main: string): string => `import assert from 'node:assert/strict'
import { after, test } from 'node:test'

process.env.PORT = '0' // a free one
process.env.LOG_LEVEL = 'warn'
const { app } = await import('./${main}')
after(() => app.close())

test('is ready', async () => {
  assert.equal((await app.inject('/ready')).statusCode, 200)
})

test('counts the visits of a session', async () => {
  const first = await app.inject('/')
  assert.equal(first.json().visits, 1)
  const [{ name, value }] = first.cookies
  assert.equal((await app.inject({ url: '/', cookies: { [name]: value } })).json().visits, 2)
})
`

function manifestText(
  name: string,
  main: string,
  typescript: boolean,
  { version, devDependencies, peerDependencies }: Own,
): string {
  const pick = (...names: string[]): Record<string, string | undefined> =>
    Object.fromEntries(names.map((name) => [name, devDependencies[name]]))
  const manifest = {
    name,
    version: '1.0.0',
    private: true,
    type: 'module',
    engines: { node: '>=22.19.0' },
    scripts: {
      start: `node ${main}`,
      fleet: `fleet up ${main}`,
      test: 'node --test',
      ...(typescript && { types: 'tsc' }),
    },
    dependencies: { fastify: peerDependencies.fastify, 'fastify-fleet': `^${version}` },
    ...(typescript && { devDependencies: pick('@types/node', 'typescript') }),
  }
  return `${JSON.stringify(manifest, null, 2)}\n`
}

/** Node runs the files without a build, so TypeScript checks types only. */
const tsconfigText = `${JSON.stringify(
  {
    compilerOptions: {
      target: 'es2024',
      module: 'nodenext',
      strict: true,
      noEmit: true,
      allowImportingTsExtensions: true,
      erasableSyntaxOnly: true,
      verbatimModuleSyntax: true,
      types: ['node'],
    },
  },
  null,
  2,
)}\n`
