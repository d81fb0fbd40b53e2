import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { applied } from '../../../src/cli/init/change.ts'
import { instanceIn, isUnclear } from '../../../src/cli/init/instance.ts'
import { listeningOf } from '../../../src/cli/init/listen.ts'
import { planInit } from '../../../src/cli/init/plan.ts'
import { registerEdits } from '../../../src/cli/init/register.ts'
import { parseSource } from '../../../src/cli/init/source.ts'
import '../../helpers/cleanup.ts'
import { type Files, manifest, project } from './projects.ts'

function edited(file: string, text: string, hasLogger = false): string {
  const source = parseSource(file, text, undefined)
  const instance = instanceIn(source)
  assert.ok(instance && !isUnclear(instance))
  const edits = registerEdits(instance, () => '{}', hasLogger)
  return applied({ before: text, edits: [...edits, ...(listeningOf('/none', [source], instance)?.edits ?? [])] })
}

const load = "const { fleet, serverOptions } = require('fastify-fleet')"
const host = "host: process.env.HOST ?? 'localhost'"

describe('the lines of fleet', () => {
  for (const [name, file, before, after] of [
    [
      'stand between statements of one line',
      'a.cjs',
      "var f = require('fastify'), app = f({logger:true}); app.get('/', g); app.listen({port:3000,})",
      `${load};\nvar f = require('fastify'), app = f({...serverOptions(), logger:true});\napp.register(fleet, {});\napp.get('/', g); app.listen({port:Number(process.env.PORT ?? 3000), ${host},})`,
    ],
    [
      'end a last line without a break',
      'a.cjs',
      "const { fastify: make } = require('fastify')\nconst app = make({})",
      `const { fastify: make } = require('fastify')\n${load}\nconst app = make(serverOptions())\napp.register(fleet, {})\n`,
    ],
    [
      'are no call of the line before',
      'a.cjs',
      "const f = require('fastify');\n(function () {})()\nconst app = f(opts)\n",
      `const f = require('fastify');\n${load};\n(function () {})()\nconst app = f({ ...serverOptions(), ...opts })\napp.register(fleet, {})\n`,
    ],
    [
      'come before a function that loads Fastify itself, below directives',
      'a.cjs',
      "#!/usr/bin/env node\n'use strict'\n;(function () {\n\tconst app = require('fastify')()\n})()\n",
      `#!/usr/bin/env node\n'use strict'\n;${load};\n(function () {\n\tconst app = require('fastify')(serverOptions())\n\tapp.register(fleet, {})\n})()\n`,
    ],
    [
      'keep a comment of several lines behind the instance',
      'a.mjs',
      "import F from 'fastify'; const app = F(a ? b : c) /* x\ny */\n",
      "import F from 'fastify';\nimport { fleet, serverOptions } from 'fastify-fleet';\nconst app = F({ ...serverOptions(), ...(a ? b : c) })\nawait app.register(fleet, {})\n/* x\ny */\n",
    ],
    [
      'come behind types at the end of a statement, in an async function',
      'a.ts',
      "import F from 'fastify'\nasync function main() {\n  const app = F(o as O) as App\n  await app.listen({ port: 3000 as number })\n}\n",
      "import F from 'fastify'\nimport { fleet, serverOptions } from 'fastify-fleet'\nasync function main() {\n  const app = F({ ...serverOptions(), ...o } as O) as App\n  await app.register(fleet, {})\n  await app.listen({ port: Number(process.env.PORT ?? 3000) as number })\n}\n",
    ],
  ] as const) {
    it(name, () => {
      assert.equal(edited(file, before), after)
      parseSource(file, after, undefined)
    })
  }

  it('have other names where the app uses theirs, in the quotes of the file', () => {
    assert.equal(
      edited('a.mjs', 'import F from "fastify"\nconst fleet = 1, serverOptions = 2\nconst app = F()\n'),
      'import F from "fastify"\nimport { fleet as fastifyFleet, serverOptions as fleetServerOptions } from "fastify-fleet"\nconst fleet = 1, serverOptions = 2\nconst app = F(fleetServerOptions())\nawait app.register(fastifyFleet, {})\n',
    )
    assert.equal(
      edited('a.cjs', 'const F = require(\'fastify\')\nconst serverOptions = 1, x = "fastif"\nconst app = F()\n'),
      "const F = require('fastify')\nconst { fleet, serverOptions: fleetServerOptions } = require('fastify-fleet')\nconst serverOptions = 1, x = \"fastif\"\nconst app = F(fleetServerOptions())\napp.register(fleet, {})\n",
    )
  })

  it('are without the options of the server where these cannot be merged', () => {
    const line = (options: string): string => `import F from 'fastify'\nconst app = F(${options})\n`
    const without = (options: string): string =>
      `import F from 'fastify'\nimport { fleet } from 'fastify-fleet'\nconst app = F(${options})\napp.register(fleet, {})\n`
    for (const options of ['...all', 'a, b']) assert.equal(edited('a.js', line(options)), without(options))
    assert.equal(edited('a.ts', line('{ http2: true }')), without('{ http2: true }'))
    assert.match(edited('a.js', line('{ http2: true }')), /F\(\{ \.\.\.serverOptions\(\), http2: true \}\)/)
    assert.match(edited('a.ts', line('{ [http2]: true }')), /F\(\{ \.\.\.serverOptions\(\), \[http2\]: true \}\)/)
  })

  it('leave a finished logger to the app', () => {
    const line = (options: string): string => `import F from 'fastify'\nconst app = F(${options})\n`
    assert.match(
      edited('a.js', line('options'), true),
      /F\(\{ \.\.\.serverOptions\(\), logger: undefined, \.\.\.options \}\)/,
    )
    assert.match(
      edited('a.js', line('{ ...options }'), true),
      /F\(\{ \.\.\.serverOptions\(\), logger: undefined, \.\.\.options \}\)/,
    )
    assert.match(
      edited('a.js', line('{ loggerInstance }')),
      /F\(\{ \.\.\.serverOptions\(\), logger: undefined, loggerInstance \}\)/,
    )
  })

  it('are found in code that nests deeply', () => {
    const text = `import F from 'fastify'\nconst app = F()\nexport const long = ${"'a' + ".repeat(3_000)}'b'\n`
    assert.match(edited('a.js', text), /^app\.register\(fleet, \{\}\)$/m)
  })
})

