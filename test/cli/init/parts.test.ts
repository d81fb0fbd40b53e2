import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { applied } from '../../../src/cli/init/change.ts'
import { besideEntry, findEntry } from '../../../src/cli/init/entry.ts'
import { environmentChange } from '../../../src/cli/init/environment.ts'
import { existingIn } from '../../../src/cli/init/existing.ts'
import { assertFastify5 } from '../../../src/cli/init/fastify-version.ts'
import { addEntries, readManifest } from '../../../src/cli/init/manifest.ts'
import { parseSource } from '../../../src/cli/init/source.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import '../../helpers/cleanup.ts'
import { type Files, manifest, project, read, report } from './projects.ts'

describe('what an app has already', () => {
  const existing = (...texts: string[]) =>
    existingIn(texts.map((text, i) => parseSource(`${'ab'[i]}.js`, text, 'commonjs')))
  const none = { joined: [], notes: [], disabled: [], hasLoggerInstance: false }

  it('is nothing in an app without plugins, probes, signals and names of fleet', () => {
    const text = `require('pg'); app.get('/x', f); app.get(path, f); app.post('/live', f); process.on('SIGUSR2', f)
other.on('SIGTERM', f); process.emit('SIGTERM'); app.decorate('shop', 1); app.decorate(cache, 1); app.get(); f('/live')
app.decorate('constructor', 1); const o = { logger: 1, 'loggerInstance': 2 }`
    assert.deepEqual(existing(text), none)
  })

  it('are plugins that are used instead of those of fleet, each once', () => {
    const { joined, notes } = existing(
      "app.register(require('@fastify/cookie'))",
      "import session from '@fastify/session'\nimport '@fastify/cookie'\nimport cluster from 'cluster'",
    )
    assert.deepEqual(joined, [
      '@fastify/cookie is used instead of fleet’s own',
      '@fastify/session is used instead of fleet’s sessions',
    ])
    assert.deepEqual(
      notes.map((note) => note.split(':').slice(0, 2).join(':')),
      [
        'sessions: each process has its own until @fastify/session has a shared store, such as `new FleetStore({ client',
        'node:cluster',
      ],
    )
    assert.match(existing("require('close-with-grace')").notes.join(), /^close-with-grace: may stay/)
  })

  it('are routes of probes by any method that responds to GET, with the place', () => {
    const { joined, notes } = existing(
      "\napp.get('/live', f)\napp.head('/health', f); app.all('/metrics', f)",
      "app.route({ method: 'GET', url: '/ready', handler })",
    )
    const route = (path: string, place: string): string => `route ${path} (${place}) is used instead of fleet’s own`
    assert.deepEqual(joined, [
      route('/live', 'a.js:2'),
      route('/health', 'a.js:3'),
      route('/metrics', 'a.js:3'),
      route('/ready', 'b.js:1'),
    ])
    assert.deepEqual(notes, ['b.js:1: respond 503 unless `app.health.readiness.ready`, or a drain goes unnoticed'])
  })

  it('are listeners of signals, names of fleet, and a finished logger', () => {
    const { joined, notes, disabled, hasLoggerInstance } = existing(
      "process.on('SIGTERM', f); process.once('SIGINT', f)\napp.decorate('sessions', 1)\napp.decorate('health', 1)",
      'const options = { loggerInstance: pino }',
    )
    const listener = (signal: string): string =>
      `a.js:1: the listener of ${signal} may stay, but fleet drains and closes the app itself; see docs/lifecycle.md`
    assert.deepEqual(
      { joined, notes, disabled, hasLoggerInstance },
      {
        joined: [],
        notes: [
          ...[listener('SIGTERM'), listener('SIGINT')],
          'a.js:2: `app.sessions` is the app’s own; fleet is registered with `session: false`',
          'a.js:3: `app.health` is the app’s own; rename it, because fleet needs the name',
        ],
        disabled: ['session'],
        hasLoggerInstance: true,
      },
    )
  })
})