describe('the call of listen', () => {
  const port = '{ port: Number(process.env.PORT ?? 3000), '
  /** What `listen` of server.js is called with afterwards. */
  const listens = (server: string, app: string, type = 'module'): string | undefined => {
    const manifestOf = { dependencies: { fastify: '5' }, scripts: { start: 'node server.js' }, type }
    const folder = project({ 'package.json': JSON.stringify(manifestOf), 'server.js': server, 'app.js': app })
    const change = planInit(folder, {}).changes.find(({ file }) => file === 'server.js')
    return change && /\.listen\((.*)\)/.exec(applied(change))?.[1]
  }
  const edited = `${port}${host} }`
  const esm = (text: string): string => `import Fastify from 'fastify'\n${text}`
  const factory = 'const app = Fastify()\n  return app\n}\n'

  it('is found on what another file exports or makes', () => {
    for (const [server, app] of [
      ["import { app } from './app.js'\napp", esm('export const app = Fastify()\n')],
      ["import app from './app.js'\napp", esm('const app = Fastify()\nexport default app\n')],
      [
        "import { build } from './app.js'\nconst it = await build()\nit",
        esm(`export async function build() {\n  ${factory}`),
      ],
      ["import { build } from './app.js'\nconst it = build()\nit", esm(`export const build = () => {\n  ${factory}`)],
    ] as const)
      assert.equal(listens(`${server}.listen({ port: 3000 })\n`, app), edited, server)
    const made = `const Fastify = require('fastify')\nmodule.exports = { build }\nfunction build() {\n  ${factory}`
    const single = `const Fastify = require('fastify')\nmodule.exports = function () {\n  ${factory}`
    for (const [server, app] of [
      ["const { build } = require('./app')\nconst it = build()\nit", made],
      ["const { build: make } = require('./app.js')\nconst it = make()\nit", made],
      ["const build = require('./app')\nconst it = build()\nit", single],
      ["const it = require('./app')()\nit", single],
    ] as const)
      assert.equal(listens(`${server}.listen({ port: 3000 })\n`, app, 'commonjs'), edited, server)
  })

  it('is not that of another server', () => {
    const app = esm('export const app = Fastify()\n')
    for (const server of [
      "import './app.js'\nimport other from './other.js'\nother.listen({ port: 3000 })\n",
      "import './app.js'\nimport http from 'node:http'\nconst it = http.createServer()\nit.listen({ port: 3000 })\n",
      "import { app } from './app.js'\napp.ready({ port: 3000 })\nconst x = build()\nx.listen({ port: 3000 })\n",
      // The names of another file are its own.
      "import './app.js'\nimport { app } from './other.js'\napp.listen({ port: 3000 })\n",
      "import './app.js'\nfunction build() {}\nconst x = build()\nx.listen({ port: 3000 })\n",
      "import './app.js'\nconst build = () => {}\nconst x = build()\nx.listen({ port: 3000 })\n",
    ])
      assert.equal(listens(server, app), undefined, server)
  })

  it('takes the port and the host of the environment, each if the app does not read it itself', () => {
    const own = (options: string, before = ''): string => {
      const server = esm(`${before}const app = Fastify()\nawait app.listen(${options})\n`)
      return listens(server, '') ?? ''
    }
    for (const [options, expected, before] of [
      ["{ port: 3000, host: 'localhost' }", `${port}${host} }`],
      ["{ port: 3000, host: '::1' }", `${port}host: process.env.HOST ?? '::1' }`],
      ["{ port: 3000, host: '0.0.0.0' }", `${port}host: '0.0.0.0' }`],
      ['{ port: 3000, host }', `${port}host }`],
      ['{ port: 3000, ...more }', `${port}...more }`],
      ['{ port: process.env.PORT }', `{ port: process.env.PORT, ${host} }`],
      ['{ port: Number(process.env.PORT ?? 80) }', `{ port: Number(process.env.PORT ?? 80), ${host} }`],
      ['{ port: env.PORT }', `{ port: env.PORT, ${host} }`, 'const { env } = process\n'],
      ['{ port }', `{ port, ${host} }`, 'const port = process.env.PORT\n'],
      ['{ port: config.PORT }', '{ port: config.PORT }'],
      ['{ port }', '{ port }', 'const port = 1\n{ const port = 2 }\n'],
      ["{ port: '3000' }", "{ port: '3000' }"],
      // The edited line would be invalid.
      ['{ port: (3000) }', '{ port: (3000) }'],
      ['3000', '3000'],
      ['{ path }', '{ path }'],
    ] as const)
      assert.equal(own(options, before), expected, options)
  })
})