describe('the program of an app', () => {
  const app = "import Fastify from 'fastify'\n"
  const entryOf = (more: object, files: Files, given?: string): string => {
    const folder = project({ 'package.json': manifest(more), ...files })
    const found = findEntry(folder, readManifest(folder), given)
    return found ? [found.file, found.run, found.isPlugin ? 'plugin' : ''].join(' ').trim() : 'none'
  }
  const scripts = (start: string, more: object = {}): object => ({ scripts: { start, ...more } })

  it('is what the scripts start, the last command first, without what Node loads before', () => {
    const files = { 'a.js': app, 'b.mjs': app, 'pre.js': app }
    assert.equal(entryOf(scripts('node ./a.js'), files), 'a.js a.js')
    assert.equal(entryOf(scripts('node pre.js && NODE_ENV=production node b.mjs'), files), 'b.mjs b.mjs')
    assert.equal(entryOf(scripts('node pre.js || node a.js; node b.mjs'), files), 'b.mjs b.mjs')
    for (const option of ['-r', '--require', '--import', '--loader'])
      assert.equal(entryOf(scripts(`node ${option} ./pre.js a.js b.mjs`), files), 'a.js a.js', option)
    assert.equal(entryOf(scripts('node --import=./pre.js a.js'), files), 'a.js a.js')
    assert.equal(entryOf(scripts('node none.js', { dev: 'node a.js', serve: 'node b.mjs' }), files), 'b.mjs b.mjs')
    assert.equal(entryOf({ main: 'a.js' }, { ...files, 'app.js': app }), 'a.js a.js')
    assert.equal(entryOf(scripts('node b.mjs', {}), { ...files, 'app.js': app }), 'b.mjs b.mjs')
    assert.equal(entryOf({}, { 'app.js': app }), 'app.js app.js')
    assert.equal(entryOf({}, { 'z.js': app }), 'none')
  })

  it('is the first that uses Fastify, directly or by what it imports, else the first', () => {
    const files = { 'tool.js': '', 'main.js': "import './lib.js'\n", 'lib.js': app }
    assert.equal(entryOf(scripts('node tool.js', { dev: 'node main.js' }), files), 'main.js main.js')
    assert.equal(entryOf(scripts('node tool.js'), { 'tool.js': '' }), 'tool.js tool.js')
    assert.equal(entryOf(scripts('node tool.js'), files, 'lib.js'), 'lib.js lib.js')
  })

  it('is the source of what a build makes', () => {
    const start = (file: string) => scripts(`tsc && node ${file}`)
    for (const folder of ['dist', 'build', 'out', 'lib'])
      assert.equal(entryOf(start(`${folder}/main.js`), { 'src/main.ts': app }), `src/main.ts ${folder}/main.js`)
    assert.equal(entryOf(start('dist/main.js'), { 'src/main.ts': app, 'main.ts': app }), 'src/main.ts dist/main.js')
    assert.equal(entryOf(start('dist/main.mjs'), { 'main.mts': app }), 'main.mts dist/main.mjs')
    assert.equal(entryOf(start('dist/main.js'), { 'dist/main.js': app }), 'dist/main.js dist/main.js')
    assert.equal(entryOf(start('other/x.js'), { 'src/x.ts': app }), 'none')
  })

  it('is a plugin if fastify-cli starts it', () => {
    const plugin = { 'a.js': '', 'b.js': '' }
    assert.equal(entryOf(scripts('fastify start -l info a.js'), plugin), 'a.js a.js plugin')
    assert.equal(entryOf(scripts('fastify start -w -P a.js'), plugin), 'a.js a.js plugin', '-P has no value')
    assert.equal(entryOf(scripts('npx fastify start -r b.js a.js'), plugin), 'a.js a.js plugin')
    assert.equal(entryOf(scripts('node_modules/.bin/fastify start a.js'), plugin), 'a.js a.js plugin')
    assert.equal(entryOf(scripts('fastify start a.js'), plugin, 'a.js'), 'a.js a.js plugin')
    assert.equal(entryOf(scripts('fastify start a.js'), plugin, 'b.js'), 'b.js b.js')
    assert.equal(entryOf(scripts('fastify start a.js', { dev: 'node b.js' }), plugin, 'a.js'), 'a.js a.js plugin')
    assert.equal(entryOf(scripts('my-fastify start a.js'), plugin), 'a.js a.js')
  })

  it('has files beside it with its extension', () => {
    const beside = (file: string, run: string) =>
      Object.values(besideEntry({ file, run, isPlugin: true, graph: {} as never }, 'server'))
    assert.deepEqual(beside('src/app.ts', 'dist/app.js'), ['src/server.ts', 'dist/server.js'])
    assert.deepEqual(beside('app.mjs', 'app.mjs'), ['server.mjs', 'server.mjs'])
  })
})