describe('the program of an app that `fastify start` runs', () => {
  it('registers fleet before the plugin, and listens on this machine only unless HOST is set', () => {
    const program = (name: string, files: Files): string | undefined => {
      const change = planInit(project(files), {}).changes.find(({ file }) => file === name)
      return change && applied(change)
    }
    const scripts = { 'build:ts': 'tsc', start: 'npm run build:ts && fastify start -l info dist/app.js' }
    for (const plugin of ['export default async () => {}', 'module.exports = async () => {}'])
      assert.equal(
        program('src/server.ts', { 'package.json': manifest({ scripts }), 'src/app.ts': plugin }),
        `import { fastify } from 'fastify'
import { fleet, serverOptions } from 'fastify-fleet'
import plugin from './app.js'

const app = fastify(serverOptions())
void app.register(fleet, { name: 'shop' })
void app.register(plugin)
void app.listen({ port: Number(process.env.PORT ?? 3000), host: process.env.HOST ?? 'localhost' })
`,
        plugin,
      )
    const start = 'fastify start server.js'
    const named = program('main.js', { 'package.json': manifest({ scripts: { start } }), 'server.js': '' })
    assert.match(named ?? '', /^const plugin = require\('\.\/server\.js'\)$/m)
  })
})

it('an app that imports Fastify may have it from a package.json above', () => {
  const files = { 'package.json': '{ "name": "shop" }', 'app.mjs': "import 'fastify'\n", 'index.js': '' }
  assert.equal(planInit(project(files), {}).entry, 'app.mjs')
})