describe('entries of a package.json', () => {
  const added = (before: string, entries: Parameters<typeof addEntries>[1]): string =>
    applied({ before, edits: addEntries(before, entries) })
  const one = { dependencies: { m: '1' } }

  it('stand in the order of the alphabet, if the others do, else at the end', () => {
    const list = (...names: string[]): string =>
      `{\n  "dependencies": {\n${names.map((name) => `    "${name}": "1"`).join(',\n')}\n  }\n}\n`
    assert.equal(added(list('a', 'z'), one), list('a', 'm', 'z'))
    assert.equal(added(list('a', 'b'), one), list('a', 'b', 'm'))
    assert.equal(added(list('n', 'z'), one), list('m', 'n', 'z'))
    assert.equal(added(list('z', 'a', 'y'), one), list('z', 'a', 'y', 'm'))
    const scripts = '{\n  "scripts": {\n    "a": "1",\n    "z": "1"\n  }\n}\n'
    assert.equal(added(scripts, { scripts: { m: '1' } }), scripts.replace('"z": "1"', '"z": "1",\n    "m": "1"'))
  })

  it('keep what exists, and the indentation, line breaks and form of the file', () => {
    assert.equal(added('{"dependencies":{"m":"0"}}', one), '{"dependencies":{"m":"0"}}')
    assert.equal(added('{"dependencies":{"a":"0"}}', one), '{"dependencies":{"a":"0", "m": "1"}}')
    assert.equal(added('{\n\t"dependencies": {}\n}', one), '{\n\t"dependencies": {\n\t\t"m": "1"\n\t}\n}')
    assert.equal(
      added('{\r\n    "name": "x"\r\n}', one),
      '{\r\n    "name": "x",\r\n    "dependencies": {\r\n        "m": "1"\r\n    }\r\n}',
    )
    assert.equal(
      added('{}', { scripts: { a: '1', b: '"' } }),
      '{\n  "scripts": {\n    "a": "1",\n    "b": "\\""\n  }\n}',
    )
    assert.equal(added('{}', { scripts: {} }), '{}')
  })

  it('are read as text, dependencies of each kind together', () => {
    const text = manifest({
      main: 3,
      scripts: { a: 'x', b: 1 },
      devDependencies: { fastify: '4', c: '1' },
      peerDependencies: { d: '1' },
    })
    const found = readManifest(project({ 'package.json': text }))
    assert.deepEqual([found.main, found.scripts, found.workspaces], [undefined, { a: 'x' }, false])
    assert.deepEqual(found.dependencies, { d: '1', fastify: '^5.0.0', c: '1' })
  })
})

describe('the scripts that fleet init adds', () => {
  const app = (extension = ''): string =>
    `import Fastify from 'fastify'\nimport './other${extension}'\nconst app = Fastify()\n`
  const added = async (more: object, files: Files): Promise<{ lines: string[]; notes: string[] }> => {
    const folder = project({ 'package.json': manifest({ type: 'module', ...more }), ...files })
    const { diff, notes } = await report(folder, '--dry-run')
    const lines = [...diff.matchAll(/^\+ +"(fleet|start)": "(.*)",?$/gm)].map(([, name, value]) => `${name}: ${value}`)
    return { lines, notes: notes.filter((note) => /script|Node cannot run/.test(note)) }
  }

  it('run the program that Node can run', async () => {
    const both = { lines: ['fleet: fleet up app.js', 'start: node app.js'], notes: [] }
    assert.deepEqual(await added({}, { 'app.js': app('.js'), 'other.js': '' }), both)
    assert.deepEqual(await added({}, { 'app.ts': app('.ts'), 'other.ts': '' }), {
      lines: ['fleet: fleet up app.ts', 'start: node app.ts'],
      notes: [],
    })
    const own = { scripts: { start: 'node app.js', fleet: 'fleet up app.js' } }
    assert.deepEqual(await added(own, { 'app.js': app('.js'), 'other.js': '' }), { lines: [], notes: [] })
  })

  it('run TypeScript that needs more by tsx, if the app has it, else are left out', async () => {
    const files = { 'app.ts': app('.js'), 'other.ts': '' }
    assert.deepEqual(await added({ devDependencies: { tsx: '4' } }, files), {
      lines: ['fleet: NODE_OPTIONS=--import=tsx fleet up app.ts'],
      notes: [],
    })
    const without = await added({}, files)
    assert.deepEqual(without.lines, [])
    assert.match(
      without.notes.join(),
      /^Node cannot run app\.ts: its imports or its syntax need a build; add `"fleet": "npm run build && fleet up BUILT_FILE"`/,
    )
    assert.deepEqual((await added({ scripts: { fleet: 'x' } }, files)).notes, [])
  })

  it('build what is built before', async () => {
    const files = { 'src/main.ts': app(''), 'src/other.ts': '' }
    const start = 'node dist/main.js'
    const fleet = async (more: object): Promise<string[]> =>
      (await added({ scripts: { start, ...more } }, files)).lines.filter((line) => line.startsWith('fleet'))
    for (const build of ['build', 'build:ts', 'compile'])
      assert.deepEqual(await fleet({ [build]: 'tsc' }), [`fleet: npm run ${build} && fleet up dist/main.js`])
    assert.deepEqual(await fleet({}), ['fleet: fleet up dist/main.js'])
  })
})

it('the range in package.json is the version of Fastify that is not installed', () => {
  const folder = temporaryFolder('not-installed')
  for (const range of ['^5.0.0', '5', ' >= 5.1', 'v5.x', '*', 'latest', undefined]) assertFastify5(folder, range)
  for (const range of ['^4.0.0', '~3', '>=6.0.0', '50.0.0'])
    assert.throws(() => assertFastify5(folder, range), { code: 'FLEET_ERR_USAGE', message: /the app uses Fastify \d/ })
})

it('.env.example gets the variables that it does not name, in its line breaks', () => {
  const folder = project({ '.env.example': 'export PORT = 1\r\n  #HOST=x\r\n# text\r\nSESSION_SECRET' })
  const change = environmentChange(folder)
  assert.ok(change)
  const text = applied(change)
  assert.ok(text.startsWith(`${read(folder, '.env.example')}\r\n\r\n# State that all`))
  assert.doesNotMatch(text, /(?<!\r)\n/)
  assert.deepEqual(
    text.split('\r\n').flatMap((line) => /^(?:# )?([A-Z_]+)=/.exec(line)?.[1] ?? []),
    ['REDIS_URL', 'SESSION_SECRET', 'FLEET_ADMIN_TOKEN', 'TRUST_PROXY', 'LOG_LEVEL'],
  )
  const complete = project({ '.env.example': text })
  assert.equal(environmentChange(complete), undefined)
})
